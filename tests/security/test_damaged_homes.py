"""Whatever happens to a file of a home, what follows is an error with a name, or is told; or nothing is different."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gems.resources import open_stores
from tests.docs.test_pages import text_of
from tests.support.damaged_homes import DAMAGES, FILES, Outcome, outcomes
from tests.support.scripted_models import settings_at

NAMED = {"CorruptStoreError", "StoreVersionError", "ConfigurationError", "RunNotFoundError", "OptionError"}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    with pytest.MonkeyPatch.context() as patch:
        base = tmp_path_factory.mktemp("damaged")
        patch.setenv("HOME", str(base))
        return list(outcomes(base))


def test_nothing_is_lost_in_silence(found: list[Outcome]) -> None:
    for outcome in found:
        error = re.fullmatch(r"`(\w+)`", outcome.text)
        is_told = outcome.text.startswith("told: ") or outcome.text in ("as before", "asked again")
        assert is_told or (error and error[1] in NAMED), outcome


def test_every_file_was_damaged_in_every_way(found: list[Outcome]) -> None:
    tried = {(outcome.file, outcome.damage) for outcome in found}
    wanted = {(file.name, damage) for file in FILES for damage in DAMAGES}
    assert {(file, damage) for file, damage in wanted - tried if file.endswith(".sqlite3")} == set()
    assert {damage for _, damage in wanted - tried} == {"newer version"}


def test_a_home_of_a_newer_version_is_refused(found: list[Outcome]) -> None:
    newer = [outcome.text for outcome in found if outcome.damage == "newer version"]
    assert set(newer) == {"`StoreVersionError`"}


def test_a_damaged_key_file_lets_nobody_in(found: list[Outcome]) -> None:
    said = {outcome.damage: outcome.text for outcome in found if outcome.file == "keys.json"}
    told = said.pop("absent")
    assert set(said.values()) == {"`ConfigurationError`"}
    assert "keys.json is gone, though runs of this home belong to keys" in told


async def test_a_lost_outbox_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = settings_at(tmp_path / "home", experience="")
    async with open_stores(settings):
        assert not caplog.text
    settings.experience_path.mkdir()
    async with open_stores(settings):
        assert "outbox.sqlite3 is gone or empty" in caplog.text


def test_the_table_of_the_documentation_names_all_of_it() -> None:
    """`python -m tests.support.damaged_homes` prints it."""
    rows = re.findall(r"^\| `(?:GEMS_HOME/)?([^`]+)` \| ([\w, ]+) \|", text_of("docs/security.md"), re.MULTILINE)
    documented = {(name, damage.strip()) for name, damages in rows for damage in damages.split(",")}
    for file in FILES:
        for damage in DAMAGES:
            if damage != "newer version" or file.name.endswith(".sqlite3"):
                assert (file.name, damage) in documented
