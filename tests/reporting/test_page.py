"""The HTML report of a run: contents, answers across rounds, chart."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from gems.errors import RunNotFoundError, ServerError
from gems.reporting import report_page
from gems.reporting.page import BOTTOM, LEFT, RIGHT, TOP, chart, matrix
from gems.results import CheckedRequirement
from tests.support.report_pages import HOSTILE, Page, eventful
from tests.support.scripted_models import checks
from tests.support.scripted_service import House


async def page_of(house: House, prompt: str = "a red cat", **options: int) -> str:
    async with house.gems() as gems:
        result = await gems.run(prompt, **({"seed": 7, "max_rounds": 3} | options))
        return await gems.report(result.run_id)


async def test_page_tells_everything(tmp_path: Path) -> None:
    house = eventful(tmp_path / "home")
    async with house.gems() as gems:
        result = await gems.run("a red cat", seed=7, max_rounds=3)
        page = Page(await gems.report(result.run_id))
    said = " ".join(page.text.split())
    for text in ("a red cat", result.run_id, "50 %", "1 of 2 requirements are met in round 2", "max rounds"):
        assert text in said
    for experience in result.experiences:
        assert experience["text"] in said
    for role, used in result.usage.items():
        assert f"{role} {used['calls']:,} {used['input_tokens']:,} {used['output_tokens']:,} 0 " in said
    assert all(f"{role}{model}" in page.text.replace("\n", "") for role, model in result.models.items())
    for name in ("max rounds", "profile", "SHA-256", str(result.image_id), "Seed 7"):
        assert name in said
    assert len(page.all("article")) == 3


async def test_matrix_marks_what_was_lost(tmp_path: Path) -> None:
    page = Page(await page_of(eventful(tmp_path / "home")))
    cells = page.all("button", "cell")
    assert [(cell["data-head"] or "")[:13] for cell in cells] == [
        *("Round 1: not ", "Round 2: met", "Round 3: lost"),
        *("Round 1: not ", "Round 2: not ", "Round 3: unkn"),
    ]
    assert [cell["data-body"] for cell in cells[:3]] == ["seen 1"] * 3
    assert len(page.all("tr", "is-lost")) == 1
    assert "lost in round 3" in page.text


async def test_prompts_show_what_changed(tmp_path: Path) -> None:
    html = await page_of(eventful(tmp_path / "home"))
    assert html.count("<ins>") == 2
    assert "<ins>and seen</ins>" in html
    assert "the same as your prompt" in html
    assert "changes since round 2 are marked" in html


async def test_page_needs_nothing_else(tmp_path: Path) -> None:
    html = await page_of(eventful(tmp_path / "home"), candidates=2)
    page = Page(html)
    assert not re.search(r"https?://", html)
    for tag, name in (("img", "src"), ("link", "href"), ("script", "src")):
        assert all((attrs.get(name) or "data:").startswith("data:") for attrs in page.all(tag))
    # The best image on top, and six in the rounds; the last one is for enlarging.
    assert sum((a["src"] or "").startswith("data:image/webp;base64,") for a in page.all("img")) == 7
    assert all(attrs.get("alt") is not None for attrs in page.all("img"))


async def test_markup_in_texts_is_text(tmp_path: Path) -> None:
    plain = Page(await page_of(eventful(tmp_path / "plain")))
    hostile = Page(await page_of(eventful(tmp_path / "hostile", HOSTILE), HOSTILE))
    assert "<script>window.broken = 1</script>" in hostile.text
    assert "{{ 7 * 7 }}" in hostile.text
    for tag in ("script", "style", "img", "h1", "textarea"):
        assert len(hostile.all(tag)) == len(plain.all(tag))
    assert not [name for _, attrs in hostile.elements for name in attrs if name.startswith("on")]


async def test_missing_images_are_told_about(tmp_path: Path) -> None:
    house = eventful(tmp_path / "home")
    async with house.gems() as gems:
        result = await gems.run("a red cat", seed=7, max_rounds=2)
        gone, damaged = (turn["candidates"][0]["image"] for turn in result.rounds)
        gems.resources.images.path(gone).unlink()
        gems.resources.images.path(damaged).write_bytes(b"damaged")
        page = Page(await gems.report(result.run_id))
    assert len(page.all("p", "missing")) == 3
    assert "was changed since it was written" in page.text


async def test_runs_that_did_not_come_far(tmp_path: Path) -> None:
    house = House(tmp_path / "home")
    house.chat.script["decompose"] = ServerError("down")
    house.chat.script["checklist"] = ServerError("down <b>now</b>")
    async with house.gems() as gems:
        result = await gems.run("a red cat", seed=7)
        assert result.failure is not None
        page = Page(await gems.report(result.run_id))
        assert "down <b>now</b>" in page.text
        assert "ServerError" in page.text
        await gems.resources.ledger.begin("killed", "a dog", result.options, {})
        page = Page(await gems.report("killed"))
        assert "No image has been generated yet." in page.text
        assert "interrupted" in page.text
        with pytest.raises(RunNotFoundError):
            await gems.report("nothing")


async def test_fork_says_where_it_came_from(tmp_path: Path) -> None:
    house = eventful(tmp_path / "home")
    async with house.gems() as gems:
        source = await gems.run("a red cat", seed=7, max_rounds=3)
        fork = await gems.fork(source.run_id, 2, "a blue cat")
        page = Page(await gems.report(fork.run_id))
    assert source.run_id in page.text
    assert page.text.count("shared") >= 3
    assert len(page.all("span", "plain")) == 2


async def test_lessons_where_there_are_any(tmp_path: Path) -> None:
    house = eventful(tmp_path / "home")
    async with house.gems() as gems:
        result = await gems.run("a red cat", seed=7, max_rounds=1)
        row = await gems.resources.ledger.run(result.run_id)
        assert row is not None
        html = await report_page(result, row, gems.resources.images, ["say <how many> first"])
    assert "say &lt;how many&gt; first" in html
    assert "Lessons of earlier runs" in html
    assert "Lessons of earlier runs" not in await page_of(eventful(tmp_path / "other"))


async def test_incomplete_never_looks_complete(tmp_path: Path) -> None:
    house = House(tmp_path / "home")
    house.chat.script["checklist"] = lambda asked: checks("yes", "no")
    page = Page(await page_of(house, max_rounds=1))
    assert "100 %" not in page.text
    assert page.all("p", "good") == []


def requirement(name: str = "r1") -> CheckedRequirement:
    return CheckedRequirement(
        id=name,
        question="Is it red?",
        kind="attribute",
        parents=[],
        answer="no",
        evidence="",
        probability=None,
        source="judge",
    )


def turns(*answers: str, scores: tuple[float, ...] = (), best: int = 0) -> Any:
    """Rounds with one answer each; several scores make several candidates."""
    return [
        {
            "number": number,
            "best": best,
            "score": (scores or (0.5,))[best],
            "verdicts": [
                {
                    "score": score,
                    "answers": [
                        {
                            "requirement": "r1",
                            "answer": answer,
                            "evidence": f"seen {number}",
                            "probability": 0.25,
                            "source": "judge",
                        }
                    ],
                }
                for score in scores or (0.5,)
            ],
        }
        for number, answer in enumerate(answers, 1)
    ]


def test_lost_is_what_was_met_before() -> None:
    (row,) = matrix([requirement()], turns("no", "yes", "no", "no", "yes", "unknown", "no"))
    assert [cell.lost for cell in row.cells] == [False, False, True, True, False, False, True]
    assert [cell.gained for cell in row.cells] == [False, True, False, False, True, False, False]
    assert [cell.word for cell in row.cells][:4] == ["not met", "met", "lost", "lost"]
    assert (row.lost_in, row.is_lost) == ([3], True)


def test_regained_is_not_lost_any_more() -> None:
    (row,) = matrix([requirement()], turns("yes", "no", "yes"))
    assert (row.lost_in, row.is_lost) == ([2], False)


def test_cells_tell_what_was_seen() -> None:
    (row,) = matrix([requirement()], turns("unknown"))
    (cell,) = row.cells
    assert (cell.round, cell.evidence, cell.likely, cell.sign) == (1, "seen 1", "25% yes", "?")


def test_requirement_that_no_round_answered() -> None:
    (row,) = matrix([requirement("r9")], turns("yes", "yes"))
    assert [cell.state for cell in row.cells] == ["none", "none"]
    assert (row.lost_in, row.is_lost) == ([], False)
    assert matrix([requirement()], [])[0].is_lost is False


def test_chart_spans_its_frame() -> None:
    rounds = [*turns("no", scores=(0.0,)), *turns("no", scores=(1.0,))]
    rounds[1]["number"] = 2
    drawn = chart(rounds, best_round=2)
    assert [(dot.x, dot.y, dot.best) for dot in drawn.dots] == [(LEFT, BOTTOM, False), (RIGHT, TOP, True)]
    assert drawn.line == "0.00,100.00 100.00,0.00"
    assert drawn.said == "round 1: 0%, round 2: 100%"


def test_chart_of_one_round_and_of_many() -> None:
    assert chart(turns("no"), 1).dots[0].x == (LEFT + RIGHT) / 2
    labels = [dot.label for dot in chart(turns(*["no"] * 50), 1).dots if dot.label]
    assert labels.count("1") == 1
    assert 8 <= len(labels) <= 12


def test_other_candidates_are_dots_of_their_own() -> None:
    drawn = chart(turns("no", scores=(0.2, 0.8), best=1), best_round=1)
    assert [(dot.score, dot.chosen, dot.best) for dot in drawn.dots] == [(0.2, False, False), (0.8, True, True)]
