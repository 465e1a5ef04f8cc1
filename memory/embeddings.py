"""What texts are found by: unit vectors from a model, or from their words alone."""

from __future__ import annotations

import asyncio
import importlib.util
import math
import os
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import httpx
import numpy as np
from numpy.typing import NDArray
from pydantic import SecretStr
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from gems.errors import (
    AuthenticationError,
    ConfigurationError,
    MissingExtraError,
    ModelUnavailableError,
    ProviderError,
    RejectedRequestError,
    ServerError,
    UnreachableError,
    UnreadableReplyError,
)
from gems.models.limiting import MAX_CHAT_BYTES, PLAIN, limited
from gems.models.specs import checked_url
from gems.observability.redaction import redact

Vector = NDArray[np.float32]
LEXICAL_SIZE = 384
_LEXICAL = "lexical:1/384"
_WORD = re.compile(r"\w+")
_WIDE = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff]")
_OPENAI = "https://api.openai.com/v1"
_TIMEOUT_S = 30.0
_ATTEMPTS = 3


class Embedder(Protocol):
    """Turns texts into unit vectors."""

    @property
    def identity(self) -> str:
        """What the vectors came from: those of another identity cannot be compared with them."""
        ...

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """One unit vector per text, float32, all of one length.

        Raises:
            GemsError: the model does not answer or cannot be loaded.
        """
        ...


def open_embedder(spec: str, *, api_key: SecretStr | None = None, recorded: str | None = None) -> Embedder:
    """The embedder that a setting names; nothing is loaded yet.

    Args:
        spec: `lexical`, `minilm`, `local:DIR`, `openai:MODEL@BASE_URL`, or `auto`: the one that the store
            was filled with, else MiniLM where its files are on the disk, else lexical.
        api_key: For `openai:`.
        recorded: The identity that the store was filled with, if any.

    Raises:
        ConfigurationError: the spec is not understood.
    """
    kind, _, rest = spec.partition(":")
    wrong = ConfigurationError(
        f"{redact(spec)[:80]!r} is no embedder.",
        hint="Set GEMS_EMBEDDER to auto, lexical, minilm, local:DIR or openai:MODEL@BASE_URL.",
    )
    if spec == "auto":
        return open_embedder(_best(recorded), api_key=api_key)
    if spec in ("lexical", _LEXICAL):
        return LexicalEmbedder()
    if spec == "minilm":
        return MiniLmEmbedder()
    if kind == "local" and rest:
        return LocalEmbedder(Path(rest).expanduser())
    if kind == "openai" and rest:
        model, at, base = rest.partition("@")
        return OpenAIEmbedder(model, checked_url(base, wrong) if at else _OPENAI, api_key)
    raise wrong


def _best(recorded: str | None) -> str:
    # A store, which may be somebody else's server, does not decide where prompts and a key are sent.
    if recorded is not None and not recorded.startswith("openai:"):
        return recorded
    return "minilm" if MiniLmEmbedder.is_on_disk() else "lexical"


class LexicalEmbedder:
    """Words, pairs of words and parts of words, hashed: needs nothing, and finds what is worded alike."""

    identity = _LEXICAL

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """See `Embedder`."""
        return await asyncio.to_thread(lambda: [lexical_vector(text) for text in texts])


def lexical_vector(text: str) -> Vector:
    """The unit vector of a text, float32 of length 384. Blocking, about 0.3 ms for a hundred words."""
    words = _WORD.findall(text.lower())
    total = np.zeros(LEXICAL_SIZE, dtype=np.float32)
    for word, count in Counter(words).items():
        total += _weight(word) * (1 + math.log(count)) * _word_vector(word)
    pairs = Counter(pairwise(words))
    for pair, count in pairs.items():
        _add(total, "\x1f".join(pair), 0.5 * min(map(_weight, pair)) * (1 + math.log(count)))
    # Nothing to go by: all such texts are alike, and like no other.
    norm = float(np.linalg.norm(total))
    if norm == 0:
        total[0] = norm = 1.0
    return total / np.float32(norm)


def _weight(word: str) -> float:
    """Short words of alphabets say little."""
    return 1.0 if _WIDE.search(word) or word.isdigit() else min(1.0, len(word) / 4)


@lru_cache(maxsize=20_000)
def _word_vector(word: str) -> Vector:
    vector = np.zeros(LEXICAL_SIZE, dtype=np.float32)
    _add(vector, f"\x1e{word}", 1.0)
    # Chinese, Japanese and Korean words have few signs, each of which says much.
    lengths, padded = ((1, 2, 3), word) if _WIDE.search(word) else ((3, 4, 5), f"<{word}>")
    parts = [padded[i : i + n] for n in lengths for i in range(len(padded) - n + 1)]
    for part in parts:
        _add(vector, part, 1.0 / math.sqrt(len(parts)))
    return vector


def _add(vector: Vector, feature: str, weight: float) -> None:
    # Not Python's own hash, which differs from process to process.
    hashed = zlib.crc32(feature.encode())
    vector[hashed % LEXICAL_SIZE] += weight if hashed & 0x8000_0000 else -weight


