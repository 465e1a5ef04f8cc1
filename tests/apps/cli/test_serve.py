"""`gems keys`, and what `gems serve` says before it serves."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from gems.apps.cli.schemas import KeyList, NewKey, RevokedKey
from gems.apps.server.auth import KeyFile
from tests.support.terminal import here


def test_a_key_from_its_making_to_its_end() -> None:
    assert "There are no keys" in here("keys", "list").stderr
    made = here("keys", "add", "ann", "--runs-at-a-time", "4", "--images-per-day", "1000")
    key = made.stdout.strip()
    assert "not shown again" in made.stderr
    path = Path("gems") / "keys.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert key not in path.read_text()
    found = KeyFile(path).find(key)
    assert found is not None
    assert (found.name, found.runs_at_a_time, found.images_per_day) == ("ann", 4, 1000)
    listed = here("keys", "list").stdout
    assert listed.split()[0] == "ann"
    assert "runs: 4 in parallel  images per day: 1,000" in listed
    assert key not in listed
    assert found.sha256 not in here("keys", "list", "--json").stdout
    assert "ann" in here("keys", "revoke", "ann").stdout
    assert KeyFile(path).find(key) is None


def test_keys_as_json() -> None:
    made = NewKey.model_validate_json(here("keys", "add", "bob", "--json").stdout)
    assert made.key.startswith("gems-")
    (line,) = KeyList.model_validate_json(here("keys", "list", "--json").stdout).keys
    assert (line.name, line.runs_at_a_time, line.images_per_day) == ("bob", 2, None)
    revoked = RevokedKey.model_validate_json(here("keys", "revoke", "bob", "--json").stdout)
    assert revoked.name == "bob"
    assert json.loads(here("keys", "list", "--json").stdout) == {"keys": []}


@pytest.mark.parametrize(
    "words", [("add", "Ann!"), ("add", "ann"), ("revoke", "nobody"), ("revoke", "nobody", "--json")]
)
def test_names_that_cannot_be(words: tuple[str, ...]) -> None:
    here("keys", "add", "ann")
    refused = here("keys", *words)
    assert refused.exit_code == 2
    assert "hint: " in refused.stderr


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("gems.apps.server.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    refused = here("serve", "--port", "0")
    assert refused.exit_code == 2
    assert "pip install 'gems-agent[serve]'" in refused.stderr


def test_help_of_groups() -> None:
    assert "revoke" in here("keys").stdout
    assert "Exit codes:\n    0 " in here("serve", "--help").stdout
