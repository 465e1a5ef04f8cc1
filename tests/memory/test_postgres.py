"""What is peculiar to stores in PostgreSQL: its errors in our words, its locks, and its absence."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from gems.errors import ConfigurationError, GemsError, MissingExtraError, RunBusyError, StorageError, StoreVersionError
from gems.memory import postgres as server_module
from gems.resources import open_stores
from gems.settings import Settings, load_settings
from tests.memory.test_ledger import ANSWER, REQUEST, candidate
from tests.support.postgres import PASSWORD, Postgres, running
from tests.support.scripted_models import checks
from tests.support.scripted_service import House


@pytest.fixture
def settings(tmp_path: Path, database: str) -> Settings:
    return load_settings(home=tmp_path, checkpoint=database)


@pytest.fixture
def own() -> Iterator[Postgres]:
    """A server that may be stopped without harm to other tests."""
    with running() as server:
        yield server


async def refused(tmp_path: Path, url: str) -> GemsError:
    with pytest.raises(GemsError) as caught:
        async with open_stores(load_settings(home=tmp_path, checkpoint=url)):
            pytest.fail("It was opened.")
    return caught.value


async def test_what_is_wrong_with_the_url_is_said_without_the_password(
    tmp_path: Path, postgres: Postgres, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    place = f"127.0.0.1:{postgres.port}"
    wrong = {
        database.replace(PASSWORD, "wr0ng-secret"): (ConfigurationError, place),
        postgres.url("nowhere"): (ConfigurationError, f"{place}/nowhere"),
        database.replace(str(postgres.port), "1"): (StorageError, "127.0.0.1:1/"),
        f"postgresql://gems:{PASSWORD}%zz@127.0.0.1/gems": (ConfigurationError, "GEMS_CHECKPOINT"),
    }
    told = []
    for url, (kind, named) in wrong.items():
        error = await refused(tmp_path, url)
        assert type(error) is kind, error
        assert named in str(error)
        assert error.hint
        told.append(f"{error} {error!r}")
    for url in ("mysql://gems:p%40ss-w0rd-never-shown@127.0.0.1/gems", "/tmp/checkpoints.sqlite3"):
        with pytest.raises(ConfigurationError, match=r"GEMS_CHECKPOINT.*postgresql://") as caught:
            load_settings(checkpoint=url)
        told.append(f"{caught.value} {caught.value!r}")
    told += [repr(load_settings(checkpoint=database)), caplog.text]
    for text in told:
        assert "w0rd" not in text
        assert "wr0ng" not in text


async def test_missing_packages_are_named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "gems.memory.postgres", raising=False)
    monkeypatch.delitem(sys.modules, "gems.memory.postgres", raising=False)
    monkeypatch.setattr("gems.memory.postgres", None, raising=False)
    monkeypatch.delattr("gems.memory.postgres", raising=False)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtraError, match="GEMS_CHECKPOINT") as caught:
        async with open_stores(settings):
            pytest.fail("It was opened.")
    assert "[postgres]" in caught.value.hint


async def test_tables_of_others_are_left_alone(settings: Settings, database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE runs (distance_km INTEGER)")
        with pytest.raises(StoreVersionError, match="another program"):
            async with open_stores(settings):
                pytest.fail("It was opened.")
        connection.execute("DROP TABLE runs")
        async with open_stores(settings):
            connection.execute("INSERT INTO gems_version VALUES (3)")
        with pytest.raises(StoreVersionError, match=r"version 3.*reads store version 2"):
            async with open_stores(settings):
                pytest.fail("It was opened.")


async def test_many_open_the_same_new_database_at_once(settings: Settings) -> None:
    async def opened() -> None:
        async with open_stores(settings):
            pass

    assert await asyncio.gather(*(opened() for _ in range(8)), return_exceptions=True) == [None] * 8


async def test_locks_hold_between_machines(settings: Settings, tmp_path: Path) -> None:
    elsewhere = settings.model_copy(update={"home": tmp_path / "other machine"})
    async with open_stores(settings) as one, open_stores(elsewhere) as other:
        async with one.locks.hold("run"):
            assert await one.locks.is_locked("run")
            assert await other.locks.is_locked("run")
            assert await other.locks.locked(["run", "free"]) == {"run"}
            for locks in (one.locks, other.locks):
                with pytest.raises(RunBusyError, match="run"):
                    async with locks.hold("run"):
                        pytest.fail("Two hold the same lock.")
            async with other.locks.hold("free"):
                pass
        assert not await other.locks.is_locked("run")
        async with other.locks.hold("run"):
            assert await one.locks.is_locked("run")
        with pytest.raises(ZeroDivisionError):
            async with one.locks.hold("run"):
                _ = 1 / 0
        assert not await other.locks.is_locked("run")


async def test_what_is_paid_for_while_the_server_is_away_is_entered_later(
    tmp_path: Path, own: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "RETRY_S", 0.2)
    settings = load_settings(home=tmp_path, checkpoint=own.url("postgres"))
    async with open_stores(settings) as stores:
        await asyncio.to_thread(own.stop)
        await stores.ledger.enter_answer("run", "key", "verify", ANSWER)
        await stores.ledger.enter_drawing("run", 1, candidate(), "print", REQUEST)
        assert await stores.ledger.answer("run", "key") == ANSWER
        assert await stores.ledger.drawing("run", 1, 0, "print") == candidate()
        with pytest.raises(StorageError, match="cannot be reached"):
            await stores.ledger.runs()
        await stores.ledger.enter_answer("deleted", "key", "verify", ANSWER)
        with pytest.raises(StorageError, match="cannot be reached"):
            await stores.ledger.forget("deleted")
    error = await refused(tmp_path, own.url("postgres"))
    assert "Check that the server is running" in error.hint
    await asyncio.to_thread(own.start)
    async with open_stores(settings) as stores:
        with psycopg.connect(own.url("postgres")) as connection:
            for table in ("answers", "drawings"):
                found = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
                assert found == (1,)
        assert await stores.ledger.answer("run", "key") == ANSWER
        assert await stores.ledger.drawings("run") == [candidate()]


async def test_locks_are_taken_again_when_the_server_is_back(tmp_path: Path, own: Postgres) -> None:
    settings = load_settings(home=tmp_path, checkpoint=own.url("postgres"))
    elsewhere = settings.model_copy(update={"home": tmp_path / "other machine"})
    async with open_stores(settings) as one, one.locks.hold("run"):
        await asyncio.to_thread(own.stop)
        await asyncio.to_thread(own.start)
        async with open_stores(elsewhere) as other:
            async with asyncio.timeout(180):
                while not await other.locks.is_locked("run"):  # noqa: ASYNC110 - a server's state
                    await asyncio.sleep(0.05)


@pytest.mark.parametrize("patience", [30.0, 0.2])
async def test_server_that_is_stopped_and_started_in_the_middle_of_a_run(
    tmp_path: Path, own: Postgres, monkeypatch: pytest.MonkeyPatch, patience: float
) -> None:
    """A short absence is not noticed; after a long one the run goes on, and pays for nothing twice."""
    monkeypatch.setattr(server_module, "RETRY_S", patience)
    monkeypatch.setenv("GEMS_CHECKPOINT", own.url("postgres"))
    house = House(tmp_path / "home")
    house.chat.script["checklist"] = [checks("no", "no"), checks("yes", "no"), *[checks("yes", "yes")] * 2]
    waits = patience > 1

    async def outage() -> None:
        await asyncio.to_thread(own.stop)
        if waits:
            restarting.append(asyncio.create_task(asyncio.to_thread(own.start)))

    restarting: list[asyncio.Task[None]] = []
    house.on_drawing(2, outage)
    async with house.gems() as gems:
        result = await gems.run("a red cat", seed=7)
        house.on_drawing(1, None)
        if not waits:
            assert result.status == "failed"
            assert result.image_id is not None
            assert "cannot be reached" in str(result.failure)
            await asyncio.to_thread(own.start)
            result = await gems.resume(result.run_id)
    await asyncio.gather(*restarting)
    assert (result.status, result.stop_reason, result.score) == ("done", "passed", 1.0)
    assert len(result.rounds) == 3
    assert len(house.generator.requests) == 3
    assert house.chat.tasks().count("decompose") == 1
    assert house.chat.tasks().count("reflect") == 2
    assert urlsplit(own.url("postgres")).password == PASSWORD
