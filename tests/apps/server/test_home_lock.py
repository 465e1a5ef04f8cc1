"""Servers of one version share a home; those of two do not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gems._version import __version__
from gems.apps.server.dependencies import open_service
from gems.apps.server.home_lock import hold_home
from gems.errors import ConfigurationError
from gems.settings import ServeSettings
from tests.support.scripted_models import settings_at

_HOLD = """
import sys
from pathlib import Path
from gems.apps.server.home_lock import hold_home
with hold_home(Path(sys.argv[1]), sys.argv[2]):
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def held(home: Path, version: str) -> Iterator[None]:
    """Another process that holds the home; it is killed in the end."""
    command = [sys.executable, "-c", _HOLD, str(home), version]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield
        finally:
            process.kill()


@pytest.mark.parametrize("other", ["0.0.1", "99.0", "99.0.dev1+local"])
async def test_a_server_of_another_version_is_named_and_kept_out(tmp_path: Path, other: str) -> None:
    settings = settings_at(tmp_path / "home", serve=ServeSettings(web=False))
    with held(settings.home, other):
        with pytest.raises(ConfigurationError, match=f"Servers of GEMS {other[:4]}.*this is {__version__}"):
            async with open_service(settings):
                pass
        with hold_home(settings.home, other):
            pass
    # A killed process holds nothing, and what it wrote does not matter.
    async with open_service(settings):
        pass


def test_servers_of_one_version_share_it(tmp_path: Path) -> None:
    with (
        held(tmp_path, __version__),
        held(tmp_path, __version__),
        hold_home(tmp_path),
        pytest.raises(ConfigurationError),
        hold_home(tmp_path, "99.0"),
    ):
        pass
    with hold_home(tmp_path, "99.0"), pytest.raises(ConfigurationError), hold_home(tmp_path):
        pass


@pytest.mark.parametrize("content", [b"", b"\xff\0" * 500, b"99.0"])
def test_what_is_in_the_file_does_not_matter_if_nobody_holds_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "server.version").write_bytes(content)
    with hold_home(tmp_path), hold_home(tmp_path):
        pass
