"""Benchmarks' data, what official scorers write, and what judges say."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gems.errors import DataError
from gems.evals.judge import JudgeQuestion, JudgeReply
from gems.evals.registry import load_task
from tests.support.benchmark_samples import placed, png
from tests.support.text_strategies import odd_texts, texts, values

NAMES = ["geneval", "geneval2", "dpg", "oneig", "wise", "longtext", "spatial", "crea", "artimuse"]
LIMITS = {"crea": 30.0, "artimuse": 100.0}


@pytest.fixture(scope="module")
def data() -> Iterator[Path]:
    """The invented data of all benchmarks."""
    with TemporaryDirectory() as folder:
        for name in NAMES:
            placed(Path(folder) / name, name)
        yield Path(folder)


class Speaker:
    """A judge that always says the same, with or without probabilities."""

    name = "speaker"
    samples = 2

    def __init__(self, text: str, first_token: dict[str, float]) -> None:
        self._reply = JudgeReply(text=text, first_token=first_token)

    async def ask(self, question: JudgeQuestion) -> JudgeReply:
        return self._reply if question.top_logprobs else JudgeReply(text=self._reply.text, first_token={})


@pytest.mark.parametrize("name", NAMES)
def test_damaged_files(name: str, data: Path) -> None:
    """A piece of a file replaced by something else is read all the same, or is an error that says where."""
    files = sorted(path for path in (data / name).rglob("*") if path.is_file())
    whole = {path: path.read_bytes() for path in files}

    @given(st.sampled_from(files), st.integers(0), st.integers(0, 60), texts.map(str.encode) | st.binary(max_size=20))
    def read(path: Path, start: int, length: int, piece: bytes) -> None:
        kept = whole[path]
        start %= len(kept) + 1
        path.write_bytes(kept[:start] + piece + kept[start + length :])
        faults = []
        for language in load_task(name).languages:
            try:
                assert all(prompt.text for prompt in load_task(name).prompts(data / name, language))
            except DataError as error:
                faults.append(error)
        path.write_bytes(kept)
        assert all(str(data / name) in fault.message for fault in faults)

    read()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "dpg"])
def test_records_of_another_form(name: str, data: Path) -> None:
    files = [path for path in (data / name).rglob("*") if path.suffix in (".json", ".jsonl")]
    whole = {path: path.read_bytes() for path in files}

    @given(st.sampled_from(files), values, st.booleans())
    def read(path: Path, value: object, listed: bool) -> None:
        path.write_text(json.dumps([value] if listed else value))
        try:
            for language in load_task(name).languages:
                load_task(name).prompts(data / name, language)
        except DataError:
            pass
        finally:
            path.write_bytes(whole[path])

    read()


@pytest.mark.parametrize("name", NAMES)
def test_official_results(name: str, data: Path) -> None:
    prompts = load_task(name).prompts(data / name, "en")
    fields = ("correct", "tag", "filename", "scores", "prompt_id", "id", "image_path", "average_score_all")
    rows = st.dictionaries(st.sampled_from(fields), values, max_size=8)
    written = st.one_of(odd_texts, st.one_of(rows, st.lists(rows), values).map(json.dumps))

    @given(written)
    def read(text: str) -> None:
        with TemporaryDirectory() as folder:
            file = Path(folder) / "alignment_score_EN.csv"
            file.write_bytes(text.encode("utf-8", "surrogatepass"))
            place = Path(folder) if name == "oneig" else file
            try:
                figures = load_task(name).read_official(place, prompts, "en")
            except DataError:
                return
        assert all(figure.judge == "official" for figure in figures)
        assert all(figure.value is None or figure.value == figure.value for figure in figures)

    read()


@pytest.mark.parametrize("name", NAMES)
def test_judges_that_say_anything(name: str, data: Path) -> None:
    """A score is a number on its scale, or there is none and the score says why."""
    benchmark = load_task(name)
    prompts = benchmark.prompts(data / name, "en")
    tokens = st.dictionaries(st.sampled_from(["Yes", " no", "three", " ", "?"]), st.floats(0, 1), max_size=4)
    numbers = st.lists(st.floats() | st.integers(0, 6), min_size=1, max_size=8).map(json.dumps)

    @given(texts | numbers | st.sampled_from(["yes", "No.", "3", "", "[5]"]), tokens)
    def judged(text: str, first_token: dict[str, float]) -> None:
        judge = Speaker(text, first_token)
        for prompt in prompts:
            scores = asyncio.run(benchmark.score(prompt, {0: png()}, judge))
            for score in scores:
                if score.value is None:
                    assert score.explanation
                else:
                    assert 0 <= score.value <= LIMITS.get(name, 1.0)
            benchmark.figures(prompts, scores, "en", "speaker-inhouse")

    judged()
