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
import re
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import ClassVar, Self, TypeVar
from urllib.parse import quote, unquote

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from gems._version import __version__
from gems.errors import DataError, ImageMissingError, RequestError, RunBusyError
from gems.evals.jsonl import JsonLines
from gems.evals.records import BenchmarkPrompt, Figure, SampleKey, SampleRow, SampleSet, Score, first_error
from gems.memory.file_store import FileStore
from gems.memory.locks import hold_run_lock

M = TypeVar("M", bound=BaseModel)
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_MAX_NAME_LENGTH = 120
_FIGURES = TypeAdapter(list[Figure])


class FolderSettings(BaseModel):
    """Settings that apply to all images of a folder, stored in it as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    file_name: ClassVar[str]
    not_compared: ClassVar[Sequence[str]] = ("id",)
    extendable: ClassVar[Sequence[str]] = ()
    """Numbers that may grow, but not shrink: it would be unclear which samples count. None is no limit."""

    id: str = Field("", description="Random id of the folder, part of its run ids.")

    @classmethod
    def read(cls, store: FileStore) -> Self | None:
        """Return the settings of a folder, or None; raises `DataError` if they are invalid."""
        try:
            return cls.model_validate_json(store.read(cls.file_name))
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise DataError(
                f"{store.label}/{cls.file_name} is invalid: {first_error(error)}.",
                hint="The file is damaged or was written by another version of GEMS.",
            ) from error

    def apply(self, store: FileStore) -> Self:
        """Write the settings to a new folder, or check that an existing one was created with them.

        Raises `RequestError` that names the differences.
        """
        known = type(self).read(store)
        if known is None:
            settings = self.model_copy(update={"id": secrets.token_hex(8)})
        elif faults := known.differences(self):
            raise RequestError(
                f"{store.label} was created with other settings: {'; '.join(faults)}.",
                hint="Use another folder or the same settings.",
            )
        else:
            settings = known.model_copy(update={name: getattr(self, name) for name in self.extendable})
        if settings != known:
            store.write(self.file_name, settings.model_dump_json(indent=2).encode())
        return settings

    def differences(self, wanted: Self) -> list[str]:
        """Return the differences that keep `wanted` from using this folder, one line each."""
        differences = []
        for name in type(self).model_fields:
            current, new = getattr(self, name), getattr(wanted, name)
            if name in self.not_compared or current == new:
                continue
            if name in self.extendable and (new is None or (current is not None and new > current)):
                continue
            differences.append(f"{name} is {current!r} in the folder, {new!r} now")
        return differences


class EvalSettings(FolderSettings):
    """How the samples of a folder are generated."""

    file_name = "eval.json"
    not_compared = ("id", "version", "data")
    extendable = ("limit", "samples")

    task: str
    languages: tuple[str, ...]
    harness: str
    generator: str = Field(description="Spec of the image generator.")
    generator_profile: str = Field("", description="Named settings of the generator; empty for none.")
    chat: str = Field("", description="Spec of the loop's chat model; empty if the harness uses none.")
    judge: str = Field("", description="Spec of the loop's judge if it is another model.")
    size: str = Field("", description="WIDTHxHEIGHT in pixels; empty for the generator's default.")
    images: int = Field(ge=1, description="Maximum number of images per sample.")
    limit: int | None = Field(None, ge=1, description="Maximum number of prompts per language; None for all.")
    samples: int = Field(ge=1, description="Samples per prompt.")
    seed: int = Field(ge=0, description="Base of the samples' seeds.")
    learn: bool = Field(False, description="Whether runs learn from each other.")
    data: str = Field("", description="The folder of the benchmark's data.")
    version: str = Field(__version__, description="Version of GEMS that created the folder.")


class EvalFolder:
    """An output folder on any fsspec URL. One process writes rows; many may write images.

    `warnings` lists problems that could be tolerated.
    """

    def __init__(self, store: FileStore, settings: EvalSettings) -> None:
        self.store, self.settings = store, settings
        self.warnings: list[str] = []
        self._manifest = JsonLines(store, "manifest")

    @property
    def label(self) -> str:
        """The location, for messages."""
        return self.store.label

    @classmethod
    async def create(cls, url: str, settings: EvalSettings) -> EvalFolder:
        """Create the folder, or open one that was created with the same settings.

        The limit of prompts and the number of samples may grow. Raises `RequestError` that names the
        differences.
        """
        store = await asyncio.to_thread(FileStore, url)
        return cls(store, await asyncio.to_thread(settings.apply, store))

    @classmethod
    async def open(cls, url: str) -> EvalFolder:
        """Open an existing folder; raises `RequestError` if it is not an output folder."""
        store = await asyncio.to_thread(FileStore, url)
        settings = await asyncio.to_thread(EvalSettings.read, store)
        if settings is None:
            raise RequestError(
                f"{store.label} is not an output folder: it contains no {EvalSettings.file_name}.",
                hint="Create one with `gems eval run`.",
            )
        return cls(store, settings)

    async def rows(self) -> dict[SampleKey, SampleRow]:
        """Return the newest row of each sample, in order of first appearance."""
        return {row.key: row for row in await self._read(self._manifest, SampleRow)}

    async def append(self, row: SampleRow) -> None:
        """Append a row, which replaces earlier rows of its sample."""
        await asyncio.to_thread(self._manifest.append, [row.model_dump_json()])

    async def images(self) -> set[str]:
        """Return the names of all existing images, relative to the folder."""
        found: set[str] = set()
        for language in self.settings.languages:
            part = f"images/{safe_name(language)}"
            names = await asyncio.to_thread(self.store.names, part)
            found |= {f"{part}/{name}" for name in names}
        return found

    async def image(self, row: SampleRow) -> bytes:
        """Return the PNG bytes of a row's image.

        Raises `ImageMissingError` if there is none, or if the file is missing or was changed.
        """
        if not row.file:
            key = row.key
            raise ImageMissingError(
                f"Sample {key.sample} of {key.benchmark}/{key.language}/{key.prompt_id} has no image: "
                f"{row.error or 'none was generated'}."
            )
        try:
            data = await asyncio.to_thread(self.store.read, image_name(row.key))
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
        lines = JsonLines(self.store, f"scores/{_judge_stem(judge)}")
        await asyncio.to_thread(lines.append, [score.model_dump_json() for score in scores])

    async def scores(self, judge: str) -> list[Score]:
        """Return a judge's newest scores by sample, metric and category."""
        found = await self._read(JsonLines(self.store, f"scores/{_judge_stem(judge)}"), Score)
        return list({(score.key, score.metric, score.category): score for score in found}.values())

    async def judges(self) -> list[str]:
        """Return the judges that have scored anything."""
        names = await asyncio.to_thread(self.store.names, "scores")
        stems = (re.sub(r"(\.\d{6})?\.jsonl$", "", name) for name in names if name.endswith(".jsonl"))
        return list(dict.fromkeys(unquote(stem) for stem in stems))

    async def write_figures(self, judge: str, figures: Sequence[Figure]) -> None:
        """Replace the figures of a judge."""
        data = _FIGURES.dump_json(list(figures), indent=2)
        await asyncio.to_thread(self.store.write, f"figures/{_judge_stem(judge)}.json", data)

    async def figures(self) -> list[Figure]:
        """Return the figures of all judges; raises `DataError` if a file is damaged."""
        figures: list[Figure] = []
        for name in await asyncio.to_thread(self.store.names, "figures"):
            if not name.endswith(".json"):
                continue
            try:
                data = await asyncio.to_thread(self.store.read, f"figures/{name}")
                figures += _FIGURES.validate_json(data)
            except ValidationError as error:
                raise DataError(f"{self.label}/figures/{name} is damaged: {first_error(error)}.") from error
        return figures

    async def _read(self, lines: JsonLines, form: type[M]) -> list[M]:
        found, note = await asyncio.to_thread(lines.read, form)
        if note and note not in self.warnings:
            self.warnings.append(note)
        return found


@asynccontextmanager
async def lock_folder(store: FileStore) -> AsyncIterator[None]:
    """Keep other processes on this machine from writing rows; raises `RequestError` if locked."""
    async with AsyncExitStack() as stack:
        try:
            # Object stores have no locks, but runs do.
            if store.folder is not None:
                await stack.enter_async_context(hold_run_lock(store.folder, ".writing"))
        except RunBusyError as error:
            raise RequestError(
                f"Another process is writing to {store.label}.", hint="Wait until it has finished, or stop it."
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
