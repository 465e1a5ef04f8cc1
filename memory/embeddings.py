"""Text embedders: unit vectors from a model, or from the words alone."""

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
from gems.models.http import MAX_CHAT_BYTES, UNCOMPRESSED, max_response_size
from gems.models.specs import check_url
from gems.observability.redaction import redact

Vector = NDArray[np.float32]
LEXICAL_SIZE = 384
_LEXICAL = "lexical:1/384"
_WORD = re.compile(r"\w+")
_CJK = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff]")
_OPENAI_URL = "https://api.openai.com/v1"
_TIMEOUT_S = 30.0
_ATTEMPTS = 3


class Embedder(Protocol):
    """Embeds texts as unit vectors."""

    @property
    def identity(self) -> str:
        """Source of the vectors; vectors of different identities cannot be compared."""
        ...

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """Return one unit vector per text, float32, all of one length.

        Raises:
            GemsError: the model does not answer or cannot be loaded.
        """
        ...


def open_embedder(spec: str, *, api_key: SecretStr | None = None, recorded: str | None = None) -> Embedder:
    """Return the embedder for a setting; nothing is loaded yet.

    Args:
        spec: `lexical`, `minilm`, `local:DIR`, `openai:MODEL@BASE_URL`, or `auto`: the one that the store
            was filled with, else MiniLM if its files are on the disk, else lexical.
        api_key: For `openai:`.
        recorded: The identity that the store was filled with, if any.

    Raises:
        ConfigurationError: the spec is invalid.
    """
    kind, _, rest = spec.partition(":")
    invalid = ConfigurationError(
        f"Invalid embedder: {redact(spec)[:80]!r}.",
        hint="Set GEMS_EMBEDDER to auto, lexical, minilm, local:DIR or openai:MODEL@BASE_URL.",
    )
    if spec == "auto":
        return open_embedder(_choose_automatically(recorded), api_key=api_key)
    if spec in ("lexical", _LEXICAL):
        return LexicalEmbedder()
    if spec == "minilm":
        return MiniLmEmbedder()
    if kind == "local" and rest:
        return LocalEmbedder(Path(rest).expanduser())
    if kind == "openai" and rest:
        model, at, base = rest.partition("@")
        return OpenAIEmbedder(model, check_url(base, invalid) if at else _OPENAI_URL, api_key)
    raise invalid


def _choose_automatically(recorded: str | None) -> str:
    # A store may be somebody else's server, so it must not decide where prompts and a key are sent.
    if recorded is not None and not recorded.startswith("openai:"):
        return recorded
    return "minilm" if MiniLmEmbedder.is_on_disk() else "lexical"


class LexicalEmbedder:
    """Hashed words, pairs of words and parts of words: needs no model, and finds similar wording."""

    identity = _LEXICAL

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        return await asyncio.to_thread(lambda: [lexical_vector(text) for text in texts])


def lexical_vector(text: str) -> Vector:
    """Return the unit vector of a text, float32 of length 384. Blocks for about 0.3 ms per hundred words."""
    words = _WORD.findall(text.lower())
    total = np.zeros(LEXICAL_SIZE, dtype=np.float32)
    for word, count in Counter(words).items():
        total += _weight(word) * (1 + math.log(count)) * _word_vector(word)
    pairs = Counter(pairwise(words))
    for pair, count in pairs.items():
        _add_feature(total, "\x1f".join(pair), 0.5 * min(map(_weight, pair)) * (1 + math.log(count)))
    # Texts without words are all alike, and unlike any other.
    norm = float(np.linalg.norm(total))
    if norm == 0:
        total[0] = norm = 1.0
    return total / np.float32(norm)


def _weight(word: str) -> float:
    """Weigh short words of alphabets less, since they mean little."""
    return 1.0 if _CJK.search(word) or word.isdigit() else min(1.0, len(word) / 4)


@lru_cache(maxsize=20_000)
def _word_vector(word: str) -> Vector:
    vector = np.zeros(LEXICAL_SIZE, dtype=np.float32)
    _add_feature(vector, f"\x1e{word}", 1.0)
    # Chinese, Japanese and Korean words have few characters, each of which means much.
    lengths, padded = ((1, 2, 3), word) if _CJK.search(word) else ((3, 4, 5), f"<{word}>")
    parts = [padded[i : i + n] for n in lengths for i in range(len(padded) - n + 1)]
    for part in parts:
        _add_feature(vector, part, 1.0 / math.sqrt(len(parts)))
    return vector


def _add_feature(vector: Vector, feature: str, weight: float) -> None:
    # Python's own hash differs from process to process.
    hashed = zlib.crc32(feature.encode())
    vector[hashed % LEXICAL_SIZE] += weight if hashed & 0x8000_0000 else -weight


