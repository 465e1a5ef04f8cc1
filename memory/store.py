"""LangGraph's long-term store on Chroma: one collection per namespace.

Chroma knows no prefixes, and its filters are slow over many rows; a collection of its own makes a namespace's
search as fast as its index.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from langgraph.store.base import (
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
)
from numpy.typing import NDArray
from pydantic import SecretStr

from gems.errors import EmbedderMismatchError, InternalError
from gems.memory.chroma import Connection, connect
from gems.memory.embeddings import LEXICAL_SIZE, Embedder, Vector, open_embedder
from gems.memory.matching import is_wanted, namespaces_of, where_clause

T = TypeVar("T")
Namespace = tuple[str, ...]
_PAGE = 500
_NAMESPACE, _EMBEDDER = "gems_namespace", "gems_embedder"
# More neighbours are looked at than by default, and the index is saved more seldom.
_HNSW = {"hnsw": {"space": "cosine", "ef_search": 100, "sync_threshold": 2000, "batch_size": 200}}


@dataclass(frozen=True, slots=True)
class _Put:
    """An item to write: its text, and the vector where that changed."""

    key: str
    metadata: dict[str, Any]
    text: str
    indexed: bool


class ChromaStore(BaseStore):
    """Use `open_store`. A value's `text_indexed` is what it is found by, or else the whole value.

    Args:
        connection: To Chroma.
        spec: The embedder; see `open_embedder`.
        api_key: For the embedder.
    """

    def __init__(self, connection: Connection, spec: str, api_key: SecretStr | None = None) -> None:
        self._connection, self._spec, self._api_key = connection, spec, api_key
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="chroma")
        self._embedder: Embedder | None = None

    @property
    def where(self) -> str:
        """The folder or the address."""
        return self._connection.where

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """The same as `abatch`, for programs without an event loop.

        Raises:
            InternalError: an event loop is running in this thread.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(self.abatch(ops))
        raise InternalError(
            "The store would stop the event loop.", hint="Use `abatch` and the other async methods."
        )

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Carry out operations: what is read is read before anything is written.

        Raises:
            EmbedderMismatchError: what is searched or written was embedded by another embedder.
            StorageError: the store cannot be used.
            GemsError: the embedder does not do its part.
        """
        listed = list(ops)
        results: list[Result] = [None] * len(listed)
        searches = [op for op in listed if isinstance(op, SearchOp)]
        if any(not isinstance(op, PutOp) for op in listed) and not self._connection.is_empty():
            vectors = await self._query_vectors(searches)
            await self._on_thread(lambda client: self._read(client, listed, vectors, results))
        else:
            for place, op in enumerate(listed):
                results[place] = [] if isinstance(op, SearchOp | ListNamespacesOp) else None
        if puts := [op for op in listed if isinstance(op, PutOp)]:
            await self._put(puts)
        return results

    async def vectors(self, namespace: Namespace) -> tuple[list[str], NDArray[np.float32]]:
        """All keys of a namespace and their unit vectors, `[len(keys), dimensions]` float32."""
        rows = await self._pages(namespace, ["embeddings"])
        keys = [key for page in rows for key in page["ids"]]
        found = [np.asarray(page["embeddings"], dtype=np.float32) for page in rows if page["ids"]]
        return keys, np.concatenate(found) if found else np.zeros((0, LEXICAL_SIZE), dtype=np.float32)

    async def count(self, namespace: Namespace) -> int:
        """How many items a namespace has."""
        if self._connection.is_empty():
            return 0

        def counted(client: Any) -> int:
            collection = _existing(client).get(namespace)
            return collection.count() if collection is not None else 0

        return await self._on_thread(counted)

    async def items(self, namespace: Namespace, limit: int | None = None, offset: int = 0) -> list[Item]:
        """The items of a namespace in the order they came."""
        pages = await self._pages(namespace, ["metadatas"], limit, offset)
        return [
            Item(**_item(namespace, key, metadata))
            for page in pages
            for key, metadata in zip(page["ids"], page["metadatas"], strict=True)
        ]

    async def embedder_identities(self) -> set[str]:
        """What the vectors in the store came from."""
        if self._connection.is_empty():
            return set()
        return await self._on_thread(lambda c: {x.metadata[_EMBEDDER] for x in _existing(c).values()})

    async def embedder(self) -> Embedder:
        """The embedder; which one `auto` takes depends on what the store was filled with."""
        if self._embedder is None:
            recorded = await self.embedder_identities() if self._spec == "auto" else set()
            known = recorded.pop() if len(recorded) == 1 else None
            self._embedder = open_embedder(self._spec, api_key=self._api_key, recorded=known)
        return self._embedder

    async def reindex(self, progress: Callable[[int], None] | None = None) -> int:
        """Embed everything anew whose vectors came from another embedder; how many items that were.

        A collection is made anew beside the old one and put in its place whole, so that a process which dies
        meanwhile loses nothing.

        Args:
            progress: Told how many items are done.
        """
        embedder = await self.embedder()
        if self._connection.is_empty():
            return 0
        await self._on_thread(_tidied, writing=True)
        done = 0
        for namespace in await self._on_thread(lambda c: _of_others(c, embedder.identity)):
            async for count in self._embedded_anew(namespace, embedder):
                done += count
                if progress is not None:
                    progress(done)
            await self._on_thread(partial(_swapped, namespace=namespace), writing=True)
        return done

    async def _embedded_anew(self, namespace: Namespace, embedder: Embedder) -> AsyncIterator[int]:
        """Fill a collection beside the old one; how many items each page has."""
        new = f"{_name(namespace)}-new"
        identity = embedder.identity
        await self._on_thread(lambda client: _created(client, namespace, identity, new), writing=True)
        for page in await self._pages(namespace, ["metadatas"]):
            vectors = await embedder.embed([metadata["text"] for metadata in page["metadatas"]])
            filling = partial(_filled, name=new, page=page, vectors=vectors)
            await self._on_thread(filling, writing=True)
            yield len(page["ids"])

    async def clear(self) -> str:
        """Begin anew with an empty store; where the old one is now, empty where it is gone.

        Raises:
            StorageError: the old one cannot be moved or removed.
        """
        self._embedder = None
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.clear)

    async def aclose(self) -> None:
        """Let go of the connection."""
        # Not on the thread, which takes nothing more once the interpreter ends.
        self._thread.shutdown()
        self._connection.close()

    async def _on_thread(self, doing: Callable[[Any], T], *, writing: bool = False) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: self._connection.use(doing, writing=writing))

    async def _pages(
        self, namespace: Namespace, include: list[str], limit: int | None = None, offset: int = 0
    ) -> list[dict[str, Any]]:
        if self._connection.is_empty():
            return []

        def read(client: Any) -> list[dict[str, Any]]:
            collection = _existing(client).get(namespace)
            if collection is None:
                return []
            end = collection.count() if limit is None else offset + limit
            return [
                collection.get(limit=min(_PAGE, end - start), offset=start, include=include)
                for start in range(offset, end, _PAGE)
            ]

        return await self._on_thread(read)

    async def _query_vectors(self, searches: Sequence[SearchOp]) -> dict[str, Vector]:
        queries = list(dict.fromkeys(op.query for op in searches if op.query))
        if not queries:
            return {}
        prefixes = [op.namespace_prefix for op in searches if op.query]
        known = await self._on_thread(lambda c: {n: x.metadata[_EMBEDDER] for n, x in _existing(c).items()})
        touched = {known[n] for n in known if any(n[: len(p)] == p for p in prefixes)}
        # A query is not paid for where there is nothing to find.
        if not touched:
            return {}
        embedder = await self.embedder()
        self._check(touched, embedder)
        return dict(zip(queries, await embedder.embed(queries), strict=True))

    def _check(self, identities: set[str], embedder: Embedder) -> None:
        others = identities - {embedder.identity}
        if others:
            raise EmbedderMismatchError(
                f"The store of experiences {self.where} was filled by the embedder "
                f"{', '.join(sorted(others))}, "
                f"and {embedder.identity} is set now: their vectors cannot be compared."
            )

    def _read(
        self, client: Any, ops: Sequence[Op], vectors: dict[str, Vector], results: list[Result]
    ) -> None:
        collections = _existing(client)
        by_place: dict[Namespace, dict[int, str]] = {}
        for place, op in enumerate(ops):
            if isinstance(op, GetOp):
                by_place.setdefault(op.namespace, {})[place] = op.key
            elif isinstance(op, SearchOp):
                results[place] = _searched(collections, op, vectors)
            elif isinstance(op, ListNamespacesOp):
                results[place] = namespaces_of(list(collections), op)
        for namespace, keys in by_place.items():
            if namespace in collections:
                found = _got(collections[namespace], list(keys.values()))
                for place, key in keys.items():
                    results[place] = Item(**_item(namespace, key, found[key])) if key in found else None

    async def _put(self, ops: Sequence[PutOp]) -> None:
        latest: dict[Namespace, dict[str, PutOp]] = {}
        for op in ops:
            latest.setdefault(op.namespace, {})[op.key] = op
        for namespace, by_key in latest.items():
            gone = [key for key, op in by_key.items() if op.value is None]
            if gone and not self._connection.is_empty():
                await self._on_thread(partial(_removed, namespace=namespace, keys=gone), writing=True)
            if written := [_prepared(op) for op in by_key.values() if op.value is not None]:
                await self._write(namespace, written)

    async def _write(self, namespace: Namespace, written: Sequence[_Put]) -> None:
        embedder = await self.embedder()
        known: dict[str, dict[str, Any]] = {}
        if not self._connection.is_empty():
            keys = [put.key for put in written]
            known = await self._on_thread(lambda client: self._known(client, namespace, keys, embedder))
        for put in written:
            # Whoever writes an item again keeps the moment it came.
            put.metadata["created"] = known.get(put.key, put.metadata)["created"]
            put.metadata["embedder"] = embedder.identity
        changed = [put for put in written if _looks_other(known.get(put.key), put)]
        vectors = await embedder.embed([put.text for put in changed if put.indexed])
        await self._on_thread(
            lambda client: _written(client, namespace, embedder.identity, written, changed, vectors),
            writing=True,
        )

    def _known(
        self, client: Any, namespace: Namespace, keys: list[str], embedder: Embedder
    ) -> dict[str, dict[str, Any]]:
        collection = _existing(client).get(namespace)
        if collection is None:
            return {}
        self._check({collection.metadata[_EMBEDDER]}, embedder)
        return _got(collection, keys)


@asynccontextmanager
async def open_store(
    where: str, folder: Path, spec: str, api_key: SecretStr | None = None
) -> AsyncIterator[ChromaStore]:
    """A store that is reached for only once it is used.

    Args:
        where: `http://host:port` of a Chroma server; empty for the folder.
        folder: The local folder.
        spec: The embedder; see `open_embedder`.
        api_key: For the embedder.

    Raises:
        ConfigurationError: `where` or `spec` is not understood.
    """
    if spec != "auto":
        open_embedder(spec, api_key=api_key)
    store = ChromaStore(connect(where, folder), spec, api_key)
    try:
        yield store
    finally:
        await store.aclose()


def _name(namespace: Namespace) -> str:
    return f"gems-{hashlib.sha256(json.dumps(namespace).encode()).hexdigest()[:40]}"


def _existing(client: Any) -> dict[Namespace, Any]:
    """All collections of ours that are whole, by namespace."""
    found = {}
    for collection in client.list_collections():
        metadata = collection.metadata or {}
        if _NAMESPACE in metadata and not collection.name.endswith(("-new", "-old")):
            found[tuple(json.loads(metadata[_NAMESPACE]))] = collection
    return found


def _created(client: Any, namespace: Namespace, identity: str, name: str) -> Any:
    metadata = {_NAMESPACE: json.dumps(namespace), _EMBEDDER: identity}
    return client.get_or_create_collection(
        name, embedding_function=None, metadata=metadata, configuration=_HNSW
    )


def _got(collection: Any, keys: list[str]) -> dict[str, dict[str, Any]]:
    if not keys:
        return {}
    found = collection.get(ids=list(dict.fromkeys(keys)), include=["metadatas"])
    return dict(zip(found["ids"], found["metadatas"], strict=True))


def _searched(
    collections: dict[Namespace, Any], op: SearchOp, vectors: dict[str, Vector]
) -> list[SearchItem]:
    prefix, found = op.namespace_prefix, list[tuple[float | None, Namespace, str, dict[str, Any]]]()
    end = op.offset + op.limit
    for namespace in sorted(collections):
        if namespace[: len(prefix)] == prefix:
            found += _in_one(collections[namespace], namespace, op, vectors, end)
    if op.query:
        found.sort(key=lambda row: -(row[0] or 0.0))
    return [
        SearchItem(**_item(namespace, key, metadata), score=score)
        for score, namespace, key, metadata in found[op.offset : end]
    ]


def _in_one(
    collection: Any, namespace: Namespace, op: SearchOp, vectors: dict[str, Vector], end: int
) -> list[tuple[float | None, Namespace, str, dict[str, Any]]]:
    where, is_exact = where_clause(op.filter or {})
    if op.query:
        # Where Chroma cannot tell what fits, everything is looked at.
        most = end if is_exact else collection.count()
        got = collection.query(
            query_embeddings=[vectors[op.query]],
            n_results=max(1, min(most, collection.count())),
            where=where,
            include=["metadatas", "distances"],
        )
        rows = zip(got["ids"][0], got["metadatas"][0], got["distances"][0], strict=True)
        hits = [(1.0 - distance, key, meta) for key, meta, distance in rows if meta["indexed"]]
    else:
        got = collection.get(where=where, limit=end if is_exact else None, include=["metadatas"])
        hits = [(None, key, meta) for key, meta in zip(got["ids"], got["metadatas"], strict=True)]
    return [
        (score, namespace, key, meta)
        for score, key, meta in hits
        if is_exact or is_wanted(json.loads(meta["value"]), op.filter or {})
    ]


def _prepared(op: PutOp) -> _Put:
    value = dict(op.value or {})
    flat = {
        f"f_{name}": given for name, given in value.items() if isinstance(given, str | int | float | bool)
    }
    text = _text_of(value, op.index)
    now = datetime.now(UTC).isoformat()
    metadata = {
        **{name: given for name, given in flat.items() if name not in ("f_text", "f_text_indexed")},
        "value": json.dumps(value, ensure_ascii=False),
        "text": text,
        "indexed": op.index is not False,
        "created": now,
        "updated": now,
    }
    return _Put(op.key, metadata, text, op.index is not False)


def _text_of(value: dict[str, Any], index: Any) -> str:
    if isinstance(index, list) and index != ["$"]:
        return "\n".join(str(value.get(name, "")) for name in index)
    return str(value.get("text_indexed") or json.dumps(value, ensure_ascii=False))


def _looks_other(known: dict[str, Any] | None, put: _Put) -> bool:
    return known is None or known["text"] != put.text or known["indexed"] != put.indexed


def _written(
    client: Any,
    namespace: Namespace,
    identity: str,
    written: Sequence[_Put],
    changed: Sequence[_Put],
    vectors: Sequence[Vector],
) -> None:
    collection = _existing(client).get(namespace) or _created(client, namespace, identity, _name(namespace))
    left = iter(vectors)
    if changed:
        # Chroma wants a vector of everything; what is not to be found is left out of what a search finds.
        blank = np.zeros(len(vectors[0]) if vectors else LEXICAL_SIZE, dtype=np.float32)
        blank[0] = 1.0
        collection.upsert(
            ids=[put.key for put in changed],
            metadatas=[put.metadata for put in changed],
            embeddings=[next(left) if put.indexed else blank for put in changed],
        )
    if kept := [put for put in written if put not in changed]:
        collection.update(ids=[put.key for put in kept], metadatas=[put.metadata for put in kept])


def _removed(client: Any, namespace: Namespace, keys: list[str]) -> None:
    collection = _existing(client).get(namespace)
    if collection is not None:
        collection.delete(ids=keys)


def _item(namespace: Namespace, key: str, metadata: dict[str, Any]) -> dict[str, Any]:
    return {
        "namespace": namespace,
        "key": key,
        "value": json.loads(metadata["value"]),
        "created_at": datetime.fromisoformat(metadata["created"]),
        "updated_at": datetime.fromisoformat(metadata["updated"]),
    }


def _of_others(client: Any, identity: str) -> list[Namespace]:
    return [n for n, found in _existing(client).items() if found.metadata[_EMBEDDER] != identity]


def _filled(client: Any, name: str, page: dict[str, Any], vectors: Sequence[Vector]) -> None:
    collection = client.get_collection(name, embedding_function=None)
    identity = collection.metadata[_EMBEDDER]
    metadatas = [{**metadata, "embedder": identity} for metadata in page["metadatas"]]
    collection.upsert(ids=page["ids"], metadatas=metadatas, embeddings=list(vectors))


def _swapped(client: Any, namespace: Namespace) -> None:
    name = _name(namespace)
    client.get_collection(name, embedding_function=None).modify(name=f"{name}-old")
    client.get_collection(f"{name}-new", embedding_function=None).modify(name=name)
    client.delete_collection(f"{name}-old")


def _tidied(client: Any) -> None:
    """Put right what a process left that died while it embedded anew."""
    names = {collection.name for collection in client.list_collections()}
    for name in names:
        plain = name.removesuffix("-old").removesuffix("-new")
        if name.endswith("-old") and plain not in names:
            client.get_collection(name, embedding_function=None).modify(name=plain)
        elif name.endswith(("-old", "-new")) and name.startswith("gems-"):
            client.delete_collection(name)
