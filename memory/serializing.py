"""What checkpoints hold, as bytes: plain values only, compressed where that saves room."""

from __future__ import annotations

import zlib
from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

_PREFIX = "zlib+"
# Shorter values hardly shrink, and every tag takes five bytes more.
_WORTH_IT = 200
_MOST = 256 * 2**20


class CompressingSerializer(SerializerProtocol):
    """Compresses what another serializer writes; what was written without it stays readable.

    Args:
        inner: Makes bytes of values.
    """

    def __init__(self, inner: SerializerProtocol) -> None:
        self._inner = inner

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """The value's type and bytes; the type begins with `zlib+` where they are compressed."""
        kind, data = self._inner.dumps_typed(obj)
        if len(data) < _WORTH_IT:
            return kind, data
        packed = zlib.compress(data, 6)
        return (_PREFIX + kind, packed) if len(packed) < len(data) else (kind, data)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """The value again.

        Raises:
            ValueError: the bytes were changed, or stand for more than 256 MiB.
        """
        kind, packed = data
        if not kind.startswith(_PREFIX):
            return self._inner.loads_typed(data)
        unpacking = zlib.decompressobj()
        try:
            # A changed database shall not be able to fill the memory.
            plain = unpacking.decompress(packed, _MOST)
        except zlib.error as error:
            raise ValueError(f"It cannot be decompressed: {error}.") from error
        if not unpacking.eof:
            raise ValueError("It is cut short, or stands for too much.")
        return self._inner.loads_typed((kind.removeprefix(_PREFIX), plain))


def checkpoint_serializer() -> SerializerProtocol:
    """The serializer of every checkpointer of ours.

    Only JSON-native values and LangGraph's own types are ever read back: a changed database can make no
    class of ours or anybody's come to life.
    """
    return CompressingSerializer(JsonPlusSerializer(allowed_msgpack_modules=[]))
