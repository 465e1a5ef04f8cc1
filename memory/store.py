"""Store of LangGraph on Chroma, with its filters."""

from __future__ import annotations

import asyncio
import hashlib
import json
import operator
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from langgraph.store.base import (
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    MatchCondition,
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
from gems.memory.embeddings import LEXICAL_SIZE, Embedder, LexicalEmbedder, Vector, open_embedder
from gems.memory.relevance import Relevance, relevance_by_likeness, relevance_by_words, unrelated_texts

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": operator.eq,
    "$ne": operator.ne,
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}
_ORDERED = ("$gt", "$gte", "$lt", "$lte")
T = TypeVar("T")
_PAGE = 500
_MOST_QUERIES = 256
"""Queries whose vectors are remembered."""
# More neighbours are searched than by default, and the index is saved less often.
_HNSW = {"hnsw": {"space": "cosine", "ef_search": 100, "sync_threshold": 2000, "batch_size": 200}}


def where_clause(wanted: dict[str, Any]) -> tuple[dict[str, Any] | None, bool]:
    """Return a filter in Chroma's form, and whether it expresses the whole filter.

    Chroma supports equality of flat fields and order of numbers; for anything else all items must be checked.
    """
    parts: list[dict[str, Any]] = []
    for name, value in wanted.items():
        conditions = value if _is_conditions(value) else {"$eq": value}
        for name_of, limit in conditions.items():
            # An item without the field is unequal, too, but not for Chroma.
            known = name_of in ("$eq", *_ORDERED) and not name.startswith("text")
            if not known or not isinstance(limit, int | float if name_of in _ORDERED else str | int | float):
                return None, False
            parts.append({f"f_{name}": {name_of: limit}})
    return ({"$and": parts} if len(parts) > 1 else next(iter(parts), None)), True


