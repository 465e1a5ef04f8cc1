"""Programs of the npm registry, installed once into `build/clients`, and scripts that use them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tests.support.scripted_service import PATIENCE_S

_ROOT = Path(__file__).resolve().parents[2]
_SCRIPTS = _ROOT / "tests" / "clients"
_FOLDER = _ROOT / "build" / "clients"
_OLDEST = 20
_UNREACHABLE = (
    *("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ENETUNREACH", "EHOSTUNREACH", "ETIMEDOUT"),
    *("ERR_SOCKET_TIMEOUT", "ERR_SOCKET_CLOSED"),
)
_INSTALL = (
    *("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"),
    # Without a network nothing is gained by waiting a minute.
    *("--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=1000"),
)


@dataclass(frozen=True, slots=True)
class Node:
    """Node.js beside the packages that are listed in `tests/clients/package-lock.json`."""

    folder: Path

    def run(self, *arguments: str, script: str | None = None, package: str = "", **environment: str) -> str:
        """What Node prints; `script` is the text of a module, `package` the folder of a package to run in."""
        options = ["--input-type=module", "-"] if script is not None else []
        done = subprocess.run(
            ["node", *options, *arguments],
            cwd=self.folder / package,
            input=script,
            capture_output=True,
            encoding="utf-8",
            timeout=PATIENCE_S,
            check=False,
            env=os.environ | environment,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return done.stdout

    def run_script(self, name: str, *arguments: str) -> Any:
        """The JSON that a script beside the list of packages prints."""
        return json.loads(self.run(*arguments, script=(_SCRIPTS / name).read_text(encoding="utf-8")))


def installed() -> Node:
    """Node.js with the packages; the test is skipped where Node is absent or the registry cannot be reached."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node.js is not installed; tests with clients of the npm registry need node and npm")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < _OLDEST:
        pytest.skip(f"Node.js {version} is too old; tests with clients of the npm registry need {_OLDEST}")
    lock = (_SCRIPTS / "package-lock.json").read_text(encoding="utf-8")
    stamp = _FOLDER / "installed.json"
    _FOLDER.mkdir(parents=True, exist_ok=True)
    with FileLock(_FOLDER / "lock", timeout=PATIENCE_S):
        if not stamp.exists() or stamp.read_text(encoding="utf-8") != lock:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(_SCRIPTS / name, _FOLDER)
            _install()
            stamp.write_text(lock, encoding="utf-8")
    return Node(_FOLDER)


def _install() -> None:
    try:
        done = subprocess.run(
            _INSTALL, cwd=_FOLDER, capture_output=True, encoding="utf-8", timeout=PATIENCE_S, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"The npm registry did not answer within {PATIENCE_S} s; its clients are not installed")
    if re.search(rf"^npm (?:error|ERR!) code (?:{'|'.join(_UNREACHABLE)})$", done.stderr, re.MULTILINE):
        pytest.skip(f"The npm registry cannot be reached; its clients are not installed: {done.stderr[:200]}")
    assert done.returncode == 0, done.stderr
