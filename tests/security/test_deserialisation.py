"""Whoever changes a stored file makes no class come to life, whatever the bytes say."""

from __future__ import annotations

import base64
import json
import pickle
import sqlite3
import zlib
from contextlib import closing, suppress
from itertools import count
from pathlib import Path
from typing import Any

import ormsgpack
import pytest
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from gems.errors import GemsError
from gems.memory.checkpointer import checkpoint_serializer
from gems.service import Gems
from tests.support.scripted_models import FlatGenerator, ScriptedChat, opened_gems, settings_at

MADE: list[str] = []


class Forbidden:
    """Says so where it comes to life; LangGraph would make it from its name and arguments."""

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        MADE.append("made")

    def __setstate__(self, _state: Any) -> None:
        MADE.append("unpickled")

    @classmethod
    def model_validate_json(cls, *_: Any) -> Forbidden:
        return cls()

    construct = parse_raw = model_construct = model_validate_json

    def __reduce__(self) -> Any:
        return (made, ())


def made() -> None:
    MADE.append("unpickled")


PICKLED = pickle.dumps(object.__new__(Forbidden))


@pytest.fixture(autouse=True)
def nothing_is_made() -> Any:
    MADE.clear()
    yield
    assert MADE == []


def named(code: int, *value: Any) -> bytes:
    """What LangGraph writes for an object: the code of how it is made, and what of."""
    packed = ormsgpack.packb((Forbidden.__module__, "Forbidden", *value))
    return ormsgpack.packb({"value": ormsgpack.Ext(code, packed)})


MSGPACK = [
    *(named(code, ["x"]) for code in range(8)),
    *(named(code, {"x": 1}, "model_validate_json") for code in range(8)),
    *(named(code, "{}", "construct") for code in range(8)),
    ormsgpack.packb(ormsgpack.Ext(0, ormsgpack.packb(("os", "system", "true")))),
    ormsgpack.packb(ormsgpack.Ext(0, ormsgpack.packb(("builtins", "eval", "1")))),
]
CONSTRUCTED = {"lc": 2, "type": "constructor", "id": [*Forbidden.__module__.split("."), "Forbidden"]}
JSON = [
    json.dumps(CONSTRUCTED | {"method": method, "args": [], "kwargs": {}}).encode()
    for method in (None, "construct", [None, "construct"])
] + [json.dumps({"lc": 1, "type": "constructor", "id": ["os", "system"], "kwargs": {}}).encode()]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("kind", "data"), [*(("msgpack", data) for data in MSGPACK), *(("json", data) for data in JSON)], ids=count()
)
def test_no_class_is_made_from_its_name(kind: str, data: bytes, packed: bool, caplog: pytest.LogCaptureFixture) -> None:
    stored = (f"zlib+{kind}", zlib.compress(data)) if packed else (kind, data)
    try:
        read = checkpoint_serializer().loads_typed(stored)
    except (ValueError, TypeError, NotImplementedError):
        # `gems.memory.sqlite.reading` makes a StorageError of it.
        return
    assert "Forbidden object" not in repr(read)
    assert not isinstance(read, Forbidden)


def test_such_bytes_would_make_the_class_elsewhere() -> None:
    """Or the tests above would hold for bytes that nobody heeds."""
    JsonPlusSerializer(allowed_msgpack_modules=True).loads_typed(("msgpack", named(0, "x")))
    assert MADE
    MADE.clear()


@pytest.mark.parametrize("kind", ["pickle", "zlib+pickle", "zlib+zlib+pickle"])
def test_nothing_is_unpickled(kind: str) -> None:
    data = PICKLED
    for _ in range(kind.count("zlib+")):
        data = zlib.compress(data)
    with pytest.raises((ValueError, NotImplementedError)):
        checkpoint_serializer().loads_typed((kind, data))


def test_a_small_value_does_not_fill_the_memory() -> None:
    packing = zlib.compressobj(1)
    data = b"".join([*(packing.compress(bytes(2**20)) for _ in range(260)), packing.flush()])
    assert len(data) < 2_000_000
    with pytest.raises(ValueError, match="too much"):
        checkpoint_serializer().loads_typed(("zlib+bytes", data))


@pytest.mark.parametrize(
    ("kind", "data"),
    [("msgpack", MSGPACK[0]), ("pickle", PICKLED), ("json", JSON[0]), ("zlib+msgpack", b"x")],
    ids=count(),
)
async def test_a_run_whose_checkpoints_were_changed(kind: str, data: bytes, tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with opened_gems(home, ScriptedChat(), FlatGenerator()) as gems:
        run_id = (await gems.run("a red cat", seed=7)).run_id
    with closing(sqlite3.connect(home / "checkpoints.sqlite3")) as database:
        for column, table in (("checkpoint", "checkpoints"), ("value", "writes")):
            database.execute(f"UPDATE {table} SET type=?, {column}=?", (kind, data))
        database.commit()
    async with opened_gems(home, ScriptedChat(), FlatGenerator()) as gems:
        for doing in (gems.show, gems.report, gems.resume):
            # What cannot be read is an error of ours; what reads as nothing is a run that has not begun.
            with suppress(GemsError):
                await doing(run_id)
        assert [row["run_id"] for row in await gems.runs()] == [run_id]


async def test_an_experience_is_plain_data(tmp_path: Path) -> None:
    """A line of an import that would be an object elsewhere is refused by its form."""
    lines = [json.dumps(CONSTRUCTED), base64.b64encode(PICKLED).decode(), "!!python/object:x", MSGPACK[0]]
    settings = settings_at(tmp_path, experience="", embedder="lexical")
    async with Gems(settings, chat=ScriptedChat(), generator=FlatGenerator()) as gems:
        report = await gems.memory.import_lines(lines)
        assert [number for number, _ in report.faults] == [1, 2, 3, 4]
        assert await gems.memory.listed() == []
