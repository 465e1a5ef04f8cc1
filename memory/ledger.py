"""The ledger: paid results, and the index of runs."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, NotRequired

from typing_extensions import TypedDict

from gems.errors import StorageError
from gems.generation import ImageRequest
from gems.memory.run_filter import ALL_RUNS, MOST, RunFilter
from gems.memory.sqlite import Rows, SqliteRows, Values, open_database
from gems.types import Candidate, Options, RunRow, RunStatus, Usage

logger = logging.getLogger(__name__)
_RUN_TABLES = ("answers", "drawings", "forks", "runs", "owners")
_SOURCE_KEY = '"source": '
"""Key of the id of a source image in a run's options, as JSON."""
_COUNTED = timedelta(days=2)
_PAGE = 500
"""Runs that are read at a time where there may be any number of them."""
LEDGER_VERSION = 1
LEDGER_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    run TEXT PRIMARY KEY, created TEXT NOT NULL, updated TEXT NOT NULL, status TEXT NOT NULL,
    prompt TEXT NOT NULL, options TEXT NOT NULL, models TEXT NOT NULL, summary TEXT,
    cancel_requested INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS runs_by_time ON runs (created);
CREATE TABLE IF NOT EXISTS drawings (
    run TEXT NOT NULL, round INTEGER NOT NULL, candidate INTEGER NOT NULL, fingerprint TEXT NOT NULL,
    at TEXT NOT NULL, request TEXT NOT NULL, result TEXT NOT NULL,
    PRIMARY KEY (run, round, candidate, fingerprint)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS answers (
    run TEXT NOT NULL, key TEXT NOT NULL, at TEXT NOT NULL, task TEXT NOT NULL, reply TEXT NOT NULL,
    PRIMARY KEY (run, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS forks (run TEXT PRIMARY KEY, source TEXT NOT NULL, round INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS owners (run TEXT PRIMARY KEY, owner TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS runs_by_owner ON owners (owner);
CREATE TABLE IF NOT EXISTS spent (owner TEXT NOT NULL, at TEXT NOT NULL, images INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS spent_by_owner ON spent (owner, at);
CREATE TABLE IF NOT EXISTS spending (
    run TEXT NOT NULL, owner TEXT NOT NULL, at TEXT NOT NULL, tokens INTEGER NOT NULL, usd DOUBLE PRECISION NOT NULL);
CREATE INDEX IF NOT EXISTS spending_by_owner ON spending (owner, at);
"""
_SELECT_RUNS = (
    "SELECT runs.*, forks.source, forks.round, owners.owner FROM runs"
    " LEFT JOIN forks ON forks.run = runs.run LEFT JOIN owners ON owners.run = runs.run"
)
_REQUEST_FIELDS = ("prompt", "negative_prompt", "seed", "width", "height", "steps", "guidance")
# Tables of paid results, with the columns of their keys.
_PAID_TABLES = {"drawings": ("run", "round", "candidate", "fingerprint"), "answers": ("run", "key")}


class KeptQuestion(TypedDict):
    """What a chat model was asked."""

    round: int
    system: str
    parts: list[str | dict[str, str]]
    """Texts, and for each image its id and its label as `image` and `label`."""


class KeptAnswer(TypedDict):
    """A chat model's answer in the ledger."""

    text: str
    thought: str
    yes_probability: float | None
    usage: Usage
    question: NotRequired[KeptQuestion]
    """Missing for answers of earlier versions."""
    yes_probabilities: NotRequired[list[float | None]]
    """Of the answers of a checklist, in their order; missing if the endpoint gives no log probabilities."""


class RecordedAnswer(TypedDict):
    """An answer of a run with its task."""

    task: str
    answer: KeptAnswer


class Spending(NamedTuple):
    """What was spent on models at a time; `usd` is 0 where prices are unknown."""

    at: datetime
    tokens: int
    usd: float


class Ledger:
    """The ledger in the tables of `rows`; `spare` stores paid results while these cannot be reached."""

    def __init__(self, rows: Rows, spare: Ledger | None = None) -> None:
        self._rows, self._spare = rows, spare
        self._all, self._write = rows.all, rows.write

    async def drawing(self, run: str, number: int, candidate: int, fingerprint: str) -> Candidate | None:
        """Return the earlier candidate for the same request at the same position of the run, if any."""
        found: Candidate | None = await self._paid("drawings", "result", (run, number, candidate, fingerprint))
        return found

    async def enter_drawing(
        self, run: str, number: int, candidate: Candidate, fingerprint: str, request: ImageRequest
    ) -> None:
        """Enter a candidate whose image is stored."""
        asked = _to_json({name: getattr(request, name) for name in _REQUEST_FIELDS})
        key = (run, number, candidate["index"], fingerprint)
        await self._enter("drawings", (*key, _now(), asked, _to_json(candidate)))

    async def drawings(self, run: str) -> list[Candidate]:
        """Return all candidates generated for a run, in order."""
        sql = "SELECT result FROM drawings WHERE run=? ORDER BY round, candidate, at"
        return [json.loads(row["result"]) for row in await self._all(sql, (run,))]

    async def answer(self, run: str, key: str) -> KeptAnswer | None:
        """Return the earlier answer to the same question at the same position of the run, if any."""
        found: KeptAnswer | None = await self._paid("answers", "reply", (run, key))
        return found

    async def enter_answer(self, run: str, key: str, task: str, answer: KeptAnswer) -> None:
        """Enter an answer that could be parsed."""
        await self._enter("answers", (run, key, _now(), task, _to_json(answer)))

    async def answers(self, run: str) -> list[RecordedAnswer]:
        """Return a run's answers in the order in which they came."""
        rows = await self._all("SELECT task, reply FROM answers WHERE run=? ORDER BY at, key", (run,))
        return [{"task": row["task"], "answer": json.loads(row["reply"])} for row in rows]

    async def catch_up(self) -> None:
        """Enter what was paid for while the database was unreachable; nothing is lost if it still is."""
        if (spare := self._spare) is None:
            return
        for table, key in _PAID_TABLES.items():
            for row in await spare._all(f"SELECT * FROM {table}", ()):  # noqa: S608, SLF001 - our own
                await self._write(_insert_sql(table, len(tuple(row))), tuple(row))
                delete = f"DELETE FROM {table} WHERE {_are_equal(key)}"  # noqa: S608
                await spare._write(delete, tuple(row[name] for name in key))  # noqa: SLF001

    async def begin(self, run: str, prompt: str, options: Options, models: dict[str, str], owner: str = "") -> RunRow:
        """Enter a new run as running."""
        now = _now()
        if owner:
            # First, so that the run never appears without its owner.
            await self._write("INSERT INTO owners (run, owner) VALUES (?,?)", (run, owner))
        await self._write(
            "INSERT INTO runs (run, created, updated, status, prompt, options, models) VALUES (?,?,?,?,?,?,?)",
            (run, now, now, "running", prompt, _to_json(options), _to_json(models)),
        )
        row = await self.run(run)
        assert row is not None  # noqa: S101 - for the type checker
        return row

    async def mark(self, run: str, status: RunStatus, summary: dict[str, Any] | None = None) -> None:
        """Set a run's status; `summary` replaces the earlier one if given."""
        await self._write(
            "UPDATE runs SET status=?, updated=?, cancel_requested=0, summary=coalesce(?, summary) WHERE run=?",
            (status, _now(), _to_json(summary) if summary is not None else None, run),
        )

    async def name_models(self, run: str, models: dict[str, str]) -> None:
        """Set the models that a run continues with."""
        await self._write("UPDATE runs SET models=? WHERE run=?", (_to_json(models), run))

    async def request_cancel(self, run: str) -> None:
        """Ask the process that works on the run to end it at the next node."""
        await self._write("UPDATE runs SET cancel_requested=1 WHERE run=?", (run,))

    async def cancel_requested(self, run: str) -> bool:
        """Return whether somebody cancelled the run."""
        row = await self._one("SELECT cancel_requested FROM runs WHERE run=?", (run,))
        return bool(row and row["cancel_requested"])

    async def run(self, run: str) -> RunRow | None:
        """Return one run of the index."""
        row = await self._one(f"{_SELECT_RUNS} WHERE runs.run=?", (run,))
        return _run_row(row) if row else None

    async def runs(self, limit: int | None = None, wanted: RunFilter = ALL_RUNS) -> list[RunRow]:
        """Return the runs that match, newest first."""
        where, values = wanted.sql()
        sql = f"{_SELECT_RUNS} WHERE {where} ORDER BY created DESC, runs.run DESC LIMIT ?"
        return [_run_row(row) for row in await self._all(sql, (*values, MOST if limit is None else limit))]

    async def each_run(self, wanted: RunFilter = ALL_RUNS) -> AsyncIterator[RunRow]:
        """Yield the runs that match, oldest first; only `_PAGE` of them are in memory at a time."""
        where, values = wanted.sql()
        sql = f"{_SELECT_RUNS} WHERE {where} AND (created, runs.run) > (?, ?) ORDER BY created, runs.run LIMIT ?"
        last = ("", "")
        while rows := await self._all(sql, (*values, *last, _PAGE)):
            for row in rows:
                yield _run_row(row)
            last = (rows[-1]["created"], rows[-1]["run"])

    async def enter_fork(self, run: str, source: str, number: int) -> None:
        """Record that `run` shares the images of `source` up to round `number`; `begin` lists the run."""
        await self._write(
            "INSERT INTO drawings (run, round, candidate, fingerprint, at, request, result)"
            " SELECT CAST(? AS TEXT), round, candidate, fingerprint, at, request, result"
            " FROM drawings WHERE run=? AND round<=?",
            (run, source, number),
        )
        await self._write("INSERT INTO forks (run, source, round) VALUES (?,?,?)", (run, source, number))

    async def forget(self, run: str) -> None:
        """Delete everything about a run; runs forked from it keep the reference.

        Only how many images its owner generated when is kept for two days: it counts against their limit.
        """
        if self._spare is not None:
            await self._spare.forget(run)
        since = _format_time(datetime.now(UTC) - _COUNTED)
        for table in ("spent", "spending"):
            await self._write(f"DELETE FROM {table} WHERE at < ?", (since,))  # noqa: S608 - names of our own
        await self._write(
            "INSERT INTO spent (owner, at, images) SELECT owners.owner, drawings.at, count(*)"
            " FROM drawings JOIN owners ON owners.run = drawings.run"
            " WHERE drawings.run=? AND drawings.at >= ? GROUP BY owners.owner, drawings.at",
            (run, since),
        )
        for table in _RUN_TABLES:
            await self._write(f"DELETE FROM {table} WHERE run=?", (run,))  # noqa: S608 - names of our own

    async def running(self) -> list[str]:
        """Return the runs that are marked as running, including killed ones."""
        return [row["run"] for row in await self._all("SELECT run FROM runs WHERE status='running'", ())]

    async def images_of(self, run: str) -> set[str]:
        """Return the ids of all images generated for a run, and of its source image."""
        rows = await self._all("SELECT result FROM drawings WHERE run=?", (run,))
        edited = await self._all("SELECT options FROM runs WHERE run=?", (run,))
        return _image_ids(rows, edited)

    async def images_of_others(self, run: str) -> set[str]:
        """Return the ids of the images of all other runs; of all runs if `run` is empty."""
        rows = await self._all("SELECT DISTINCT result FROM drawings WHERE run<>?", (run,))
        edited = await self._all(
            "SELECT DISTINCT options FROM runs WHERE run<>? AND options LIKE ?", (run, f'%{_SOURCE_KEY}"%')
        )
        return _image_ids(rows, edited)

    async def drawings_for(self, owner: str, since: datetime) -> list[tuple[datetime, float]]:
        """Return when how many images were generated for an owner, also for deleted runs; at most two days back."""
        start = _format_time(since)
        rows = await self._all(
            "SELECT drawings.at AS at, count(*) AS number FROM drawings JOIN owners ON owners.run = drawings.run"
            " WHERE owners.owner=? AND drawings.at >= ? GROUP BY drawings.at"
            " UNION ALL SELECT at, images AS number FROM spent WHERE owner=? AND at >= ?",
            (owner, start, owner, start),
        )
        return [(datetime.fromisoformat(row["at"]), float(row["number"])) for row in rows]

    async def spending_for(self, owner: str, since: datetime) -> list[Spending]:
        """Return what was spent for an owner, also on deleted runs; at most two days back."""
        rows = await self._all(
            "SELECT at, tokens, usd FROM spending WHERE owner=? AND at >= ?", (owner, _format_time(since))
        )
        return [Spending(datetime.fromisoformat(row["at"]), int(row["tokens"]), float(row["usd"])) for row in rows]

    async def enter_spending(self, run: str, usd_per_image: float | None) -> None:
        """Enter what a run has cost since this was entered before; runs without an owner are left out."""
        owner = await self._one("SELECT owner FROM owners WHERE run=?", (run,))
        if owner is not None:
            spent = await self.unentered_spending(run, usd_per_image)
            await self._spend(run, owner["owner"], spent.tokens, spent.usd)

    async def enter_questions(self, owner: str, usage: Mapping[str, Usage]) -> None:
        """Enter what questions outside of runs have cost an owner."""
        tokens = sum(share["input_tokens"] + share["output_tokens"] for share in usage.values())
        if owner:
            await self._spend("", owner, tokens, sum(share["usd"] or 0.0 for share in usage.values()))

    async def unentered_spending(self, run: str, usd_per_image: float | None) -> Spending:
        """Return what a run has cost beyond what was entered; what it shares with the run it was forked from not."""
        answers = [json.loads(row["reply"]) for row in await self._all("SELECT reply FROM answers WHERE run=?", (run,))]
        drawings = await self._all(
            "SELECT result FROM drawings WHERE run=? AND round >"
            " coalesce((SELECT max(round) FROM forks WHERE forks.run = drawings.run), 0)",
            (run,),
        )
        entered = await self._one("SELECT sum(tokens) AS tokens, sum(usd) AS usd FROM spending WHERE run=?", (run,))
        usages: list[Usage] = [answer["usage"] for answer in answers]
        images = [json.loads(row["result"])["parameters"].get("cost_usd", usd_per_image) for row in drawings]
        tokens = sum(usage["input_tokens"] + usage["output_tokens"] for usage in usages)
        usd = sum(usage["usd"] or 0.0 for usage in usages) + sum(price or 0.0 for price in images)
        return Spending(datetime.now(UTC), tokens - (entered["tokens"] or 0), usd - (entered["usd"] or 0.0))

    async def _spend(self, run: str, owner: str, tokens: int, usd: float) -> None:
        if tokens > 0 or usd > 0:
            await self._write(
                "INSERT INTO spending (run, owner, at, tokens, usd) VALUES (?,?,?,?,?)",
                (run, owner, _now(), max(0, tokens), max(0.0, usd)),
            )

    async def has_owners(self) -> bool:
        """Return whether any run belongs to a key, or did in the last two days."""
        return bool(await self._all("SELECT run FROM owners UNION ALL SELECT owner FROM spent LIMIT 1", ()))

    async def owns_image(self, owner: str, image: str) -> bool:
        """Return whether an image id (64 hexadecimal digits) belongs to a run of an owner."""
        # Matched with its JSON key: prompts are in there too, but their quotation marks are escaped.
        rows = await self._all(
            "SELECT 1 AS found FROM drawings JOIN owners ON owners.run = drawings.run"
            " WHERE owners.owner=? AND drawings.result LIKE ?"
            " UNION ALL SELECT 1 AS found FROM runs JOIN owners ON owners.run = runs.run"
            " WHERE owners.owner=? AND runs.options LIKE ? LIMIT 1",
            (owner, f'%"image": "{image}"%', owner, f'%{_SOURCE_KEY}"{image}"%'),
        )
        return bool(rows)

    async def drawn_by_run(self) -> dict[str, int]:
        """Count the generated images of each run that has any."""
        rows = await self._all("SELECT run, count(*) AS number FROM drawings GROUP BY run", ())
        return {row["run"]: row["number"] for row in rows}

    async def rows_of(self, run: str) -> int:
        """Count the rows of a run."""
        counts = " + ".join(f"(SELECT count(*) FROM {table} WHERE run=?)" for table in _RUN_TABLES)  # noqa: S608
        (row,) = await self._all(f"SELECT {counts} AS number", (run,) * len(_RUN_TABLES))
        return int(row["number"])

    async def unlisted(self) -> dict[str, str]:
        """Return runs that have rows but are not in the index, with the time of the last entry.

        Runs of LangGraph Studio and of programs that use the graph without the service are of this kind.
        """
        rows = await self._all(
            "SELECT run, max(at) AS newest FROM"
            " (SELECT run, at FROM drawings UNION ALL SELECT run, at FROM answers"
            " UNION ALL SELECT run, '' FROM forks UNION ALL SELECT run, '' FROM owners) AS entries"
            " WHERE run NOT IN (SELECT run FROM runs) GROUP BY run",
            (),
        )
        return {row["run"]: row["newest"] for row in rows}

    async def _paid(self, table: str, column: str, values: Values) -> Any:
        """Return a paid result by the values of its key, if there is one."""
        if self._spare and (spared := await self._spare._paid(table, column, values)):  # noqa: SLF001
            return spared
        sql = f"SELECT {column} FROM {table} WHERE {_are_equal(_PAID_TABLES[table])}"  # noqa: S608 - our own
        row = await self._one(sql, values)
        return json.loads(row[column]) if row else None

    async def _one(self, sql: str, values: Values) -> Any:
        rows = await self._all(sql, values)
        return rows[0] if rows else None

    async def _enter(self, table: str, values: Values) -> None:
        """Enter a paid result; into the spare ledger if the database cannot be reached."""
        try:
            await self._write(_insert_sql(table, len(values)), values)
        except StorageError as error:
            if self._spare is None:
                raise
            await self._spare._enter(table, values)  # noqa: SLF001 - another ledger
            logger.warning("The database is unreachable; a paid result is stored on this machine for now: %s", error)


@asynccontextmanager
async def open_ledger(path: Path) -> AsyncIterator[Ledger]:
    """Open the ledger in the SQLite file at `path`; errors as in `open_database`."""
    async with open_database(path, LEDGER_VERSION, LEDGER_SCHEMA) as connection:
        # SQLite's own knows ASCII only, and prompts can be in any language.
        await connection.create_function("lower", 1, str.lower, deterministic=True)
        yield Ledger(SqliteRows(connection, path))


def _run_row(row: Any) -> RunRow:
    return {
        "run_id": row["run"],
        "created": row["created"],
        "updated": row["updated"],
        "status": row["status"],
        "prompt": row["prompt"],
        "options": json.loads(row["options"]),
        "models": json.loads(row["models"]),
        "summary": json.loads(row["summary"] or "{}"),
        "forked_from": {"run_id": row["source"], "round": row["round"]} if row["source"] else None,
        "owner": row["owner"] or "",
    }


def _are_equal(names: Sequence[str]) -> str:
    return " AND ".join(f"{name}=?" for name in names)


def _insert_sql(table: str, columns: int) -> str:
    return f"INSERT INTO {table} VALUES ({','.join('?' * columns)}) ON CONFLICT DO NOTHING"  # noqa: S608 - our own


def _now() -> str:
    return _format_time(datetime.now(UTC))


def _format_time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds")


def _to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _image_ids(drawings: Sequence[Any], runs: Sequence[Any]) -> set[str]:
    sources = {json.loads(row["options"]).get(name) for row in runs for name in ("source", "mask")}
    return {json.loads(row["result"])["image"] for row in drawings} | (sources - {None, ""})
