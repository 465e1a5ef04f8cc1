"""blocks-bench: its prompts, and the truth about pictures."""

from __future__ import annotations

import asyncio
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from gems.errors import InvalidImageError, RequestError
from gems.evals.benchmarks.blocks_bench import BlocksBench, Fact, read_scene, shows_fact
from gems.evals.records import BenchmarkPrompt, Score
from gems.evals.task import Task
from gems.models.blocks import Scene, Thing, render
from gems.service import Gems
from gems.settings import Settings
from scripts.make_blocks_bench import FILE, LEVELS, made
from tests.support.judges import Unasked

BENCH = BlocksBench()
PROMPTS = BENCH.prompts(Path(), "en")


def facts_of(prompt: BenchmarkPrompt) -> list[Fact]:
    return [Fact.model_validate(item) for item in prompt.facts["requirements"]]


def drawn(prompt: str, seed: int, side: int = 256, told: Any = None) -> bytes:
    """A PNG that says what made it, as a run's does."""
    chunks = PngInfo()
    chunks.add_itxt("gems", json.dumps({"final_prompt": prompt, "seed": seed, "model": "blocks"} | (told or {})))
    out = io.BytesIO()
    render(prompt, seed, side, side).image.save(out, "PNG", pnginfo=chunks)
    return out.getvalue()


def value(found: list[Score], metric: str) -> float | None:
    return next(score.value for score in found if score.metric == metric)


def test_it_is_a_benchmark_that_knows_the_truth() -> None:
    task: Task = BENCH
    assert task.truth == "truth"


def test_prompts_are_many_different_and_balanced() -> None:
    assert len(PROMPTS) == BENCH.size["en"] == 200
    assert len({prompt.text for prompt in PROMPTS}) == len({prompt.id for prompt in PROMPTS}) == 200
    levels = Counter(prompt.facts["atomicity"] for prompt in PROMPTS)
    assert levels == dict.fromkeys(LEVELS, 25)
    assert set(Counter(prompt.category for prompt in PROMPTS).values()) == {33, 34}
    assert all(len(facts_of(prompt)) == prompt.facts["atomicity"] for prompt in PROMPTS)


@pytest.mark.parametrize(
    ("kind", "values"), [("colour", 12), ("size", 2), ("texture", 3), ("relation", 6), ("count", 6), ("background", 12)]
)
def test_the_words_of_a_kind_are_used_alike(kind: str, values: int) -> None:
    used = Counter(fact.value for prompt in PROMPTS for fact in facts_of(prompt) if fact.kind == kind)
    assert len(used) == values
    assert max(used.values()) <= 1.5 * min(used.values())


def test_the_first_prompts_are_balanced_too() -> None:
    first = PROMPTS[:48]
    assert set(Counter(prompt.facts["atomicity"] for prompt in first).values()) == {6}
    assert set(Counter(prompt.category for prompt in first).values()) == {8}


def test_each_prompt_names_a_shape_once() -> None:
    for prompt in PROMPTS:
        shapes = [fact.shape for fact in facts_of(prompt) if fact.kind in ("object", "text")]
        assert len(shapes) == len(set(shapes))


def test_the_file_is_what_the_script_makes() -> None:
    lines = FILE.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines[:12]] == made(12)


# What somebody saw who looked at the four pictures, before they were scored.
BY_EYE = [
    ("007", 1, {"colour of hexagon"}, "the hexagons are gray"),
    ("020", 2, {"text", "background of"}, "the word is TAEM, the background is neutral"),
    ("015", 3, {"size of square", "relation of crescent"}, "a smaller square, above the crescent"),
    ("006", 0, {"text"}, "the word is COD"),
]


@pytest.mark.parametrize(("name", "seed", "faults", "seen"), BY_EYE, ids=[case[3] for case in BY_EYE])
async def test_truth_is_what_one_sees(name: str, seed: int, faults: set[str], seen: str) -> None:
    prompt = next(prompt for prompt in PROMPTS if prompt.id == name)
    scene = read_scene(drawn(prompt.text, seed, 512))
    missed = {
        fact.kind if fact.kind == "text" else f"{fact.kind} of {fact.shape}".strip()
        for fact in facts_of(prompt)
        if not shows_fact(scene, fact)
    }
    assert missed == faults
    found = await BENCH.score(prompt, {0: drawn(prompt.text, seed, 512)}, Unasked())
    assert value(found, "met") == 0
    assert value(found, "met_share") == pytest.approx(1 - len(faults) / prompt.facts["atomicity"])


def scene(*things: Thing, background: str = "") -> Scene:
    return Scene(100, 100, background, things)


BIG = Thing("square", "blue", "plain", (40, 40, 80, 80))
LITTLE = Thing("circle", "red", "striped", (10, 10, 20, 20))
WITHIN = Thing("circle", "red", "striped", (50, 50, 60, 60))
OTHER = Thing("circle", "green", "plain", (15, 60, 25, 70))


