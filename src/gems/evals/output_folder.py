"""The output folder: what was drawn of a benchmark by a harness, how it was scored, and what that comes to.

    eval.json                                 what it was begun with
    manifest.jsonl                            a row for each sample
    images/<language>/<prompt_id>_<sample>.png
    scores/<judge>.jsonl                      a line for each score
    figures/<judge>.json

Where the store cannot append, as stores of objects cannot, `.jsonl` files are numbered parts.
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
from gems.evals.records import Figure, SampleRow, Score
from gems.evals.samples import BenchmarkPrompt, SampleKey
from gems.evals.settings import EvalSettings
from gems.evals.task import SampleSet
from gems.memory.file_store import FileStore
from gems.memory.locks import hold

__all__ = ["EvalFolder", "EvalSettings"]

ModelT = TypeVar("ModelT", bound=BaseModel)
_SETTINGS = "eval.json"
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_MAX_NAME_LENGTH = 120
_FIGURES = TypeAdapter(list[Figure])


class EvalFolder:
    """An output folder on any fsspec URL. One process at a time writes rows; many may write images.

    Attributes:
        settings: What it was begun with.
        warnings: What was found wrong and could be lived with.
    """

    def __init__(self, store: FileStore, settings: EvalSettings) -> None:
        self.settings = settings
        self.warnings: list[str] = []
        self._store = store
        self._manifest = JsonLines(store, "manifest")

    @property
    def store(self) -> FileStore:
        """Its files."""
        return self._store

    @property
    def label(self) -> str:
        """Where it is, for people."""
        return self._store.label

    @classmethod
    async def create(cls, url: str, settings: EvalSettings) -> EvalFolder:
        """A new folder, or one that was begun with the same settings.

        More prompts and more samples of each than it was begun with are added to it.

        Raises:
            RequestError: it was begun with other settings; the message says what differs.
            ConfigurationError: the URL cannot be used.
            StorageError: it cannot be written.
        """
        store = await asyncio.to_thread(FileStore, url)
        known = await asyncio.to_thread(_read_settings, store)
        if known is not None:
            if faults := known.differences(settings):
                raise RequestError(
                    f"{store.label} was begun otherwise: {'; '.join(faults)}.",
                    hint="Name another folder, or the same settings.",
                )
            settings = known.model_copy(update={"limit": settings.limit, "samples": settings.samples})
        else:
            settings = settings.model_copy(update={"id": secrets.token_hex(8)})
        if settings != known:
            await asyncio.to_thread(store.write, _SETTINGS, settings.model_dump_json(indent=2).encode())
        return cls(store, settings)

    @classmethod
    async def open(cls, url: str) -> EvalFolder:
        """A folder that is there.

        Raises:
            RequestError: it is no output folder.
            DataError: its settings cannot be read.
        """
        store = await asyncio.to_thread(FileStore, url)
        settings = await asyncio.to_thread(_read_settings, store)
        if settings is None:
            raise RequestError(
                f"{store.label} is no output folder: there is no {_SETTINGS} in it.",
                hint="`gems eval run` makes one.",
            )
        return cls(store, settings)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """While this holds, no other process of this machine writes rows.

        Raises:
            RequestError: another one does.
        """
        if self._store.folder is None:
            # Stores of objects have no locks; runs have.
            yield
            return
        try:
            async with hold(self._store.folder, ".writing"):
                yield
        except RunBusyError as error:
            raise RequestError(
                f"Another process is drawing into {self.label}.",
                hint="Wait for it to finish, or end it first.",
            ) from error

    async def rows(self) -> dict[SampleKey, SampleRow]:
        """The newest row of each sample, in the order in which samples came first.

        Raises:
            DataError: a line in the middle of the manifest is damaged.
        """
        lines, note = await asyncio.to_thread(self._manifest.read)
        self._note(note)
        return {row.key: row for row in _validate_lines(SampleRow, lines, f"{self.label}/manifest")}

    async def append(self, row: SampleRow) -> None:
        """Add a row, which stands for its sample from now on.

        Raises:
            DiskFullError: no space is left; the manifest is as it was.
        """
        await asyncio.to_thread(self._manifest.append, [row.model_dump_json()])

    async def images(self) -> set[str]:
        """The names, relative to the folder, of all images that are there."""
        found: set[str] = set()
        for language in self.settings.languages:
            part = f"images/{safe_name(language)}"
            names = await asyncio.to_thread(self._store.names, part)
            found |= {f"{part}/{name}" for name in names}
        return found

    async def write_image(self, key: SampleKey, png: bytes) -> tuple[str, str]:
        """Write a sample's PNG; returns its name relative to the folder, and the SHA-256 of its bytes.

        Raises:
            DiskFullError: no space is left.
        """
        name = image_name(key)
        await asyncio.to_thread(self._store.write, name, png)
        return name, hashlib.sha256(png).hexdigest()

    async def image(self, row: SampleRow) -> bytes:
        """The PNG bytes of a row's image.

        Raises:
            ImageMissingError: the sample has none, or its file is gone or was changed.
        """
        if not row.file:
            raise ImageMissingError(
                f"{_sample_label(row.key)} has no image: {row.error or 'nothing was drawn'}."
            )
        try:
            data = await asyncio.to_thread(self._store.read, image_name(row.key))
        except FileNotFoundError:
            raise ImageMissingError(
                f"{self.label}/{row.file} is gone.", hint="`gems eval run` draws what is missing."
            ) from None
        if hashlib.sha256(data).hexdigest() != row.sha256:
            raise ImageMissingError(
                f"{self.label}/{row.file} was changed since it was written.",
                hint="Delete it, and `gems eval run` writes it again.",
            )
        return data

    async def frozen(self, prompts: Sequence[BenchmarkPrompt]) -> SampleSet:
        """What scorers and exports work on.

        Args:
            prompts: What there was to draw for; rows of other prompts, and samples beyond those of the
                settings, are left out.
        """
        wanted = {prompt.key(sample) for prompt in prompts for sample in range(self.settings.samples)}
        rows = {key: row for key, row in (await self.rows()).items() if key in wanted}
        return SampleSet(prompts=prompts, rows=rows, image=self.image, samples=self.settings.samples)

    async def write_scores(self, judge: str, scores: Sequence[Score]) -> None:
        """Add scores of a judge; they stand in for earlier ones of the same sample, metric and category."""
        lines = JsonLines(self._store, f"scores/{_judge_stem(judge)}")
        await asyncio.to_thread(lines.append, [score.model_dump_json() for score in scores])

    async def scores(self, judge: str) -> list[Score]:
        """The newest scores of a judge by sample, metric and category.

        Raises:
            DataError: a line in the middle is damaged.
        """
        stem = f"scores/{_judge_stem(judge)}"
        lines, note = await asyncio.to_thread(JsonLines(self._store, stem).read)
        self._note(note)
        found = _validate_lines(Score, lines, f"{self.label}/{stem}")
        return list({(score.key, score.metric, score.category): score for score in found}.values())

    async def judges(self) -> list[str]:
        """Who has scored anything."""
        names = await asyncio.to_thread(self._store.names, "scores")
        stems = (re.sub(r"(\.\d{6})?\.jsonl$", "", name) for name in names if name.endswith(".jsonl"))
        return list(dict.fromkeys(unquote(stem) for stem in stems))

    async def write_figures(self, judge: str, figures: Sequence[Figure]) -> None:
        """Write what a judge's scores come to, in place of what was there."""
        data = _FIGURES.dump_json(list(figures), indent=2)
        await asyncio.to_thread(self._store.write, f"figures/{_judge_stem(judge)}.json", data)

    async def figures(self) -> list[Figure]:
        """The figures of all judges.

        Raises:
            DataError: a file of figures cannot be read.
        """
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

    def _note(self, note: str) -> None:
        if note and note not in self.warnings:
            self.warnings.append(note)


