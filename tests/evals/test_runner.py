"""Drawing the samples of a benchmark: each once, whatever happens."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gems.errors import DiskFullError, OptionError, ProviderError, RequestError, ServerError
from gems.evals.engines import LocalEngine
from gems.evals.harnesses import load_harness
from gems.evals.output_folder import EvalFolder, EvalSettings, lock_folder
from gems.evals.records import BenchmarkPrompt, SampleKey
from gems.evals.runner import MAX_CONSECUTIVE_FAILURES, BenchmarkRun, JobProgress, sample_seed
from gems.generation import ImageRequest
from gems.memory.file_store import FileStore
from gems.service import Gems
from tests.support.scripted_models import FlatGenerator, ScriptedChat, settings_at
from tests.support.scripted_service import Pause, content, removed


def prompts(count: int = 4) -> list[BenchmarkPrompt]:
    return [BenchmarkPrompt(benchmark="few", language="en", id=f"{n:03}", text=f"cat number {n}") for n in range(count)]


class Bench:
    """A folder, the models that draw into it, and calls that draw."""

    def __init__(self, home: Path) -> None:
        self.home, self.url = home / "home", str(home / "out")
        self.chat, self.generator = ScriptedChat(), FlatGenerator()
        self.prompts = prompts()
        self.settings = EvalSettings(
            task="few", languages=("en",), harness="single", generator="flat", images=2, samples=2, seed=3
        )
        self.told: list[tuple[int, int]] = []

    @asynccontextmanager
    async def drawing(self, concurrency: int = 2) -> AsyncIterator[tuple[BenchmarkRun, LocalEngine]]:
        wanted = load_harness(self.settings.harness)
        opening = Gems(settings_at(self.home), chat=self.chat, generator=self.generator, graph=wanted.graph)
        async with opening as gems:
            folder = await EvalFolder.create(self.url, self.settings)
            yield (BenchmarkRun(folder, wanted, self.prompts), LocalEngine(gems, FileStore(self.url), concurrency))

    async def draw(self, concurrency: int = 2, **more: Any) -> JobProgress:
        async with self.drawing(concurrency) as (drawing, engine):
            return await drawing.run(engine, on_progress=self.tell, **more)

    def tell(self, progress: JobProgress) -> None:
        self.told.append((progress.done, progress.total))

    async def rows(self) -> dict[SampleKey, Any]:
        return await (await EvalFolder.open(self.url)).rows()

    def drawn(self) -> Counter[tuple[str, int]]:
        return Counter((request.prompt, request.seed) for request in self.generator.requests)

    def fail(self, *texts: str, times: int = 10**6) -> None:
        left = Counter(dict.fromkeys(texts, times))

        async def before(request: ImageRequest) -> None:
            if left[request.prompt] > 0:
                left[request.prompt] -= 1
                raise ServerError(f"{request.prompt} is too much.")

        self.generator.before = before


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_every_sample_has_its_row_and_its_image(bench: Bench) -> None:
    progress = await bench.draw()
    assert (progress.done, progress.total, progress.images, progress.failed, progress.usd) == (8, 8, 8, {}, 0.0)
    assert (bench.told[0], bench.told[-1]) == ((0, 8), (8, 8))
    folder = await EvalFolder.open(bench.url)
    rows = await folder.rows()
    assert {key.prompt_id for key in rows} == {"000", "001", "002", "003"}
    for key, row in rows.items():
        assert row.seed == sample_seed(3, key)
        assert (row.prompt, row.rounds, row.images, row.harness) == (
            f"cat number {int(key.prompt_id)}", 1, 1, "single"
        )  # fmt: skip
        assert (await folder.image(row)).startswith(b"\x89PNG")
    assert bench.drawn() == Counter((row.prompt, row.seed) for row in rows.values())


async def test_again_draws_nothing(bench: Bench) -> None:
    await bench.draw()
    before = content(Path(bench.url, "manifest.jsonl"))
    progress = await bench.draw()
    assert (progress.done, progress.done_before, len(bench.generator.requests)) == (8, 8, 8)
    assert content(Path(bench.url, "manifest.jsonl")) == before


async def test_order_is_that_of_the_benchmark(bench: Bench) -> None:
    await bench.draw(concurrency=1)
    assert [request.prompt for request in bench.generator.requests] == [
        f"cat number {n}" for n in range(4) for _ in range(2)
    ]


def test_seeds_are_of_sample_and_seed_alone() -> None:
    keys = [prompt.key(sample) for prompt in prompts(20) for sample in range(5)]
    seeds = [sample_seed(1, key) for key in keys]
    assert len(set(seeds)) == 100
    assert seeds == [sample_seed(1, key) for key in keys]
    assert not set(seeds) & {sample_seed(2, key) for key in keys}
    assert all(0 <= seed < 2**31 for seed in seeds)


async def test_no_more_than_asked_for_at_a_time(bench: Bench) -> None:
    now, peak = 0, 0

    async def before(_request: ImageRequest) -> None:
        nonlocal now, peak
        now += 1
        peak = max(peak, now)
        await asyncio.sleep(0.05)
        now -= 1

    bench.generator.before = before
    await bench.draw(concurrency=3)
    assert peak == 3


async def test_failures_are_rows_and_are_tried_again(bench: Bench) -> None:
    bench.fail("cat number 1")
    progress = await bench.draw(retries=2)
    assert sorted(progress.failed) == ["few/en/001 sample 0", "few/en/001 sample 1"]
    assert (progress.done, progress.is_complete) == (6, False)
    assert sum(request.prompt == "cat number 1" for request in bench.generator.requests) == 6
    failed = [row for row in (await bench.rows()).values() if row.error]
    assert [(row.prompt, row.file, row.error.split(":")[0]) for row in failed] == [
        ("cat number 1", "", "ServerError")
    ] * 2
    bench.generator.before = None
    assert (await bench.draw()).is_complete
    assert not any(row.error for row in (await bench.rows()).values())


async def test_retry_in_the_same_call_mends(bench: Bench) -> None:
    bench.fail("cat number 2", times=1)
    progress = await bench.draw(concurrency=1, retries=1)
    assert (progress.is_complete, progress.failed) == (True, {})


async def test_run_that_failed_with_an_image_is_no_sample_and_goes_on(bench: Bench) -> None:
    bench.settings = bench.settings.model_copy(update={"harness": "paper-loop", "samples": 1, "limit": 1})
    bench.prompts = prompts(1)
    bench.chat.script["verify"] = "No. It is missing."
    bench.chat.script["refine"] = [ServerError("The refiner is away."), {"prompt": "a better cat"}]
    progress = await bench.draw(retries=0)
    (ending,) = progress.failed.values()
    assert (progress.done, ending.error.startswith("ServerError: The refiner is away.")) == (0, True)
    (row,) = (await bench.rows()).values()
    assert (row.file, row.images, row.stop_reason) == ("", 1, "failed")
    assert (await bench.draw()).is_complete
    (row,) = (await bench.rows()).values()
    assert (row.images, row.stop_reason, row.error) == (2, "max_rounds", "")
    assert [request.prompt for request in bench.generator.requests] == ["cat number 0", "a better cat"]


async def test_interrupted_runs_go_on(bench: Bench) -> None:
    bench.settings = bench.settings.model_copy(update={"harness": "paper-loop"})
    bench.chat.script["verify"] = "No. It is missing."
    pause = Pause()

    async def before(request: ImageRequest) -> None:
        if "more" in request.prompt and len(bench.generator.requests) > 5:
            await pause()

    bench.generator.before = before
    task = asyncio.create_task(bench.draw())
    await pause.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    held = bench.generator.requests[5:]
    bench.generator.before = None
    progress = await bench.draw()
    assert (progress.is_complete, progress.images) == (True, 16)
    assert progress.done_before > 0
    again = bench.drawn() - Counter((request.prompt, request.seed) for request in held)
    assert set(again.values()) == {1}, "only what was held is asked for again"


async def test_budget_ends_it_and_a_larger_one_goes_on(bench: Bench) -> None:
    bench.generator.capabilities = FlatGenerator(price_usd=0.5).capabilities
    progress = await bench.draw(concurrency=1, budget_usd=1.5)
    assert (progress.done, progress.usd, progress.out_of_money) == (3, 1.5, True)
    progress = await bench.draw(concurrency=1, budget_usd=1.5)
    assert (progress.done, progress.out_of_money) == (3, True)
    progress = await bench.draw(concurrency=1, budget_usd=10)
    assert (progress.is_complete, progress.usd, progress.out_of_money) == (True, 4.0, False)


async def test_one_failure_after_another_ends_it(bench: Bench) -> None:
    bench.prompts = prompts(40)
    bench.fail(*(prompt.text for prompt in bench.prompts))
    with pytest.raises(ProviderError, match=rf"{MAX_CONSECUTIVE_FAILURES} samples failed in a row"):
        await bench.draw(concurrency=1)
    assert len(await bench.rows()) == MAX_CONSECUTIVE_FAILURES
    assert len(bench.generator.requests) == MAX_CONSECUTIVE_FAILURES


async def test_image_that_is_gone_is_written_again_and_not_drawn_again(bench: Bench) -> None:
    await bench.draw()
    gone = Path(bench.url, "images/en/002_1.png")
    kept = content(gone)
    removed(gone)
    progress = await bench.draw()
    assert (progress.is_complete, progress.done_before, len(bench.generator.requests)) == (True, 7, 8)
    assert content(gone) == kept


async def test_data_that_have_changed_are_noticed(bench: Bench) -> None:
    await bench.draw()
    bench.prompts[1] = BenchmarkPrompt(benchmark="few", language="en", id="001", text="a dog")
    with pytest.raises(RequestError, match="for a different prompt: the benchmark's data have changed"):
        await bench.draw()


async def test_more_samples_are_added(bench: Bench) -> None:
    await bench.draw()
    bench.settings = bench.settings.model_copy(update={"samples": 3})
    progress = await bench.draw()
    assert (progress.done, progress.done_before, len(bench.generator.requests)) == (12, 8, 12)


async def test_full_disk_ends_it_and_costs_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    write = FileStore.write

    def full(store: FileStore, name: str, data: bytes) -> None:
        if name.startswith("images/en/001"):
            raise DiskFullError("No space is left.")
        write(store, name, data)

    monkeypatch.setattr(FileStore, "write", full)
    with pytest.raises(DiskFullError):
        await bench.draw(concurrency=1)
    assert len(await bench.rows()) == 2
    monkeypatch.undo()
    assert (await bench.draw()).is_complete
    assert set(bench.drawn().values()) == {1}


async def test_two_processes_do_not_draw_into_one_folder(bench: Bench) -> None:
    folder = await EvalFolder.create(bench.url, bench.settings)
    async with lock_folder(folder.store):
        with pytest.raises(RequestError, match="Another process is writing"):
            async with lock_folder((await EvalFolder.open(bench.url)).store):
                pass
    async with lock_folder(folder.store):
        pass


async def test_option_that_a_run_cannot_have_is_a_failure_of_the_sample(bench: Bench) -> None:
    bench.settings = bench.settings.model_copy(update={"size": "7x7"})
    progress = await bench.draw(retries=0)
    assert {ending.error.partition(":")[0] for ending in progress.failed.values()} == {"SizeError"}
    with pytest.raises(OptionError):
        load_harness("nothing")