@pytest.mark.parametrize(
    ("shown", "fact", "met"),
    [
        (scene(BIG), Fact(kind="object", shape="square"), True),
        (scene(BIG), Fact(kind="object", shape="circle"), False),
        (scene(LITTLE, OTHER), Fact(kind="count", shape="circle", value="2"), True),
        (scene(LITTLE, OTHER, WITHIN), Fact(kind="count", shape="circle", value="2"), False),
        (scene(LITTLE, WITHIN), Fact(kind="colour", shape="circle", value="red"), True),
        (scene(LITTLE, OTHER), Fact(kind="colour", shape="circle", value="red"), False),
        (scene(BIG), Fact(kind="colour", shape="circle", value="red"), False),
        (scene(LITTLE), Fact(kind="size", shape="circle", value="small"), True),
        (scene(BIG), Fact(kind="size", shape="square", value="small"), False),
        (scene(LITTLE), Fact(kind="texture", shape="circle", value="striped"), True),
        (scene(LITTLE, BIG), Fact(kind="relation", shape="circle", value="above", target="square"), True),
        (scene(LITTLE, BIG), Fact(kind="relation", shape="circle", value="inside", target="square"), False),
        (scene(WITHIN, BIG), Fact(kind="relation", shape="circle", value="inside", target="square"), True),
        (scene(LITTLE, WITHIN, BIG), Fact(kind="relation", shape="circle", value="left of", target="square"), False),
        (scene(LITTLE), Fact(kind="relation", shape="circle", value="above", target="square"), False),
        (scene(Thing("text", "", "", (0, 0, 9, 9), "GO")), Fact(kind="text", shape="text", value="GO"), True),
        (scene(Thing("text", "", "", (0, 0, 9, 9), "GOO")), Fact(kind="text", shape="text", value="GO"), False),
        (scene(background="pink"), Fact(kind="background", value="pink"), True),
        (scene(), Fact(kind="background", value="pink"), False),
    ],
)
def test_facts_by_plain_geometry(shown: Scene, fact: Fact, met: bool) -> None:
    assert shows_fact(shown, fact) is met


async def test_a_picture_of_another_prompt_is_scored_wrong() -> None:
    prompt = PROMPTS[7]
    found = await BENCH.score(prompt, {0: drawn("two red circles", 5)}, Unasked())
    assert value(found, "met") == 0
    assert "object of heart" in found[0].explanation


def repainted(png: bytes) -> bytes:
    """The same words beside other pixels."""
    with Image.open(io.BytesIO(png)) as picture:
        chunks = PngInfo()
        chunks.add_itxt("gems", picture.text["gems"])  # type: ignore[attr-defined]
        picture.putpixel((3, 3), (1, 2, 3))
        out = io.BytesIO()
        picture.save(out, "PNG", pnginfo=chunks)
    return out.getvalue()


def plain(side: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (side, side), "white").save(out, "PNG")
    return out.getvalue()


UNKNOWN = [
    (plain(64), "has no valid metadata"),
    (b"no picture", "has no valid metadata"),
    (repainted(drawn("two red circles", 5)), "differs from the rendering of its prompt and seed"),
    (drawn("two red circles", 5, told={"seed": 6}), "differs from the rendering of its prompt and seed"),
    (drawn("two red circles", 5, told={"model": "diffusers:z-image-turbo"}), "generated by diffusers:z-image-turbo"),
    (drawn("two red circles", 5, told={"seed": "5"}), "has no valid metadata"),
]


@pytest.mark.parametrize(("png", "why"), UNKNOWN, ids=[f"{n}" for n in range(len(UNKNOWN))])
async def test_what_cannot_be_known_is_unscored_and_never_zero(png: bytes, why: str) -> None:
    with pytest.raises(InvalidImageError, match=why):
        read_scene(png)
    found = await BENCH.score(PROMPTS[0], {0: png}, Unasked())
    assert [score.value for score in found] == [None, None]
    assert all(why in score.explanation for score in found)
    figure = BENCH.figures(PROMPTS, found, "en", "truth")[0]
    assert (figure.value, figure.scored, figure.is_partial) == (None, 0, True)


async def test_a_runs_own_file_is_scored(tmp_path: Path) -> None:
    prompt = PROMPTS[0]
    async with Gems(Settings(home=tmp_path, skills="none")) as gems:
        result = await gems.run(prompt.text, seed=4, max_rounds=3, memory=False)
    assert result.path is not None
    png = await asyncio.to_thread(Path(result.path).read_bytes)
    (met, share) = await BENCH.score(prompt, {2: png}, Unasked())
    assert (met.sample, met.value, share.value) == (2, 1.0, 1.0)


async def test_figures_are_shares_in_percent() -> None:
    right, wrong = PROMPTS[0], PROMPTS[7]
    seed = next(s for s in range(99) if not render(right.text, s, 256, 256).faults)
    scores = await BENCH.score(right, {0: drawn(right.text, seed)}, Unasked())
    scores += await BENCH.score(wrong, {0: drawn(wrong.text, 1, 512)}, Unasked())
    figures = {figure.name: figure for figure in BENCH.figures(PROMPTS, scores, "en", "truth")}
    assert (figures["blocks-bench"].value, figures["blocks-bench"].scored) == (50.0, 2)
    assert figures["blocks-bench"].expected == 200
    assert figures["blocks-bench"].is_partial
    assert figures["blocks-bench/requirements"].value == pytest.approx(100 * (1 + 0.9) / 2)
    assert figures["blocks-bench/atomicity/3"].value == 100.0
    assert figures["blocks-bench/atomicity/10"].value == 0.0
    assert figures["blocks-bench/atomicity/5"].value is None
    colours = [fact.kind for fact in facts_of(right) + facts_of(wrong)].count("colour")
    assert figures["blocks-bench/requirement/colour"].value == pytest.approx(100 * (colours - 1) / colours)


async def test_there_is_no_official_scorer(tmp_path: Path) -> None:
    from gems.evals.records import SampleSet

    async def image(row: Any) -> bytes:
        raise AssertionError

    with pytest.raises(RequestError, match="no official scorer"):
        await BENCH.export(SampleSet(prompts=PROMPTS, rows={}, image=image), tmp_path)
    with pytest.raises(RequestError, match="no official scorer"):
        BENCH.read_official(tmp_path / "scores", PROMPTS, "en")