@asynccontextmanager
async def lock_folder(store: FileStore) -> AsyncIterator[None]:
    """While this holds, no other process of this machine writes rows into a folder.

    Raises:
        RequestError: another one does.
    """
    if store.folder is None:
        # Stores of objects have no locks; runs have.
        yield
        return
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(hold(store.folder, ".writing"))
        except RunBusyError as error:
            raise RequestError(
                f"Another process is drawing into {store.label}.",
                hint="Wait for it to finish, or end it first.",
            ) from error
        yield


def image_name(key: SampleKey) -> str:
    """Where a sample's PNG lies, relative to the folder; no id leads out of it."""
    return f"images/{safe_name(key.language)}/{safe_name(key.prompt_id)}_{key.sample}.png"


def safe_name(text: str) -> str:
    """A part of a path that stands for `text` alone: whatever else than plain characters is encoded."""
    encoded = _UNSAFE.sub(lambda found: quote(found.group(), safe=""), text)
    if encoded.startswith("."):
        encoded = f"%2E{encoded[1:]}"
    if len(encoded) > _MAX_NAME_LENGTH or not encoded:
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        encoded = f"{encoded[:_MAX_NAME_LENGTH]}%{digest}"
    return encoded


def _judge_stem(judge: str) -> str:
    """A file's stem that tells the judge's name."""
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
            f"{store.label}/{_SETTINGS} cannot be read: {_first_error(error)}.",
            hint="It was damaged, or written by another version of GEMS.",
        ) from error


def _validate_lines(model: type[ModelT], lines: Sequence[dict[str, Any]], place: str) -> list[ModelT]:
    found = []
    for line in lines:
        try:
            found.append(model.model_validate(line))
        except ValidationError as error:
            raise DataError(
                f"Invalid line in {place} ({_first_error(error)}): {json.dumps(line)[:200]}",
                hint="It was damaged, or written by another version of GEMS.",
            ) from error
    return found


def _first_error(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"


def _sample_label(key: SampleKey) -> str:
    return f"Sample {key.sample} of {key.benchmark}/{key.language}/{key.prompt_id}"
