"""The user's own `.env`: its place below the others, keys by name, and changes that keep the rest."""

from __future__ import annotations

import json
import logging
import stat
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gems.errors import ConfigurationError, GemsError, MissingExtraError
from gems.files.config import change_config, config_file, find_key, read_config
from gems.settings import load_settings

LOCAL = "openai:m@http://127.0.0.1:8000/v1"
KEY = "tops3cret-value"


def write(text: str) -> Path:
    path = config_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def keyring(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], str]:
    """The interface of the package, with entries in memory."""
    entries: dict[tuple[str, str], str] = {}
    package, errors = ModuleType("keyring"), ModuleType("keyring.errors")
    errors.KeyringError = type("KeyringError", (Exception,), {})  # type: ignore[attr-defined]
    package.get_password = lambda service, name: entries.get((service, name))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", package)
    monkeypatch.setitem(sys.modules, "keyring.errors", errors)
    return entries


def test_it_lies_in_the_configuration_folder_and_everything_else_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert config_file().is_relative_to(tmp_path)
    write("GEMS_CHAT__ATTEMPTS=1\nGEMS_CHAT__CONCURRENCY=2\nGEMS_CHAT__TIMEOUT_S=3\nGEMS_GENERATOR__STEPS=4\n")
    (tmp_path / ".env").write_text("GEMS_CHAT__CONCURRENCY=5\nGEMS_CHAT__TIMEOUT_S=6\n")
    monkeypatch.setenv("GEMS_CHAT__TIMEOUT_S", "7")
    settings = load_settings()
    assert (settings.chat.attempts, settings.chat.concurrency, settings.chat.timeout_s) == (1, 5, 7.0)
    assert settings.generator.steps == 4
    assert load_settings(generator={"steps": 9}).generator.steps == 9


def test_a_file_that_cannot_be_read_is_named() -> None:
    path = write("")
    path.write_bytes(b"GEMS_CHAT__MODEL=\xff\xfe\n")
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert str(path) in caught.value.message
    with pytest.raises(ConfigurationError):
        read_config(path)
    with pytest.raises(ConfigurationError):
        change_config(path, {"GEMS_CHAT__MODEL": LOCAL})
    assert path.read_bytes() == b"GEMS_CHAT__MODEL=\xff\xfe\n"


def test_a_key_by_the_name_of_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)
    write(f"GEMS_CHAT__MODEL={LOCAL}\nGEMS_CHAT__API_KEY=env:SOME_KEY\nGEMS_EMBEDDER_API_KEY=env:SOME_KEY\n")
    settings = load_settings()
    assert [settings.chat.api_key, settings.chat_for("judge").api_key, settings.embedder_api_key] == [
        settings.chat.api_key
    ] * 3
    assert settings.chat.api_key is not None
    assert settings.chat.api_key.get_secret_value() == KEY