class MiniLmEmbedder:
    """all-MiniLM-L6-v2 by ONNX as Chroma ships it; its files are fetched at first use."""

    identity = "minilm"

    def __init__(self) -> None:
        self._model: Any = None
        self._lock = asyncio.Lock()

    @staticmethod
    def is_on_disk() -> bool:
        """Whether the files are where Chroma puts them."""
        folder = Path.home() / ".cache" / "chroma" / "onnx_models" / "all-MiniLM-L6-v2" / "onnx"
        return (folder / "model.onnx").exists()

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """See `Embedder`."""
        async with self._lock:
            return await asyncio.to_thread(self._embed, list(texts))

    def _embed(self, texts: list[str]) -> list[Vector]:
        from chromadb.utils.embedding_functions import ONNXMiniLM_L6_V2  # noqa: PLC0415 - heavy

        try:
            self._model = self._model or ONNXMiniLM_L6_V2(preferred_providers=["CPUExecutionProvider"])
            return [unit(vector) for vector in self._model(texts)]
        except (OSError, ValueError, RuntimeError, httpx.HTTPError) as error:
            raise ConfigurationError(
                f"The embedding model MiniLM cannot be loaded or fetched ({type(error).__name__}).",
                hint="Check the network, or set GEMS_EMBEDDER=lexical, which needs nothing.",
            ) from error


class LocalEmbedder:
    """A sentence-transformers model in a folder.

    Args:
        folder: The model's files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._model: Any = None
        self._lock = asyncio.Lock()

    @property
    def identity(self) -> str:
        """The folder's whole path, so that it can be opened by it again."""
        return f"local:{self._folder}"

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """See `Embedder`."""
        async with self._lock:
            return await asyncio.to_thread(self._embed, list(texts))

    def _embed(self, texts: list[str]) -> list[Vector]:
        if not self._folder.is_dir():
            raise ConfigurationError(f"There is no folder {self._folder} with an embedding model.")
        if importlib.util.find_spec("sentence_transformers") is None:
            raise MissingExtraError(f"The embedder {self.identity}", "embeddings")
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - heavy

        self._model = self._model or SentenceTransformer(str(self._folder), local_files_only=True)
        return [unit(vector) for vector in self._model.encode(texts)]


class OpenAIEmbedder:
    """Any server with OpenAI's `/embeddings`.

    Args:
        model: The model's name there.
        base_url: For example `http://127.0.0.1:8000/v1`.
        api_key: OPENAI_API_KEY for OpenAI's own address where None; it is sent nowhere else.
    """

    def __init__(self, model: str, base_url: str, api_key: SecretStr | None) -> None:
        self._model, self._base = model, base_url.rstrip("/")
        own = os.environ.get("OPENAI_API_KEY", "") if self._base == _OPENAI else ""
        self._key = api_key.get_secret_value() if api_key else own

    @property
    def identity(self) -> str:
        """Model and server."""
        at = "" if self._base == _OPENAI else f"@{self._base}"
        return f"openai:{self._model}{at}"

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """See `Embedder`."""
        retrying = AsyncRetrying(
            retry=retry_if_exception_type((UnreachableError, ServerError)),
            stop=stop_after_attempt(_ATTEMPTS),
            wait=wait_exponential_jitter(multiplier=0.2, max=5),
            reraise=True,
        )
        return await retrying(self._asked, list(texts))

    async def _asked(self, texts: list[str]) -> list[Vector]:
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        try:
            async with httpx.AsyncClient(
                timeout=_TIMEOUT_S, headers=PLAIN, event_hooks=limited(MAX_CHAT_BYTES)
            ) as client:
                reply = await client.post(
                    f"{self._base}/embeddings",
                    json={"model": self._model, "input": texts, "encoding_format": "float"},
                    headers=headers,
                )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UnreachableError(
                f"The embedder {self.identity} does not answer ({type(error).__name__})."
            ) from None
        if reply.is_error:
            raise _refusal(self.identity, reply.status_code, redact(reply.text, self._key)[:200])
        try:
            rows = sorted(reply.json()["data"], key=lambda row: row["index"])
            vectors = [unit(row["embedding"]) for row in rows]
        except (ValueError, KeyError, TypeError) as error:
            raise UnreadableReplyError(f"The embedder {self.identity} sent no embeddings.") from error
        if len(vectors) != len(texts):
            raise UnreadableReplyError(
                f"{self.identity} sent {len(vectors)} embeddings for {len(texts)} texts."
            )
        return vectors


def _refusal(who: str, status: int, said: str) -> ProviderError | ConfigurationError:
    message = f"The embedder {who} answered {status}: {said}"
    if status in (401, 403):
        return AuthenticationError(message, hint="Check GEMS_EMBEDDER_API_KEY.")
    if status == 404:
        return ModelUnavailableError(message, hint="Check GEMS_EMBEDDER.")
    return ServerError(message) if status >= 500 or status == 429 else RejectedRequestError(message)


def unit(vector: Any) -> Vector:
    """The vector at length 1."""
    found = np.asarray(vector, dtype=np.float32)
    return found / max(float(np.linalg.norm(found)), 1e-12)
