"""Damage each file of a home in turn, and see what commands make of it.

`python -m tests.support.damaged_homes` prints the table of docs/security.md.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gems.memory.vision_record import VisionRecord
from tests.support.skill_folders import write
from tests.support.terminal import here

DRAW = ("run", "two green stars", "--size", "256x256", "--rounds", "1", "--seed", "7", "--skills", "none", "--json")
OTHER = (*DRAW[:1], "two red circles", *DRAW[2:])


@dataclass(frozen=True, slots=True)
class File:
    """A file of a home, the commands that read it, and what is lost with it."""

    name: str
    commands: tuple[str, ...]
    lost: str


FILES = (
    File("ledger.sqlite3", ("show", "run"), "the index of runs and what was paid for; images and experiences stay"),
    File("checkpoints.sqlite3", ("show",), "prompts, verdicts and the ability to resume; images stay"),
    File("outbox.sqlite3", ("run",), "experiences not yet stored; `gems memory rebuild` writes them anew"),
    File("images/*/*.png", ("show",), "this image"),
    File("outputs/*.png", ("show",), "the copy in `outputs`; the stored image stays"),
    File("keys.json", ("serve",), "the keys, which must be made anew"),
    File("trusted.json", ("skills",), "trust in folders"),
    File("vision.json", ("vision",), "an answer of each judge about its sight, which is asked again"),
    File("skills/mine/SKILL.md", ("skill",), "the skill"),
    File("skills/mine/graph.py", ("skill",), "the code of the skill"),
    File("server.version", ("serve",), "nothing"),
)


def _flip(path: Path, start: int, length: int = 1) -> None:
    data = bytearray(path.read_bytes())
    for place in range(start, min(start + length, len(data))):
        data[place] ^= 0xFF
    path.write_bytes(data)


def _set_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version=99")
        database.commit()


DAMAGES: dict[str, Callable[[Path], None]] = {
    "first byte": lambda path: _flip(path, 0),
    "middle": lambda path: _flip(path, path.stat().st_size // 2, 64),
    "half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: os.truncate(path, 0),
    "absent": Path.unlink,
    "newer version": _set_version,
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command said of a damaged home: `text` is `as before`, an error's type, or what was told."""

    file: str
    damage: str
    command: str
    text: str


def make_home(home: Path) -> str:
    """A home with a run, a key that owns one, a skill and a trusted project; the id of the run."""
    project = home.parent / "project"
    with _environment(home):
        write(project / ".agents" / "skills" / "theirs")
        done = here(*DRAW)
        assert done.exit_code in (0, 3), done.stderr
        assert here("keys", "add", "ann").exit_code == 0
        with closing(sqlite3.connect(home / "ledger.sqlite3")) as database:
            database.execute("INSERT INTO owners VALUES ('a-run-of-anns', 'ann')")
            database.commit()
        write(home / "skills" / "mine", {"graph.py": "def build(context):\n    return context.default()\n" * 20})
        assert here("skills", "trust", str(project)).exit_code == 0
        asyncio.run(VisionRecord(home / "vision.json").enter("some judge", "yes"))
        (home / "server.version").write_text("0.0.1")
        for name in ("ledger", "checkpoints", "outbox"):
            with closing(sqlite3.connect(home / f"{name}.sqlite3")) as database:
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    run_id: str = json.loads(done.stdout)["run_id"]
    return run_id


@contextmanager
def _environment(home: Path) -> Iterator[None]:
    """With this home, in the folder of a project beside it."""
    kept, folder, project = dict(os.environ), Path.cwd(), home.parent / "project"
    os.environ |= {"GEMS_HOME": str(home), "GEMS_EMBEDDER": "lexical"}
    project.mkdir(parents=True, exist_ok=True)
    os.chdir(project)
    try:
        yield
    finally:
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(kept)


def outcomes(base: Path) -> Iterator[Outcome]:
    """Damage each file in each way, each time in a new copy of a home in the folder `base`."""
    whole = base / "whole"
    # At the path of the copies, since results name it.
    run_id = make_home(base / "home")
    shutil.copytree(base / "home", whole)
    before: dict[str, Any] = {}
    for file in FILES:
        for damage, do in DAMAGES.items():
            if damage == "newer version" and not file.name.endswith(".sqlite3"):
                continue
            for command in file.commands:
                home = base / "home"
                if command not in before:
                    before[command] = _asked(_copied(whole, home), command, run_id)
                path = sorted(_copied(whole, home).glob(file.name))[0]
                do(path)
                yield Outcome(file.name, damage, command, _judged(before[command], _asked(home, command, run_id)))


