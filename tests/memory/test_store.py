"""The store of experiences, in a folder and on a real Chroma server."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from langgraph.store.base import GetOp, PutOp, SearchOp

from gems.errors import (
    ConfigurationError,
    CorruptStoreError,
    EmbedderMismatchError,
    InternalError,
    MemoryUnavailableError,
)
from gems.memory import chroma
from gems.memory import store as store_module
from gems.memory.embeddings import LexicalEmbedder
from gems.memory.store import ChromaStore, open_store
from tests.support.chroma import chroma_server, free_port

SPACE = ("experiences", "flat")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with chroma_server(tmp_path_factory.mktemp("chroma") / "data") as address:
        yield address


@pytest_asyncio.fixture(params=["folder", "server"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ChromaStore]:
    where = request.getfixturevalue("server") if request.param == "server" else ""
    async with open_store(where, tmp_path / "experience", "lexical") as store:
        await store.clear()
        yield store


async def test_what_was_put_is_there(store: ChromaStore) -> None:
    value = {"text": "猫 “quoted” 👍\n", "score": 0.5, "deep": {"list": [1, None, True]}}
    await store.aput(SPACE, "key/with 'signs' 猫", value)
    found = await store.aget(SPACE, "key/with 'signs' 猫")
    assert found is not None
    assert (found.value, found.namespace, found.key) == (value, SPACE, "key/with 'signs' 猫")
    assert await store.aget(SPACE, "other") is None
    assert await store.aget(("experiences", "other"), "key/with 'signs' 猫") is None


async def test_putting_again_replaces_and_none_deletes(store: ChromaStore) -> None:
    await store.aput(SPACE, "a", {"text": "one"})
    first = await store.aget(SPACE, "a")
    await store.aput(SPACE, "a", {"text": "two"})
    second = await store.aget(SPACE, "a")
    assert first is not None
    assert second is not None
    assert second.value == {"text": "two"}
    assert second.created_at == first.created_at
    assert second.updated_at > first.updated_at
    await store.adelete(SPACE, "a")
    assert await store.aget(SPACE, "a") is None
    await store.adelete(SPACE, "a")


async def test_search_is_by_similarity(store: ChromaStore) -> None:
    for key, text in (("cat", "a red cat on a mat"), ("dog", "blue dogs at night"), ("sign", "招牌上写着字")):
        await store.aput(SPACE, key, {"text_indexed": text})
    for query, wanted in (("red cats on mats", "cat"), ("a blue dog", "dog"), ("招牌的字", "sign")):
        found = await store.asearch(SPACE, query=query, limit=2)
        assert found[0].key == wanted
        assert len(found) == 2
        assert found[0].score is not None
        assert found[1].score is not None
        assert 1.0 >= found[0].score > found[1].score >= -0.01


async def test_search_below_a_prefix(store: ChromaStore) -> None:
    await store.aput(("experiences", "one"), "a", {"text_indexed": "a red cat"})
    await store.aput(("experiences", "two"), "b", {"text_indexed": "a red cat indeed"})
    await store.aput(("lessons", "one"), "c", {"text_indexed": "a red cat"})
    found = await store.asearch(("experiences",), query="a red cat")
    assert [(item.namespace[1], item.key) for item in found] == [("one", "a"), ("two", "b")]
    assert len(await store.asearch((), limit=10)) == 3


async def test_search_by_filter(store: ChromaStore) -> None:
    for number in range(5):
        await store.aput(SPACE, str(number), {"n": number, "even": number % 2 == 0, "tags": ["x", number]})
    cases: list[tuple[dict[str, Any], set[str]]] = [
        ({"even": True}, {"0", "2", "4"}),
        ({"n": {"$gte": 1, "$lt": 3}}, {"1", "2"}),
        ({"n": {"$ne": 1}}, {"0", "2", "3", "4"}),
        ({"tags": ["x", 3]}, {"3"}),
        ({"missing": {"$ne": 1}}, {"0", "1", "2", "3", "4"}),
        ({"n": 1, "even": True}, set()),
    ]
    for wanted, keys in cases:
        for query in (None, "a query"):
            found = await store.asearch(SPACE, filter=wanted, query=query)
            assert {item.key for item in found} == keys, (wanted, query)


async def test_search_by_pages(store: ChromaStore) -> None:
    await store.abatch([PutOp(SPACE, f"{n:02}", {"n": n}) for n in range(12)])
    first = await store.asearch(SPACE, limit=5)
    second = await store.asearch(SPACE, limit=5, offset=5)
    last = await store.asearch(SPACE, limit=5, offset=10)
    keys = [item.key for page in (first, second, last) for item in page]
    assert sorted(keys) == [f"{n:02}" for n in range(12)]
    assert await store.count(SPACE) == 12
    assert [item.key for item in await store.items(SPACE, 2, 3)] == keys[3:5]


async def test_unindexed_items_are_not_found_by_a_query(store: ChromaStore) -> None:
    await store.aput(SPACE, "hidden", {"text_indexed": "a red cat"}, index=False)
    await store.aput(SPACE, "seen", {"text_indexed": "a red cat"})
    assert [item.key for item in await store.asearch(SPACE, query="a red cat")] == ["seen"]
    assert len(await store.asearch(SPACE)) == 2


async def test_namespaces_are_listed(store: ChromaStore) -> None:
    names = [("a", "b", "c"), ("a", "b", "d"), ("a", "猫"), ("x' OR 1=1 --", "y")]
    for name in names:
        await store.aput(name, "k", {"text": "t"})
    assert await store.alist_namespaces() == sorted(names)
    assert await store.alist_namespaces(prefix=("a", "*"), max_depth=2) == [("a", "b"), ("a", "猫")]
    assert await store.alist_namespaces(suffix=("y",)) == [("x' OR 1=1 --", "y")]


async def test_a_batch_reads_before_it_writes(store: ChromaStore) -> None:
    await store.aput(SPACE, "a", {"n": 1})
    found = await store.abatch(
        [PutOp(SPACE, "a", {"n": 2}), GetOp(SPACE, "a"), PutOp(SPACE, "a", {"n": 3}), SearchOp(SPACE)]
    )
    assert isinstance(found[1], object)
    assert found[1].value == {"n": 1}  # type: ignore[union-attr]
    assert len(found[3]) == 1  # type: ignore[arg-type]
    after = await store.aget(SPACE, "a")
    assert after is not None
    assert after.value == {"n": 3}


async def test_what_stays_the_same_is_not_embedded_again(store: ChromaStore, monkeypatch: pytest.MonkeyPatch) -> None:
    embedded: list[str] = []
    original = LexicalEmbedder.embed

    async def counting(self: LexicalEmbedder, texts: Any) -> Any:
        embedded.extend(texts)
        return await original(self, texts)

    monkeypatch.setattr(LexicalEmbedder, "embed", counting)
    await store.aput(SPACE, "a", {"text_indexed": "a cat", "record": 1})
    await store.aput(SPACE, "a", {"text_indexed": "a cat", "record": 2})
    assert embedded == ["a cat"]
    found = await store.aget(SPACE, "a")
    assert found is not None
    assert found.value["record"] == 2
    assert (await store.asearch(SPACE, query="a cat"))[0].value["record"] == 2


async def test_vectors_are_unit_vectors(store: ChromaStore) -> None:
    await store.abatch([PutOp(SPACE, str(n), {"text_indexed": f"text {n}"}) for n in range(3)])
    keys, vectors = await store.vectors(SPACE)
    assert sorted(keys) == ["0", "1", "2"]
    assert vectors.shape == (3, 384)
    assert (abs((vectors**2).sum(axis=1) - 1) < 1e-5).all()
    assert (await store.vectors(("nothing", "here")))[0] == []


async def test_another_embedder_is_refused_until_everything_is_embedded_anew(
    store: ChromaStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.abatch([PutOp(SPACE, str(n), {"text_indexed": f"text {n}"}) for n in range(5)])
    monkeypatch.setattr(LexicalEmbedder, "identity", "lexical:2/384")
    for doing in (store.asearch(SPACE, query="text"), store.aput(SPACE, "new", {"text": "x"})):
        with pytest.raises(EmbedderMismatchError, match="gems memory reindex"):
            await doing
    assert await store.aget(SPACE, "1") is not None
    assert len(await store.asearch(SPACE)) == 5
    told: list[int] = []
    assert await store.reindex(told.append) == 5
    assert told == [5]
    assert await store.embedder_identities() == {"lexical:2/384"}
    assert (await store.asearch(SPACE, query="text 3", limit=1))[0].key == "3"
    assert await store.reindex() == 0


async def test_embedding_anew_that_died_begins_again(store: ChromaStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.aput(SPACE, "a", {"text_indexed": "a cat"})
    monkeypatch.setattr(LexicalEmbedder, "identity", "lexical:2/384")
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "_swap", lambda client, namespace: 1 / 0)
        with pytest.raises(Exception, match="division by zero"):
            await store.reindex()
    assert await store.aget(SPACE, "a") is not None
    assert await store.reindex() == 1
    assert (await store.asearch(SPACE, query="a cat"))[0].key == "a"


def test_without_an_event_loop(tmp_path: Path) -> None:
    store = ChromaStore(store_module.connect("", tmp_path / "experience"), "lexical")
    store.put(SPACE, "a", {"text": "one"})
    found = store.get(SPACE, "a")
    assert found is not None
    assert found.value == {"text": "one"}
    asyncio.run(store.aclose())


async def test_the_event_loop_is_not_blocked(store: ChromaStore) -> None:
    with pytest.raises(InternalError, match="async methods"):
        store.get(SPACE, "a")


async def test_nothing_is_made_by_looking(tmp_path: Path) -> None:
    async with open_store("", tmp_path / "home" / "experience", "auto") as store:
        assert await store.asearch(SPACE, query="a cat") == []
        assert await store.aget(SPACE, "a") is None
        assert await store.items(SPACE) == []
        assert await store.count(SPACE) == 0
    assert not await asyncio.to_thread(lambda: list(tmp_path.iterdir()))


async def test_auto_takes_what_the_store_was_filled_with(tmp_path: Path) -> None:
    async with open_store("", tmp_path / "experience", "auto") as store:
        await store.aput(SPACE, "a", {"text_indexed": "a cat"})
        assert (await store.embedder()).identity == "lexical:1/384"
    async with open_store("", tmp_path / "experience", "auto") as store:
        assert (await store.asearch(SPACE, query="a cat"))[0].key == "a"


async def test_damaged_folder(tmp_path: Path) -> None:
    folder = tmp_path / "experience"
    async with open_store("", folder, "lexical") as store:
        await store.aput(SPACE, "a", {"text": "one"})
    for file in folder.glob("chroma.sqlite3*"):
        file.write_bytes(b"This is no database. " * 1000)
    async with open_store("", folder, "lexical") as store:
        with pytest.raises(CorruptStoreError, match="gems memory rebuild"):
            await store.aget(SPACE, "a")
        aside = await store.clear()
        assert aside.startswith(f"{folder}.old-")
        await store.aput(SPACE, "b", {"text": "two"})
        assert await store.aget(SPACE, "b") is not None


async def test_server_that_is_down_dies_and_comes_back(tmp_path: Path) -> None:
    port, data = free_port(), tmp_path / "data"
    async with open_store(f"http://127.0.0.1:{port}", tmp_path / "unused", "lexical") as store:
        with pytest.raises(MemoryUnavailableError, match=f"127.0.0.1:{port}"):
            await store.aput(SPACE, "a", {"text": "one"})
        with chroma_server(data, port):
            await store.aput(SPACE, "a", {"text": "one"})
        with pytest.raises(MemoryUnavailableError, match="GEMS_EXPERIENCE"):
            await store.aget(SPACE, "a")
        with chroma_server(data, port):
            assert await store.aget(SPACE, "a") is not None


async def test_closing_leaves_no_connection_open(server: str, tmp_path: Path) -> None:
    from chromadb.api.shared_system_client import SharedSystemClient

    before = set(SharedSystemClient._identifier_to_system)
    async with open_store(server, tmp_path, "lexical") as store:
        await store.aget(SPACE, "a")
        opened = set(SharedSystemClient._identifier_to_system)
    assert set(SharedSystemClient._identifier_to_system) == before
    assert len(opened) > len(before)


@pytest.mark.parametrize(
    "where",
    ["ftp://host", "http://", "http://host:port", "http://[", "http://secret@host", "http://user:secret@host:8000"],
)
async def test_addresses_that_are_none(where: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="GEMS_EXPERIENCE") as caught:
        async with open_store(where, tmp_path, "lexical"):
            pytest.fail("It was opened.")
    assert "secret" not in str(caught.value)


_WORKER = """
import asyncio, sys
from pathlib import Path
from gems.memory.store import open_store
from langgraph.store.base import PutOp

