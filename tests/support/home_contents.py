"""Everything that a home keeps, unpacked, so that what must not be in there is found if it is."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from PIL import Image


def everything_in(home: Path) -> Iterator[tuple[str, bytes]]:
    """The bytes of every file, of every value in databases, and of what pictures say about themselves.

    Checkpoints are compressed, and so may be the texts in a PNG: a search of the files alone finds nothing
    there, whatever they hold.
    """
    for path in sorted(home.rglob("*")):
        if not path.is_file():
            continue
        yield path.name, path.read_bytes()
        if path.suffix == ".png":
            with Image.open(path) as picture:
                yield f"{path.name}, texts", repr(picture.info).encode()
        if path.suffix == ".sqlite3":
            yield from _values(path)


def _values(path: Path) -> Iterator[tuple[str, bytes]]:
    with closing(sqlite3.connect(path)) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        for table in tables:
            for row in database.execute(f'SELECT * FROM "{table}"'):
                for value in row:
                    raw = value.encode() if isinstance(value, str) else value
                    if isinstance(raw, bytes):
                        yield f"{path.name}, {table}", _unpacked(raw)


def _unpacked(raw: bytes) -> bytes:
    try:
        return zlib.decompress(raw)
    except zlib.error:
        return raw


def places_of(secret: str, home: Path) -> list[str]:
    """Where in a home a secret stands, in any of the encodings that stores use."""
    needles = (secret.encode(), secret.encode("utf-16-le"))
    found = list(everything_in(home))
    assert any(name.startswith("checkpoints.sqlite3, ") for name, _ in found)
    return [name for name, data in found if any(needle in data for needle in needles)]