def _copied(whole: Path, home: Path) -> Path:
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(whole, home)
    return home


def _asked(home: Path, command: str, run_id: str) -> tuple[str, Any, str]:
    """The type of the error, the result without what differs each time, and what was told."""
    arguments: dict[str, tuple[str, ...]] = {
        "show": ("show", run_id, "--json"),
        "run": OTHER,
        "skill": (*OTHER[:-2], "mine", "--json"),
        "skills": ("skills", "list", "--json"),
    }
    logger, kept = logging.getLogger("gems"), _Kept()
    logger.addHandler(kept)
    try:
        with _environment(home):
            if command == "serve":
                error, found = _opened()
            elif command == "vision":
                error, found = "", asyncio.run(VisionRecord(home / "vision.json").reply("some judge")) or "asked again"
            else:
                error, found = _called(arguments[command])
    finally:
        logger.removeHandler(kept)
    messages = list(kept.messages)
    if isinstance(found, dict):
        messages += found.pop("warnings", None) or []
        messages += [f"{folder} is not trusted" for folder in found.pop("untrusted", [])]
    told = " ".join(dict.fromkeys(messages)).replace(str(home.parent), "").replace(run_id, "RUN")
    return error, _steady(found), told


def _called(arguments: tuple[str, ...]) -> tuple[str, Any]:
    """The type of a command's error, and its result."""
    done = here(*arguments)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        return f"{type(done.exception).__name__} uncaught", None
    try:
        found = json.loads(done.stdout or done.stderr.splitlines()[-1])
    except (ValueError, IndexError):
        return f"no JSON: {done.stderr[-200:]}", None
    if isinstance(found, dict) and isinstance(found.get("error"), dict):
        return str(found["error"]["type"]), None
    return ("" if done.exit_code in (0, 3) else f"exit {done.exit_code}"), found


def _opened() -> tuple[str, Any]:
    """The error of a server's start, and whether it asks for keys."""
    from gems.apps.server.dependencies import open_service
    from gems.errors import GemsError
    from gems.settings import load_settings

    async def start() -> bool:
        async with open_service(load_settings()) as service:
            return service.access.needs_key

    try:
        return "", asyncio.run(start())
    except GemsError as error:
        return type(error).__name__, None


class _Kept(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


_VARYING = frozenset({"run_id", "seconds", "usage", "path", "created", "updated", "at", "key", "recalls", "plan"})


def _steady(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _steady(inner) for name, inner in value.items() if name not in _VARYING}
    return [_steady(inner) for inner in value] if isinstance(value, list) else value


def _judged(before: tuple[str, Any, str], after: tuple[str, Any, str]) -> str:
    error, result, told = after
    if error:
        return f"`{error}`" if error.isidentifier() else error
    if told and told != before[2]:
        return f"told: {told}"
    if result == "asked again":
        return result
    return "as before" if result == before[1] else f"SILENT {json.dumps(result)[:300]}"


def table(found: list[Outcome]) -> str:
    """The table of docs/security.md."""
    lines = ["| File | Damage | What happens | What is lost |", "| --- | --- | --- | --- |"]
    for file in FILES:
        rows: dict[str, list[str]] = {}
        for damage in DAMAGES:
            said = [f"{o.command}: {_shortened(o.text)}" for o in found if (o.file, o.damage) == (file.name, damage)]
            if said:
                rows.setdefault("; ".join(said), []).append(damage)
        lines += [f"| `{file.name}` | {', '.join(names)} | {said} | {file.lost} |" for said, names in rows.items()]
    return "\n".join(lines)


def _shortened(text: str) -> str:
    """The first sentence, without what differs each time."""
    plain = re.sub(r"[0-9a-f]{64}", "ID", re.sub(r"\d{8}-\d{6}-\w+", "TIME", text)).replace("/home/", "")
    return re.split(r"(?<=[.]) (?=[A-Z`])|\n", plain.replace("images/d1/ID.png", "its file"))[0].replace("|", "")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(table(list(outcomes(Path(folder)))))  # noqa: T201