async def main(folder, name):
    async with open_store("", Path(folder), "lexical") as store:
        for turn in range(30):
            texts = {f"{name}{turn}-{n}": f"{name}t{turn}n{n}" for n in range(50)}
            ops = [PutOp(("both",), key, {"text_indexed": text}) for key, text in texts.items()]
            await store.abatch(ops)
            found = await store.asearch(("both",), query=f"{name}t{turn}n7", limit=3)
            assert f"{name}{turn}-7" in [item.key for item in found], (turn, found)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_two_processes_share_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "experience"
    commands = [[sys.executable, "-c", _WORKER, str(folder), name] for name in ("one", "two")]
    workers = [
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True)  # noqa: ASYNC220 - begun at once
        for command in commands
    ]
    for worker in workers:
        told = await asyncio.to_thread(worker.communicate, None, 150)
        assert worker.returncode == 0, told[1]
    async with open_store("", folder, "lexical") as store:
        assert await store.count(("both",)) == 3000
        keys, vectors = await store.vectors(("both",))
        assert len(set(keys)) == len(vectors) == 3000
        for name in ("one", "two"):
            found = await store.asearch(("both",), query=f"{name}t11n23", limit=1)
            assert found[0].key == f"{name}11-23"


async def test_indexes_of_many_namespaces_do_not_stay_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each key of a server has namespaces of its own, and each has an index in memory and in open files."""
    monkeypatch.setattr(chroma, "MOST_INDEXES", 3)
    folder = tmp_path / "experience"
    spaces = [("experiences", f"of key {number}") for number in range(6)]
    async with open_store("", folder, "lexical") as store:
        for space in spaces:
            await store.aput(space, "key", {"text": f"a cat {space[1]}"})
        for space in spaces:
            (found,) = await store.asearch(space, query="cat")
            assert found.value == {"text": f"a cat {space[1]}"}
            assert (await store.count(space), len(await store.items(space))) == (1, 1)
            assert await store.aget(space, "key") is not None
            if sys.platform == "linux":
                assert 0 < len(_open_indexes(folder)) <= 3
        for use in (store.count, store.items, store.vectors, lambda space: store.aget(space, "key")):
            for space in spaces:
                await use(space)
                assert sys.platform != "linux" or len(_open_indexes(folder)) <= 3


def _open_indexes(folder: Path) -> set[Path]:
    links = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return {link.parent for link in links if folder in link.parents and link.suffix == ".bin"}
