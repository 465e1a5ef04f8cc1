"""The output folder: images of a benchmark by one harness, their scores and figures.

    eval.json                                 settings of the folder
    manifest.jsonl                            one row per sample
    images/<language>/<prompt_id>_<sample>.png
    scores/<judge>.jsonl                      one line per score
    figures/<judge>.json

In object stores, which cannot append, `.jsonl` files are numbered parts.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import quote, unquote

from pydantic import BaseModel, TypeAdapter, ValidationError

from gems.errors import DataError, ImageMissingError, RequestError, RunBusyError
from gems.evals.jsonl import JsonLines
from gems.evals.records import BenchmarkPrompt, EvalSettings, Figure, SampleKey, SampleRow, SampleSet, Score
from gems.memory.file_store import FileStore
from gems.memory.locks import hold_run_lock

__all__ = ["EvalFolder", "EvalSettings"]

ModelT = TypeVar("ModelT", bound=BaseModel)
_SETTINGS = "eval.json"
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_MAX_NAME_LENGTH = 120
_FIGURES = TypeAdapter(list[Figure])


class EvalFolder:
    """An output folder on any fsspec URL. One process writes rows; many may write images.

    `warnings` lists problems that could be tolerated.
    """

    def __init__(self, store: FileStore, settings: EvalSettings) -> None:
        self.settings = settings
        self.warnings: list[str] = []
        self._store = store
        self._manifest = JsonLines(store, "manifest")

    @property
    def store(self) -> FileStore:
        """The files of the folder."""
        return self._store

    @property
    def label(self) -> str:
        """The location, for messages."""
        return self._store.label

    @classmethod
    async def create(cls, url: str, settings: EvalSettings) -> EvalFolder:
        """Create the folder, or open one that was created with the same settings.

        The limit of prompts and the number of samples may grow. Raises `RequestError` that names the
        differences.
        """
        store = await asyncio.to_thread(FileStore, url)
        known = await asyncio.to_thread(_read_settings, store)
        if known is not None:
            if faults := known.differences(settings):
                raise RequestError(
                    f"{store.label} was created with other settings: {'; '.join(faults)}.",
                    hint="Use another folder or the same settings.",
                )
            settings = known.model_copy(update={"limit": settings.limit, "samples": settings.samples})
        else:
            settings = settings.model_copy(update={"id": secrets.token_hex(8)})
        if settings != known:
            await asyncio.to_thread(store.write, _SETTINGS, settings.model_dump_json(indent=2).encode())
        return cls(store, settings)

    @classmethod
    async def open(cls, url: str) -> EvalFolder:
        """Open an existing folder; raises `RequestError` if it is not an output folder."""
        store = await asyncio.to_thread(FileStore, url)
        settings = await asyncio.to_thread(_read_settings, store)
        if settings is None:
            raise RequestError(
                f"{store.label} is not an output folder: it contains no {_SETTINGS}.",
                hint="Create one with `gems eval run`.",
            )
        return cls(store, settings)

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[None]:
        """Keep other processes on this machine from writing rows; raises `RequestError` if locked."""
        async with lock_folder(self._store):
            yield

    async def rows(self) -> dict[SampleKey, SampleRow]:
        """Return the newest row of each sample, in order of first appearance."""
        lines, note = await asyncio.to_thread(self._manifest.read)
        self._add_warning(note)
        return {row.key: row for row in _validate_lines(SampleRow, lines, f"{self.label}/manifest")}

    async def append(self, row: SampleRow) -> None:
        """Append a row, which replaces earlier rows of its sample."""
        await asyncio.to_thread(self._manifest.append, [row.model_dump_json()])

    async def images(self) -> set[str]:
        """Return the names of all existing images, relative to the folder."""
        found: set[str] = set()
        for language in self.settings.languages:
            part = f"images/{safe_name(language)}"
            names = await asyncio.to_thread(self._store.names, part)
            found |= {f"{part}/{name}" for name in names}
        return found

    async def write_image(self, key: SampleKey, png: bytes) -> tuple[str, str]:
        """Write a sample's PNG; returns its name relative to the folder and its SHA-256."""
        name = image_name(key)
        await asyncio.to_thread(self._store.write, name, png)
        return name, hashlib.sha256(png).hexdigest()

    async def image(self, row: SampleRow) -> bytes:
        """Return the PNG bytes of a row's image.

        Raises `ImageMissingError` if there is none, or if the file is missing or was changed.
        """
        if not row.file:
            raise ImageMissingError(
                f"{_sample_label(row.key)} has no image: {row.error or 'none was generated'}."
            )
        try:
            data = await asyncio.to_thread(self._store.read, image_name(row.key))
        except FileNotFoundError:
            raise ImageMissingError(
                f"{self.label}/{row.file} is missing.", hint="`gems eval run` generates missing images."
            ) from None
        if hashlib.sha256(data).hexdigest() != row.sha256:
            raise ImageMissingError(
                f"{self.label}/{row.file} was changed after it was written.",
                hint="Delete it and run `gems eval run` to write it again.",
            )
        return data

    async def sample_set(self, prompts: Sequence[BenchmarkPrompt]) -> SampleSet:
        """Return the samples of these prompts for scorers and exports.

        Rows of other prompts, and samples beyond the number in the settings, are left out.
        """
        keys = {prompt.key(sample) for prompt in prompts for sample in range(self.settings.samples)}
        rows = {key: row for key, row in (await self.rows()).items() if key in keys}
        return SampleSet(prompts=prompts, rows=rows, image=self.image, samples=self.settings.samples)

    async def write_scores(self, judge: str, scores: Sequence[Score]) -> None:
        """Append scores; they replace earlier ones of the same sample, metric and category."""
        lines = JsonLines(self._store, f"scores/{_judge_stem(judge)}")
        await asyncio.to_thread(lines.append, [score.model_dump_json() for score in scores])

    async def scores(self, judge: str) -> list[Score]:
        """Return a judge's newest scores by sample, metric and category."""
        stem = f"scores/{_judge_stem(judge)}"
        lines, note = await asyncio.to_thread(JsonLines(self._store, stem).read)
        self._add_warning(note)
        found = _validate_lines(Score, lines, f"{self.label}/{stem}")
        return list({(score.key, score.metric, score.category): score for score in found}.values())

    async def judges(self) -> list[str]:
        """Return the judges that have scored anything."""
        names = await asyncio.to_thread(self._store.names, "scores")
        stems = (re.sub(r"(\.\d{6})?\.jsonl$", "", name) for name in names if name.endswith(".jsonl"))
        return list(dict.fromkeys(unquote(stem) for stem in stems))

    async def write_figures(self, judge: str, figures: Sequence[Figure]) -> None:
        """Replace the figures of a judge."""
        data = _FIGURES.dump_json(list(figures), indent=2)
        await asyncio.to_thread(self._store.write, f"figures/{_judge_stem(judge)}.json", data)

    async def figures(self) -> list[Figure]:
        """Return the figures of all judges; raises `DataError` if a file is damaged."""
        figures: list[Figure] = []
        for name in await asyncio.to_thread(self._store.names, "figures"):
            if not name.endswith(".json"):
                continue
            try:
                data = await asyncio.to_thread(self._store.read, f"figures/{name}")
                figures += _FIGURES.validate_json(data)
            except ValidationError as error:
                raise DataError(f"{self.label}/figures/{name} is damaged: {_first_error(error)}.") from error
        return figures

    def _add_warning(self, note: str) -> None:
        if note and note not in self.warnings:
            self.warnings.append(note)


