"""Serialize checkpoints: plain values only, compressed where that saves space."""

from __future__ import annotations

import zlib
from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

_ZLIB_PREFIX = "zlib+"
# Shorter values hardly shrink, and every tag takes five bytes more.
_MIN_COMPRESSED = 200
_MAX_UNPACKED = 256 * 2**20


class CompressingSerializer(SerializerProtocol):
    """Compress what another serializer writes; uncompressed values stay readable."""

    def __init__(self, inner: SerializerProtocol) -> None:
        self._inner = inner

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """Return the value's type and bytes; the type begins with `zlib+` if they are compressed."""
        kind, data = self._inner.dumps_typed(obj)
        if len(data) < _MIN_COMPRESSED:
            return kind, data
        packed = zlib.compress(data, 6)
        return (_ZLIB_PREFIX + kind, packed) if len(packed) < len(data) else (kind, data)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """Return the value; ValueError if the bytes were changed or exceed 256 MiB."""
        kind, packed = data
        if not kind.startswith(_ZLIB_PREFIX):
            return self._inner.loads_typed(data)
        unpacking = zlib.decompressobj()
        try:
            # A manipulated database must not be able to exhaust memory.
            plain = unpacking.decompress(packed, _MAX_UNPACKED)
        except zlib.error as error:
            raise ValueError(f"It cannot be decompressed: {error}.") from error
        if not unpacking.eof:
            raise ValueError("It is cut short, or stands for too much.")
        return self._inner.loads_typed((kind.removeprefix(_ZLIB_PREFIX), plain))


def checkpoint_serializer() -> SerializerProtocol:
    """Return the serializer of all checkpointers.

    Only JSON-native values and LangGraph's own types are read back: a manipulated database cannot instantiate
    any other class.
    """
    return CompressingSerializer(JsonPlusSerializer(allowed_msgpack_modules=[]))