class MiniLmEmbedder:
    """all-MiniLM-L6-v2 by ONNX as Chroma ships it; downloaded on first use."""

    identity = "minilm"

    def __init__(self) -> None:
        self._model: Any = None
        self._lock = asyncio.Lock()

    @staticmethod
    def is_on_disk() -> bool:
        """Return whether the files are where Chroma stores them."""
        folder = Path.home() / ".cache" / "chroma" / "onnx_models" / "all-MiniLM-L6-v2" / "onnx"
        return (folder / "model.onnx").exists()

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        async with self._lock:
            return await asyncio.to_thread(self._embed, list(texts))

    def _embed(self, texts: list[str]) -> list[Vector]:
        from chromadb.utils.embedding_functions import ONNXMiniLM_L6_V2  # noqa: PLC0415 - heavy

        try:
            self._model = self._model or ONNXMiniLM_L6_V2(preferred_providers=["CPUExecutionProvider"])
            return [normalize(vector) for vector in self._model(texts)]
        except (OSError, ValueError, RuntimeError, httpx.HTTPError) as error:
            raise ConfigurationError(
                f"The embedding model MiniLM cannot be loaded or downloaded ({type(error).__name__}).",
                hint="Check the network, or set GEMS_EMBEDDER=lexical, which needs no model.",
            ) from error


class LocalEmbedder:
    """A sentence-transformers model in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._model: Any = None
        self._lock = asyncio.Lock()

    @property
    def identity(self) -> str:
        """Contains the whole path, so that the model can be opened from it again."""
        return f"local:{self._folder}"

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        async with self._lock:
            return await asyncio.to_thread(self._embed, list(texts))

    def _embed(self, texts: list[str]) -> list[Vector]:
        if not self._folder.is_dir():
            raise ConfigurationError(f"The folder {self._folder} of the embedding model does not exist.")
        if importlib.util.find_spec("sentence_transformers") is None:
            raise MissingExtraError(f"The embedder {self.identity}", "embeddings")
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - heavy

        self._model = self._model or SentenceTransformer(str(self._folder), local_files_only=True)
        return [normalize(vector) for vector in self._model.encode(texts)]


class OpenAIEmbedder:
    """Any server with OpenAI's `/embeddings`.

    Args:
        model: The model's name there.
        base_url: For example `http://127.0.0.1:8000/v1`.
        api_key: If None, OPENAI_API_KEY is used, and only for OpenAI's own address.
    """

    def __init__(self, model: str, base_url: str, api_key: SecretStr | None) -> None:
        self._model, self._base = model, base_url.rstrip("/")
        own = os.environ.get("OPENAI_API_KEY", "") if self._base == _OPENAI_URL else ""
        self._key = api_key.get_secret_value() if api_key else own

    @property
    def identity(self) -> str:
        at = "" if self._base == _OPENAI_URL else f"@{self._base}"
        return f"openai:{self._model}{at}"

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        retrying = AsyncRetrying(
            retry=retry_if_exception_type((UnreachableError, ServerError)),
            stop=stop_after_attempt(_ATTEMPTS),
            wait=wait_exponential_jitter(multiplier=0.2, max=5),
            reraise=True,
        )
        return await retrying(self._request, list(texts))

    async def _request(self, texts: list[str]) -> list[Vector]:
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        try:
            async with httpx.AsyncClient(
                timeout=_TIMEOUT_S, headers=UNCOMPRESSED, event_hooks=max_response_size(MAX_CHAT_BYTES)
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
            raise _http_error(self.identity, reply.status_code, redact(reply.text, self._key)[:200])
        try:
            rows = sorted(reply.json()["data"], key=lambda row: row["index"])
            vectors = [normalize(row["embedding"]) for row in rows]
        except (ValueError, KeyError, TypeError) as error:
            raise UnreadableReplyError(f"The embedder {self.identity} sent no embeddings.") from error
        if len(vectors) != len(texts):
            raise UnreadableReplyError(
                f"{self.identity} sent {len(vectors)} embeddings for {len(texts)} texts."
            )
        return vectors


def _http_error(who: str, status: int, message: str) -> ProviderError | ConfigurationError:
    text = f"The embedder {who} answered {status}: {message}"
    if status in (401, 403):
        return AuthenticationError(text, hint="Check GEMS_EMBEDDER_API_KEY.")
    if status == 404:
        return ModelUnavailableError(text, hint="Check GEMS_EMBEDDER.")
    return ServerError(text) if status >= 500 or status == 429 else RejectedRequestError(text)


def normalize(vector: Any) -> Vector:
    """Scale the vector to length 1."""
    array = np.asarray(vector, dtype=np.float32)
    return array / max(float(np.linalg.norm(array)), 1e-12)