def matches_filter(value: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Return whether an item's value matches a filter; ValueError for an unknown operator."""
    for name, given in wanted.items():
        found = value.get(name)
        for operator_name, limit in (given if _is_conditions(given) else {"$eq": given}).items():
            if operator_name not in _OPERATORS:
                raise ValueError(f"Unknown filter operator: {operator_name!r}. Use $eq, $ne, $gt, $gte, $lt or $lte.")
            is_comparable = operator_name not in _ORDERED or found is not None
            if not is_comparable or not _OPERATORS[operator_name](found, limit):
                return False
    return True


def _is_conditions(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(str(name).startswith("$") for name in value)


def match_namespaces(known: Sequence[tuple[str, ...]], op: ListNamespacesOp) -> list[tuple[str, ...]]:
    """Return the sorted namespaces that match, cut to the requested depth."""
    conditions = op.match_conditions or ()
    fitting = [name for name in known if all(_namespace_matches(name, condition) for condition in conditions)]
    cut = sorted({name[: op.max_depth] if op.max_depth else name for name in fitting})
    return cut[op.offset : op.offset + op.limit]


def _namespace_matches(namespace: tuple[str, ...], condition: MatchCondition) -> bool:
    path, labels = tuple(condition.path), namespace
    if condition.match_type != "prefix":
        path, labels = path[::-1], labels[::-1]
    return len(labels) >= len(path) and all(wanted in ("*", label) for label, wanted in zip(labels, path, strict=False))


Namespace = tuple[str, ...]
_NAMESPACE, _EMBEDDER = "gems_namespace", "gems_embedder"
_LISTED: WeakKeyDictionary[Any, dict[Namespace, Any]] = WeakKeyDictionary()
"""Collections of the open clients of folders: listing takes as long as there are many, one or more for each owner."""
_UNRELATED = "gems-unrelated-"
"""Begins the names of collections without a namespace, which hold the vectors of unrelated texts."""


Metadata = dict[str, Any]
"""An item as Chroma stores it; see `_prepare`."""


class ChromaStore(BaseStore):
    """Store on Chroma. Searches match a value's `text_indexed`, or else the whole value.

    `spec` is a spec of `open_embedder`.
    """

    def __init__(self, connection: Connection, spec: str, api_key: SecretStr | None = None) -> None:
        self._connection, self._spec, self._api_key = connection, spec, api_key
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="chroma")
        self._embedder: Embedder | None = None
        self._queries: dict[str, Vector] = {}
        self._unrelated: NDArray[np.float32] | None = None

    @property
    def where(self) -> str:
        """Folder or address."""
        return self._connection.where

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Run `abatch` without an event loop; InternalError if one is running in this thread."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(self.abatch(ops))
        raise InternalError("The store would block the event loop.", hint="Use `abatch` and the other async methods.")

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Execute operations; all reads come before the first write.

        Raises EmbedderMismatchError if another embedder was used, StorageError, and errors of the embedder.
        """
        listed = list(ops)
        results: list[Result] = [None] * len(listed)
        searches = [op for op in listed if isinstance(op, SearchOp)]
        if any(not isinstance(op, PutOp) for op in listed) and not self._connection.is_empty():
            vectors = await self._query_vectors(searches)
            used = {op.namespace_prefix for op in searches} | {op.namespace for op in listed if isinstance(op, GetOp)}
            await self._on_thread(
                lambda client: self._read(client, listed, vectors, results), indexes=set(map(_collection_name, used))
            )
        else:
            for index, op in enumerate(listed):
                results[index] = [] if isinstance(op, SearchOp | ListNamespacesOp) else None
        if puts := [op for op in listed if isinstance(op, PutOp)]:
            await self._put(puts)
        return results

    async def vectors(self, namespace: Namespace) -> tuple[list[str], NDArray[np.float32]]:
        """Return all keys of a namespace and their unit vectors, `[len(keys), dimensions]` float32."""
        rows = await self._pages(namespace, ["embeddings"])
        keys = [key for page in rows for key in page["ids"]]
        found = [np.asarray(page["embeddings"], dtype=np.float32) for page in rows if page["ids"]]
        return keys, np.concatenate(found) if found else np.zeros((0, LEXICAL_SIZE), dtype=np.float32)

    async def count(self, namespace: Namespace) -> int:
        """Count the items of a namespace."""
        if self._connection.is_empty():
            return 0
        return await self._on_thread(
            lambda c: found.count() if (found := _existing(c).get(namespace)) else 0,
            indexes=[_collection_name(namespace)],
        )

    async def items(self, namespace: Namespace, limit: int | None = None, offset: int = 0) -> list[Item]:
        """Return the items of a namespace in the order they were added."""
        pages = await self._pages(namespace, ["metadatas"], limit, offset)
        return [
            Item(**_item(namespace, key, metadata))
            for page in pages
            for key, metadata in zip(page["ids"], page["metadatas"], strict=True)
        ]

    async def embedder_identities(self) -> set[str]:
        """Return the identities of the embedders of the stored vectors."""
        return set((await self._identities()).values())

    async def _identities(self) -> dict[Namespace, str]:
        if self._connection.is_empty():
            return {}
        return await self._on_thread(lambda c: {n: x.metadata[_EMBEDDER] for n, x in _existing(c).items()})

    async def embedder(self) -> Embedder:
        """Return the embedder; for `auto` it depends on what the store was filled with."""
        if self._embedder is None:
            recorded = await self.embedder_identities() if self._spec == "auto" else set()
            known = recorded.pop() if len(recorded) == 1 else None
            self._embedder = open_embedder(self._spec, api_key=self._api_key, recorded=known)
        return self._embedder

    async def reindex(self, progress: Callable[[int], None] | None = None) -> int:
        """Embed the items of other embedders again; return their number. `progress` gets the number done.

        A new collection is filled beside the old one and replaces it as a whole, so that a process that dies
        meanwhile loses nothing.
        """
        embedder = await self.embedder()
        if self._connection.is_empty():
            return 0
        await self._on_thread(_repair, writing=True)
        done = 0
        known = await self._identities()
        for namespace in [name for name, identity in known.items() if identity != embedder.identity]:
            async for count in self._reembed(namespace, embedder):
                done += count
                if progress is not None:
                    progress(done)
            await self._on_thread(partial(_swap, namespace=namespace), writing=True)
        return done

    async def _reembed(self, namespace: Namespace, embedder: Embedder) -> AsyncIterator[int]:
        """Fill a new collection beside the old one; yield the number of items of each page."""
        new = f"{_collection_name(namespace)}-new"
        identity = embedder.identity
        await self._on_thread(lambda client: _create(client, namespace, identity, new), writing=True)
        for page in await self._pages(namespace, ["metadatas"]):
            vectors = await embedder.embed([metadata["text"] for metadata in page["metadatas"]])
            await self._on_thread(partial(_fill, name=new, page=page, vectors=vectors), writing=True)
            yield len(page["ids"])

    async def clear(self) -> str:
        """Start an empty store; return the path of the old one, or "" if it was deleted."""
        self._embedder, self._unrelated, self._queries = None, None, {}
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.clear)

    async def aclose(self) -> None:
        """Close the connection."""
        # Not on the thread, which accepts no work once the interpreter ends.
        self._thread.shutdown()
        self._connection.close()

    async def _on_thread(
        self, action: Callable[[Any], T], *, writing: bool = False, indexes: Collection[str] = ()
    ) -> T:
        use = partial(self._connection.use, action, writing=writing, indexes=indexes)
        return await asyncio.get_running_loop().run_in_executor(self._thread, use)

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

        return await self._on_thread(read, indexes=[_collection_name(namespace)])

    async def _query_vectors(self, searches: Sequence[SearchOp]) -> dict[str, Vector]:
        queries = list(dict.fromkeys(op.query for op in searches if op.query))
        if not queries:
            return {}
        prefixes = [op.namespace_prefix for op in searches if op.query]
        known = await self._identities()
        touched = {known[n] for n in known if any(n[: len(p)] == p for p in prefixes)}
        # A query is not paid for if there is nothing to find.
        if not touched:
            return {}
        self._check(touched, await self.embedder())
        return await self._embed_queries(queries)

    async def relevances(self, queries: Sequence[str]) -> list[Relevance]:
        """Return what hits need to have to do with each of the queries.

        The unrelated texts by which that is told are embedded once, and their vectors kept in the store. Raises
        StorageError, and errors of the embedder.
        """
        embedder = await self.embedder()
        if isinstance(embedder, LexicalEmbedder):
            return [relevance_by_words(query) for query in queries]
        if self._unrelated is None:
            self._unrelated = await self._unrelated_vectors(embedder)
        vectors, unrelated = await self._embed_queries(queries), self._unrelated
        return [relevance_by_likeness(vectors[query], unrelated) for query in queries]

    async def _unrelated_vectors(self, embedder: Embedder) -> NDArray[np.float32]:
        texts = unrelated_texts()
        identity = json.dumps([embedder.identity, texts])
        name = f"{_UNRELATED}{hashlib.sha256(identity.encode()).hexdigest()[:32]}"
        known = await self._on_thread(partial(_load_vectors, name=name, count=len(texts)))
        if known is not None:
            return known
        vectors = await embedder.embed(texts)
        await self._on_thread(partial(_save_vectors, name=name, vectors=vectors), writing=True)
        return np.stack(vectors)

    async def _embed_queries(self, queries: Sequence[str]) -> dict[str, Vector]:
        """Embed texts that searches look for; those of late are remembered, since one search may follow another."""
        new = [query for query in dict.fromkeys(queries) if query not in self._queries]
        embedder = await self.embedder()
        found = dict(zip(new, await embedder.embed(new), strict=True)) if new else {}
        vectors = {query: found[query] if query in found else self._queries[query] for query in queries}
        # What was asked for last stands last.
        self._queries = {query: vector for query, vector in self._queries.items() if query not in vectors} | vectors
        self._queries = dict(list(self._queries.items())[-_MOST_QUERIES:])
        return vectors

    def _check(self, identities: set[str], embedder: Embedder) -> None:
        others = ", ".join(sorted(identities - {embedder.identity}))
        if others:
            raise EmbedderMismatchError(
                f"The store of experiences {self.where} was filled by the embedder {others}, "
                f"and {embedder.identity} is set now: their vectors cannot be compared."
            )

    def _read(self, client: Any, ops: Sequence[Op], vectors: dict[str, Vector], results: list[Result]) -> None:
        collections = _existing(client)
        gets: dict[Namespace, dict[int, str]] = {}
        for index, op in enumerate(ops):
            if isinstance(op, GetOp):
                gets.setdefault(op.namespace, {})[index] = op.key
            elif isinstance(op, SearchOp):
                results[index] = _search(collections, op, vectors)
            elif isinstance(op, ListNamespacesOp):
                results[index] = match_namespaces(list(collections), op)
        for namespace, keys in gets.items():
            if namespace in collections:
                found = _get(collections[namespace], list(keys.values()))
                for index, key in keys.items():
                    results[index] = Item(**_item(namespace, key, found[key])) if key in found else None

    async def _put(self, ops: Sequence[PutOp]) -> None:
        latest: dict[Namespace, dict[str, PutOp]] = {}
        for op in ops:
            latest.setdefault(op.namespace, {})[op.key] = op
        for namespace, by_key in latest.items():
            gone = [key for key, op in by_key.items() if op.value is None]
            if gone and not self._connection.is_empty():
                delete = partial(_delete, namespace=namespace, keys=gone)
                await self._on_thread(delete, writing=True, indexes=[_collection_name(namespace)])
            if written := {key: _prepare(op) for key, op in by_key.items() if op.value is not None}:
                await self._write(namespace, written)

    async def _write(self, namespace: Namespace, written: dict[str, Metadata]) -> None:
        embedder = await self.embedder()

        def known_items(client: Any) -> dict[str, Metadata]:
            collection = _existing(client).get(namespace)
            if collection is None:
                return {}
            self._check({collection.metadata[_EMBEDDER]}, embedder)
            return _get(collection, list(written))

        indexes = [_collection_name(namespace)]
        known = {} if self._connection.is_empty() else await self._on_thread(known_items, indexes=indexes)
        changed: dict[str, Metadata] = {}
        for key, item in written.items():
            before = known.get(key)
            # A rewritten item keeps its creation time.
            item["created"] = (before or item)["created"]
            item["embedder"] = embedder.identity
            if before is None or any(before[name] != item[name] for name in ("text", "indexed")):
                changed[key] = item
        texts = [item["text"] for item in changed.values() if item["indexed"]]
        vectors = await embedder.embed(texts) if texts else []
        upsert = partial(_upsert, namespace=namespace, identity=embedder.identity, vectors=vectors)
        await self._on_thread(
            lambda client: upsert(client, written=written, changed=changed), writing=True, indexes=indexes
        )


@asynccontextmanager
async def open_store(
    where: str, folder: Path, spec: str, api_key: SecretStr | None = None
) -> AsyncIterator[ChromaStore]:
    """Open a store, which connects on first use; ConfigurationError if `where` or `spec` is invalid.

    `where` is `http://host:port` of a Chroma server, or empty for the folder.
    """
    if spec != "auto":
        open_embedder(spec, api_key=api_key)
    store = ChromaStore(connect(where, folder), spec, api_key)
    try:
        yield store
    finally:
        await store.aclose()


def _collection_name(namespace: Namespace) -> str:
    return f"gems-{hashlib.sha256(json.dumps(namespace).encode()).hexdigest()[:40]}"


def _existing(client: Any) -> dict[Namespace, Any]:
    """Return all complete collections of GEMS by namespace."""
    if (listed := _LISTED.get(client)) is not None:
        return listed
    found: dict[Namespace, Any] = {}
    for collection in client.list_collections():
        metadata = collection.metadata or {}
        if _NAMESPACE in metadata and not collection.name.endswith(("-new", "-old")):
            found[tuple(json.loads(metadata[_NAMESPACE]))] = collection
    if client.get_settings().is_persistent:
        # When another process has written, the folder has a new client.
        _LISTED[client] = found
    return found


def _create(client: Any, namespace: Namespace, identity: str, name: str) -> Any:
    metadata = {_NAMESPACE: json.dumps(namespace), _EMBEDDER: identity}
    made = client.get_or_create_collection(name, embedding_function=None, metadata=metadata, configuration=_HNSW)
    if name == _collection_name(namespace) and client in _LISTED:
        _LISTED[client][namespace] = made
    return made


def _load_vectors(client: Any, name: str, count: int) -> NDArray[np.float32] | None:
    """Return the rows of a collection without items, in order; None where it is missing or incomplete."""
    if name not in {collection.name for collection in client.list_collections()}:
        return None
    got = client.get_collection(name, embedding_function=None).get(include=["embeddings"])
    rows = dict(zip(map(int, got["ids"]), got["embeddings"], strict=True))
    return np.asarray([rows[n] for n in range(count)], dtype=np.float32) if len(rows) == count else None


def _save_vectors(client: Any, name: str, vectors: Sequence[Vector]) -> None:
    collection = client.get_or_create_collection(name, embedding_function=None, configuration=_HNSW)
    collection.upsert(ids=[str(number) for number in range(len(vectors))], embeddings=list(vectors))


def _get(collection: Any, keys: list[str]) -> dict[str, Metadata]:
    if not keys:
        return {}
    found = collection.get(ids=list(dict.fromkeys(keys)), include=["metadatas"])
    return dict(zip(found["ids"], found["metadatas"], strict=True))


def _search(collections: dict[Namespace, Any], op: SearchOp, vectors: dict[str, Vector]) -> list[SearchItem]:
    prefix, end = op.namespace_prefix, op.offset + op.limit
    found = [
        SearchItem(**_item(namespace, key, metadata), score=score)
        for namespace in sorted(collections)
        if namespace[: len(prefix)] == prefix
        for score, key, metadata in _search_collection(collections[namespace], op, vectors, end)
    ]
    if op.query:
        found.sort(key=lambda item: -(item.score or 0.0))
    return found[op.offset : end]


def _search_collection(
    collection: Any, op: SearchOp, vectors: dict[str, Vector], end: int
) -> list[tuple[float | None, str, Metadata]]:
    where, is_exact = where_clause(op.filter or {})
    if op.query:
        # If Chroma cannot express the filter, all items are checked.
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
        (score, key, meta)
        for score, key, meta in hits
        if is_exact or matches_filter(json.loads(meta["value"]), op.filter or {})
    ]


def _prepare(op: PutOp) -> Metadata:
    """Return an item: its value as JSON, flat fields for filters, and the text that searches match."""
    value = dict(op.value or {})
    if isinstance(op.index, list) and op.index != ["$"]:
        text = "\n".join(str(value.get(name, "")) for name in op.index)
    else:
        text = str(value.get("text_indexed") or json.dumps(value, ensure_ascii=False))
    now = datetime.now(UTC).isoformat()
    return {
        **{
            f"f_{name}": given
            for name, given in value.items()
            if isinstance(given, str | int | float | bool) and name not in ("text", "text_indexed")
        },
        "value": json.dumps(value, ensure_ascii=False),
        "text": text,
        "indexed": op.index is not False,
        "created": now,
        "updated": now,
    }


def _upsert(
    client: Any,
    namespace: Namespace,
    identity: str,
    written: dict[str, Metadata],
    changed: dict[str, Metadata],
    vectors: Sequence[Vector],
) -> None:
    collection = _existing(client).get(namespace) or _create(client, namespace, identity, _collection_name(namespace))
    left = iter(vectors)
    if changed:
        # Chroma requires a vector for every item; searches leave out items that are not indexed.
        blank = np.zeros(len(vectors[0]) if vectors else LEXICAL_SIZE, dtype=np.float32)
        blank[0] = 1.0
        embeddings = [next(left) if item["indexed"] else blank for item in changed.values()]
        collection.upsert(ids=list(changed), metadatas=list(changed.values()), embeddings=embeddings)
    if kept := {key: item for key, item in written.items() if key not in changed}:
        collection.update(ids=list(kept), metadatas=list(kept.values()))


def _delete(client: Any, namespace: Namespace, keys: list[str]) -> None:
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


def _fill(client: Any, name: str, page: dict[str, Any], vectors: Sequence[Vector]) -> None:
    collection = client.get_collection(name, embedding_function=None)
    identity = collection.metadata[_EMBEDDER]
    metadatas = [{**metadata, "embedder": identity} for metadata in page["metadatas"]]
    collection.upsert(ids=page["ids"], metadatas=metadatas, embeddings=list(vectors))


def _swap(client: Any, namespace: Namespace) -> None:
    name = _collection_name(namespace)
    _LISTED.pop(client, None)
    client.get_collection(name, embedding_function=None).modify(name=f"{name}-old")
    client.get_collection(f"{name}-new", embedding_function=None).modify(name=name)
    client.delete_collection(f"{name}-old")


def _repair(client: Any) -> None:
    """Repair what a process left that died during `reindex`."""
    _LISTED.pop(client, None)
    names = {collection.name for collection in client.list_collections()}
    for name in names:
        plain = name.removesuffix("-old").removesuffix("-new")
        if name.endswith("-old") and plain not in names:
            client.get_collection(name, embedding_function=None).modify(name=plain)
        elif name.endswith(("-old", "-new")) and name.startswith("gems-"):
            client.delete_collection(name)
