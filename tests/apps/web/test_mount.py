"""Whether the page is there, and `gems web` as far as it goes before it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from gems.apps.server.app import create_app
from gems.apps.web import mount
from gems.settings import ServeSettings
from tests.support.scripted_models import settings_at
from tests.support.scripted_service import PATIENCE_S
from tests.support.terminal import here, started


def paths_of(home: Path, **serve: bool) -> list[str]:
    app = create_app(settings_at(home, serve=ServeSettings(**serve)))
    return [path for route in app.routes if (path := getattr(route, "path", "")).startswith(mount.PATH)]


@pytest.mark.parametrize("found", [None, "3.18.0", "5.49.1", "nonsense"])
def test_without_a_gradio_that_fits_the_server_is_whole_and_the_command_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: str | None
) -> None:
    def version(name: str) -> str:
        if found is None:
            raise mount.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(mount, "version", version)
    assert paths_of(tmp_path) == []
    done = here("web", "--port", "0")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "pip install 'gems-agent[web]'" in done.stderr


def test_a_setting_leaves_the_page_out(tmp_path: Path) -> None:
    assert mount.PATH in paths_of(tmp_path)
    assert paths_of(tmp_path, web=False) == []


def test_the_environment_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "GRADIO_ANALYTICS_ENABLED"
    for before in (None, "True"):
        if before is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, before)
        with mount._no_analytics():
            assert mount.os.environ[name] == "False"
        assert mount.os.environ.get(name) == before


def test_other_machines_need_keys() -> None:
    refused = here("web", "--host", "0.0.0.0", "--port", "0")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "gems keys add" in refused.stderr


def test_the_command_prints_the_address_and_ends_well() -> None:
    # Whoever asks for the page gets it, whatever the settings of the server are.
    with started("web", "--port", "0", GEMS_SERVE__WEB="false") as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert httpx.get(url, timeout=PATIENCE_S).status_code == 200
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (0, "")
    assert url in err


def test_nothing_of_it_is_loaded_for_a_server_without_it() -> None:
    code = (
        "import sys; from gems.apps.server.app import create_app; from gems.settings import Settings; "
        "create_app(Settings(serve={'web': False})); print('gradio' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
