"""What a notebook shows of a result."""

from __future__ import annotations

from pathlib import Path

from IPython.core.formatters import DisplayFormatter

from gems.results import RunResult
from tests.support.report_pages import HOSTILE, Page, eventful
from tests.support.scripted_service import House


async def result_at(house: House, prompt: str = "a red cat") -> RunResult:
    async with house.gems() as gems:
        return await gems.run(prompt, seed=7, max_rounds=3)


async def test_shows_picture_checklist_and_rounds(tmp_path: Path) -> None:
    result = await result_at(eventful(tmp_path / "home"))
    page = Page(result._repr_mimebundle_()["text/html"])
    said = " ".join(page.text.split())
    assert "a red cat" in said
    assert "1 of 2 requirements met · 3 rounds · max_rounds · seed 7" in said
    for item in result.requirements:
        assert f"{'✓' if item.answer == 'yes' else '✗'} {item.question} {item.evidence}" in said
    assert "round 2: 50% ★" in said
    pictures = page.all("img")
    assert len(pictures) == 1 + 3
    assert all((picture["src"] or "").startswith("data:image/webp;base64,") for picture in pictures)


async def test_pictures_that_are_gone_are_left_out(tmp_path: Path) -> None:
    result = await result_at(eventful(tmp_path / "home"))
    for path in (tmp_path / "home" / "images").rglob("*.png"):
        path.unlink()
    page = Page(result._repr_mimebundle_()["text/html"])
    assert len(page.all("img")) == 1
    assert "round 3:" in page.text


async def test_a_result_that_was_read_again_shows_what_it_has(tmp_path: Path) -> None:
    result = await result_at(eventful(tmp_path / "home"))
    read = RunResult.model_validate_json(result.model_dump_json())
    page = Page(read._repr_mimebundle_()["text/html"])
    assert page.all("img") == []
    assert "✓" in page.text
    assert read._repr_png_() is None


async def test_what_others_wrote_is_escaped(tmp_path: Path) -> None:
    text = HOSTILE
    result = await result_at(eventful(tmp_path / "home"))
    item = result.requirements[0].model_copy(update={"question": text, "evidence": text})
    turn = result.rounds[0] | {"prompt": text}
    hostile = result.model_copy(update={"prompt": text, "requirements": [item], "rounds": [turn], "warnings": [text]})
    plain, changed = (Page(each._repr_mimebundle_()["text/html"]) for each in (result, hostile))
    known = {name for name, _ in plain.elements}
    assert {name for name, _ in changed.elements} <= known
    assert not [name for _, held in changed.elements for name in held if name.startswith("on")]
    assert changed.text.count(text) >= 4
    assert "<script" not in hostile._repr_mimebundle_()["text/html"].lower()


async def test_what_a_notebook_keeps_holds_no_path(tmp_path: Path) -> None:
    result = await result_at(eventful(tmp_path / "home"))
    shown, _ = DisplayFormatter().format(result)
    assert {"text/html", "text/plain"} <= set(shown)
    assert shown["text/plain"].splitlines()[0] == "a red cat"
    assert str(tmp_path) not in shown["text/html"] + shown["text/plain"]