@asynccontextmanager
async def lock_folder(store: FileStore) -> AsyncIterator[None]:
    """Keep other processes on this machine from writing rows; raises `RequestError` if locked."""
    if store.folder is None:
        # Object stores have no locks, but runs do.
        yield
        return
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(hold_run_lock(store.folder, ".writing"))
        except RunBusyError as error:
            raise RequestError(
                f"Another process is writing to {store.label}.",
                hint="Wait until it has finished, or stop it.",
            ) from error
        yield


def image_name(key: SampleKey) -> str:
    """Return the path of a sample's PNG, relative to the folder; no id can leave it."""
    return f"images/{safe_name(key.language)}/{safe_name(key.prompt_id)}_{key.sample}.png"


def safe_name(text: str) -> str:
    """Return a unique path component for a text; special characters are encoded."""
    encoded = _UNSAFE.sub(lambda found: quote(found.group(), safe=""), text)
    if encoded.startswith("."):
        encoded = f"%2E{encoded[1:]}"
    if len(encoded) > _MAX_NAME_LENGTH or not encoded:
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        encoded = f"{encoded[:_MAX_NAME_LENGTH]}%{digest}"
    return encoded


def _judge_stem(judge: str) -> str:
    """Return a file stem that encodes the judge's name."""
    return quote(judge, safe=" ,()").replace(".", "%2E")


def _read_settings(store: FileStore) -> EvalSettings | None:
    try:
        data = store.read(_SETTINGS)
    except FileNotFoundError:
        return None
    try:
        return EvalSettings.model_validate_json(data)
    except ValidationError as error:
        raise DataError(
            f"{store.label}/{_SETTINGS} is invalid: {_first_error(error)}.",
            hint="The file is damaged or was written by another version of GEMS.",
        ) from error


def _validate_lines(model: type[ModelT], lines: Sequence[dict[str, Any]], place: str) -> list[ModelT]:
    found = []
    for line in lines:
        try:
            found.append(model.model_validate(line))
        except ValidationError as error:
            raise DataError(
                f"Invalid line in {place} ({_first_error(error)}): {json.dumps(line)[:200]}",
                hint="The file is damaged or was written by another version of GEMS.",
            ) from error
    return found


def _first_error(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"


def _sample_label(key: SampleKey) -> str:
    return f"Sample {key.sample} of {key.benchmark}/{key.language}/{key.prompt_id}"