def test_keys_of_models_on_offer_by_name(
    keyring: dict[tuple[str, str], str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)
    keyring["gems", "shop"] = "another"
    parts = {name: {"model": LOCAL, "api_key": key} for name, key in {"a": "env:SOME_KEY", "b": "keyring:shop"}.items()}
    offered = json.dumps(parts | {"c": {"model": LOCAL, "api_key": "env:NO_SUCH_KEY"}, "d": {"model": LOCAL}})
    write(f"GEMS_OFFERED_GENERATORS={offered}\nGEMS_OFFERED_JUDGES={offered}\n")
    settings = load_settings()
    for found in (settings.offered_generators, settings.offered_judges):
        keys = {name: part.api_key and part.api_key.get_secret_value() for name, part in found.items()}
        assert keys == {"a": KEY, "b": "another", "c": None, "d": None}
    assert "NO_SUCH_KEY is not set" in caplog.text


def test_a_key_in_the_keyring(keyring: dict[tuple[str, str], str]) -> None:
    keyring["gems", "127.0.0.1"] = KEY
    write(f"GEMS_CHAT__MODEL={LOCAL}\nGEMS_CHAT__API_KEY=keyring:127.0.0.1\n")
    key = load_settings().chat.api_key
    assert key is not None
    assert key.get_secret_value() == KEY


@pytest.mark.parametrize(
    ("reference", "said"), [("env:NO_SUCH_KEY", "NO_SUCH_KEY is not set"), ("keyring:none", "has no key 'none'")]
)
def test_a_key_that_is_gone_is_told_and_hinders_nothing_else(
    reference: str, said: str, keyring: Any, caplog: pytest.LogCaptureFixture
) -> None:
    write(f"GEMS_CHAT__MODEL={LOCAL}\nGEMS_CHAT__API_KEY={reference}\nGEMS_CHAT__ATTEMPTS=3\n")
    with caplog.at_level(logging.WARNING):
        settings = load_settings()
    assert (settings.chat.api_key, settings.chat.attempts) == (None, 3)
    assert said in caplog.text
    with pytest.raises(ConfigurationError, match="gems setup|" + said):
        find_key(reference)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(MissingExtraError, match="keyring"):
        find_key("keyring:some")


def test_names_of_keys_mean_nothing_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else's `.env` must not send a key of the environment to a server of its choice."""
    monkeypatch.setenv("SOME_KEY", KEY)
    lines = "GEMS_CHAT__MODEL=openai:m@http://127.0.0.1:1/v1\nGEMS_CHAT__API_KEY=env:SOME_KEY\n"
    (tmp_path / ".env").write_text(lines)
    key = load_settings().chat.api_key
    assert key is not None
    assert key.get_secret_value() == "env:SOME_KEY"


@pytest.mark.parametrize(
    ("lines", "over", "kept"),
    [
        (
            f"GEMS_CHAT__MODEL={LOCAL}\nGEMS_CHAT__API_KEY={KEY}",
            "GEMS_CHAT__MODEL=openai:n@http://127.0.0.1:1/v1",
            False,
        ),
        (f"GEMS_CHAT__MODEL={LOCAL}\nGEMS_CHAT__API_KEY={KEY}", "GEMS_CHAT__MODEL=openai:gpt-5", False),
        (
            f"GEMS_CHAT__MODEL={LOCAL}\nGEMS_CHAT__API_KEY={KEY}",
            "GEMS_CHAT__MODEL=openai:other@http://127.0.0.1:8000/v1",
            True,
        ),
        (f"GEMS_CHAT__MODEL={LOCAL}\nGEMS_CHAT__API_KEY={KEY}", "GEMS_GENERATOR__MODEL=http:http://127.0.0.1:1", True),
        (f"GEMS_CHAT__API_KEY={KEY}", "GEMS_CHAT__MODEL=openai:m@http://127.0.0.1:1/v1", False),
    ],
)
def test_a_key_is_not_used_for_another_server(tmp_path: Path, lines: str, over: str, kept: bool) -> None:
    extra = 'GEMS_CHAT__EXTRA_BODY={"token": "also"}'
    write(f"{lines}\n{extra}\n")
    (tmp_path / ".env").write_text(over)
    chat = load_settings().chat
    assert (chat.api_key is not None, bool(chat.extra_body)) == (kept, kept)


def test_keys_of_roles_and_generator_stay_with_their_servers(tmp_path: Path) -> None:
    parts = ("JUDGE", "GENERATOR")
    write("".join(f"GEMS_{part}__API_KEY={KEY}\n" for part in parts) + f"GEMS_CHAT__MODEL={LOCAL}\n")
    settings = load_settings()
    assert settings.judge.api_key is not None
    (tmp_path / ".env").write_text(
        "GEMS_CHAT__MODEL=openai:m@http://127.0.0.1:1/v1\nGEMS_GENERATOR__MODEL=http:http://127.0.0.1:1\n"
    )
    settings = load_settings()
    assert (settings.judge.api_key, settings.generator.api_key) == (None, None)
    assert KEY not in settings.identity()


OLD = """# mine
GEMS_HOME=/somewhere  # a comment

export GEMS_CHAT__MODEL="openai:old@http://127.0.0.1:1/v1"
GEMS_CHAT__API_KEY=old
OTHER='two
lines'
GEMS_CHAT__MODEL=twice"""


def test_changes_keep_everything_else() -> None:
    path = write(OLD)
    copy = change_config(
        path, {"GEMS_CHAT__MODEL": LOCAL, "GEMS_CHAT__API_KEY": None, "GEMS_GENERATOR__MODEL": "a'b\\"}
    )
    text = path.read_text()
    assert text.startswith("# mine\nGEMS_HOME=/somewhere  # a comment\n\n")
    assert "OTHER='two\nlines'\n" in text
    assert read_config(path) == {
        "GEMS_HOME": "/somewhere",
        "GEMS_CHAT__MODEL": LOCAL,
        "OTHER": "two\nlines",
        "GEMS_GENERATOR__MODEL": "a'b\\",
    }
    assert copy is not None
    assert copy.read_text() == OLD
    assert {stat.S_IMODE(each.stat().st_mode) for each in (path, copy)} == {0o600}
    assert sorted(path.parent.iterdir()) == [path, copy]


def test_a_new_file_and_a_link(tmp_path: Path) -> None:
    path = config_file()
    assert change_config(path, {"GEMS_CHAT__MODEL": LOCAL, "GEMS_CHAT__API_KEY": None}) is None
    assert path.read_text() == f"GEMS_CHAT__MODEL='{LOCAL}'\n"
    kept = tmp_path / "dotfiles"
    path.rename(kept)
    path.symlink_to(kept)
    change_config(path, {"GEMS_CHAT__MODEL": "blocks"})
    assert path.is_symlink()
    assert load_settings().chat.model == "blocks"


def test_a_folder_that_cannot_be_written() -> None:
    path = config_file()
    path.parent.parent.mkdir(parents=True)
    path.parent.write_text("a file")
    with pytest.raises(GemsError) as caught:
        change_config(path, {"GEMS_CHAT__MODEL": LOCAL})
    assert str(path) in caught.value.message
