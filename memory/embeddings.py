"""Text embedders: unit vectors from a model, or from the words alone."""

from __future__ import annotations

import asyncio
import importlib.util
import math
import os
import re
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import httpx
import numpy as np
from numpy.typing import NDArray
from pydantic import SecretStr

from gems.errors import ConfigurationError, MissingExtraError, UnreachableError, UnreadableReplyError
from gems.models.http import (
    MAX_EMBEDDING_BYTES,
    error_from_status,
    make_client_options,
    parse_retry_after,
    with_retries,
)
from gems.models.specs import check_url
from gems.observability.redaction import redact

Vector = NDArray[np.float32]
LEXICAL_SIZE = 384
_LEXICAL = "lexical:1/384"
_WORD = re.compile(r"\w+")
_CJK = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff]")
_OPENAI_URL = "https://api.openai.com/v1"
_TIMEOUT_S = 30.0


class Embedder(Protocol):
    """Embeds texts as unit vectors."""

    @property
    def identity(self) -> str:
        """Source of the vectors; vectors of different identities cannot be compared."""

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """Return one unit vector per text, float32, all of one length; GemsError if the model fails."""


def open_embedder(spec: str, *, api_key: SecretStr | None = None, recorded: str | None = None) -> Embedder:
    """Return the embedder for a setting, without loading anything; ConfigurationError if `spec` is invalid.

    `spec` is `lexical`, `minilm`, `local:DIR`, `openai:MODEL@BASE_URL` or `auto`: the identity `recorded` in
    the store, else MiniLM if its files are on the disk, else lexical.
    """
    if spec == "auto":
        # A store may be somebody else's server, so it must not decide where prompts and a key are sent.
        is_known = recorded is not None and not recorded.startswith("openai:")
        spec = recorded if recorded and is_known else "minilm" if MiniLmEmbedder.is_on_disk() else "lexical"
    kind, _, rest = spec.partition(":")
    invalid = ConfigurationError(
        f"Invalid embedder: {redact(spec)[:80]!r}.",
        hint="Set GEMS_EMBEDDER to auto, lexical, minilm, local:DIR or openai:MODEL@BASE_URL.",
    )
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
    for pair, count in Counter(pairwise(words)).items():
        _add_feature(total, "\x1f".join(pair), 0.5 * min(map(_weight, pair)) * (1 + math.log(count)))
    # Texts without words are all alike, and unlike any other.
    norm = float(np.linalg.norm(total))
    if norm == 0:
        total[0] = norm = 1.0
    return total / np.float32(norm)


def _weight(word: str) -> float:
    # Short words of alphabets mean little.
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


class _ModelEmbedder(ABC):
    """An embedder with a model in this process, which embeds one batch at a time on a thread."""

    def __init__(self) -> None:
        self._model: Any = None
        self._lock = asyncio.Lock()

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        async with self._lock:
            return await asyncio.to_thread(self._embed, list(texts))

    @abstractmethod
    def _embed(self, texts: list[str]) -> list[Vector]: ...


class MiniLmEmbedder(_ModelEmbedder):
    """all-MiniLM-L6-v2 by ONNX as Chroma ships it; downloaded on first use."""

    identity = "minilm"

    @staticmethod
    def is_on_disk() -> bool:
        """Return whether the files are where Chroma stores them."""
        folder = Path.home() / ".cache" / "chroma" / "onnx_models" / "all-MiniLM-L6-v2" / "onnx"
        return (folder / "model.onnx").exists()

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


_LEAST_SENTENCE_TRANSFORMERS = 6
"""Source: its pull request 3935 requires `trust_remote_code` for local folders, too, from 6.0."""


class LocalEmbedder(_ModelEmbedder):
    """A sentence-transformers model in a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        # The whole path, so that the model can be opened from it again.
        self.identity = f"local:{folder}"

    def _embed(self, texts: list[str]) -> list[Vector]:
        if not self._folder.is_dir():
            raise ConfigurationError(f"The folder {self._folder} of the embedding model does not exist.")
        if importlib.util.find_spec("sentence_transformers") is None:
            raise MissingExtraError(f"The embedder {self.identity}", "embeddings")
        found = version("sentence-transformers")
        if int(found.partition(".")[0]) < _LEAST_SENTENCE_TRANSFORMERS:
            raise ConfigurationError(
                f"The embedder {self.identity} needs sentence-transformers {_LEAST_SENTENCE_TRANSFORMERS} or newer, "
                f"since {found} runs code that a model's folder names.",
                hint="Install it with: pip install 'gems-agent[embeddings]' --upgrade",
            )
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - heavy

        self._model = self._model or SentenceTransformer(
            str(self._folder), local_files_only=True, trust_remote_code=False
        )
        return [normalize(vector) for vector in self._model.encode(texts)]


class OpenAIEmbedder:
    """Any server with OpenAI's `/embeddings`. OPENAI_API_KEY is used only for OpenAI's own address."""

    def __init__(self, model: str, base_url: str, api_key: SecretStr | None) -> None:
        self._model, self._base = model, base_url.rstrip("/")
        own = os.environ.get("OPENAI_API_KEY", "") if self._base == _OPENAI_URL else ""
        self._key = api_key.get_secret_value() if api_key else own
        self.identity = f"openai:{model}{'' if self._base == _OPENAI_URL else f'@{self._base}'}"

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        return await with_retries(lambda: self._request(list(texts)), attempts=3, first_wait_s=0.2)

    async def _request(self, texts: list[str]) -> list[Vector]:
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        try:
            async with httpx.AsyncClient(
                **make_client_options(httpx.Limits, _TIMEOUT_S, MAX_EMBEDDING_BYTES)
            ) as client:
                reply = await client.post(
                    f"{self._base}/embeddings",
                    json={"model": self._model, "input": texts, "encoding_format": "float"},
                    headers=headers,
                )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UnreachableError(f"The embedder {self.identity} does not answer ({type(error).__name__}).") from None
        if reply.is_error:
            retry_after = parse_retry_after(reply.headers)
            who = f"The embedder {self.identity}"
            raise error_from_status(reply.status_code, reply.text, who, self._key, retry_after=retry_after)
        try:
            rows = sorted(reply.json()["data"], key=lambda row: row["index"])
            vectors = [normalize(row["embedding"]) for row in rows]
        except (ValueError, KeyError, TypeError) as error:
            raise UnreadableReplyError(f"The embedder {self.identity} sent no embeddings.") from error
        if len(vectors) != len(texts):
            raise UnreadableReplyError(f"{self.identity} sent {len(vectors)} embeddings for {len(texts)} texts.")
        return vectors


def normalize(vector: Any) -> Vector:
    """Scale the vector to length 1."""
    array = np.asarray(vector, dtype=np.float32)
    return array / max(float(np.linalg.norm(array)), 1e-12)
