"""The files of deploy/ name settings, commands, extras and routes that exist, and open nothing to others."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import typer
import yaml

from gems.apps.cli.app import app
from gems.apps.server.app import check_reach
from gems.apps.server.auth import KeyFile
from gems.apps.server.health import router as health
from gems.errors import ConfigurationError
from gems.settings import Settings, load_settings

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
UNITS = sorted(DEPLOY.glob("*.service"))


def filled(text: str) -> str:
    """A value of compose.yaml, as it is where deploy/.env sets only what has no default."""
    return re.sub(r"\$\{\w+(?::([-?])([^}]*))?\}", lambda found: found[2] if found[1] == "-" else "given", text)


def environment_of_image() -> dict[str, str]:
    return dict(re.findall(r"(GEMS_\w+)=(\S+)", DOCKERFILE))


def environment_of_unit(unit: Path) -> dict[str, str]:
    return dict(re.findall(r"^Environment=(GEMS_\w+)=(.+)$", unit.read_text(encoding="utf-8"), re.MULTILINE))


def settings_of(environment: dict[str, str], home: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GEMS_HOME", str(home))
    return load_settings()


def commands() -> Iterator[list[str]]:
    """Every command line of GEMS in the files, without the program."""
    (entry,), (command,) = (re.findall(rf"^{name} \[(.+)\]$", DOCKERFILE, re.M) for name in ("ENTRYPOINT", "CMD"))
    image = [word.strip('", ') for word in f"{entry},{command}".split(",")]
    assert image[0] == "gems"
    yield image[1:]
    for unit in UNITS:
        (line,) = re.findall(r"^ExecStart=(.+)$", unit.read_text(encoding="utf-8"), re.MULTILINE)
        program, *words = shlex.split(line)
        assert Path(program).name == "gems"
        yield words
    for line in re.findall(r"\bgems ((?:[a-z]+ )+NAME)", (DEPLOY / "compose.yaml").read_text(encoding="utf-8")):
        yield line.split()


def test_every_setting_exists(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    known = set(re.findall(r"^#(GEMS_\w+)=", (ROOT / ".env.example").read_text(encoding="utf-8"), re.MULTILINE))
    of_gems = {name: filled(value) for name, value in SERVICES["gems"]["environment"].items()}
    named = environment_of_image() | of_gems
    for unit in UNITS:
        named |= environment_of_unit(unit)
    assert set(named) - known == set()
    settings = settings_of(environment_of_image() | of_gems, tmp_path, monkeypatch)
    assert settings.checkpoint is not None
    hosts = {urlsplit(url).hostname for url in (settings.checkpoint.get_secret_value(), settings.experience)}
    assert hosts == {"postgres", "chroma"} <= set(SERVICES)


def test_every_command_exists() -> None:
    for words in commands():
        command: Any = typer.main.get_command(app)
        left = list(words)
        while parts := getattr(command, "commands", None):
            command = parts[left.pop(0)]
        # Raises for an unknown option, or a wrong number of arguments.
        command.make_context("gems", left)


def test_the_image_is_built_from_what_is_there() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = re.findall(r"EXTRAS=([\w,]+)", DOCKERFILE)
    assert set(",".join(named).split(",")) <= set(extras)
    assert "postgres" in named[-1].split(","), "compose.yaml needs it"
    kept = re.findall(r"^!(.+)$", (DEPLOY / "Dockerfile.dockerignore").read_text(), re.MULTILINE)
    assert [name for name in kept if not (ROOT / name).exists()] == []
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"].values()
    assert {Path(folder).parts[0] for folder in packages} <= set(kept)
    (path,) = re.findall(r"127\.0\.0\.1:8765(/\w+)", DOCKERFILE)
    assert path in {route.path for route in health.routes}  # type: ignore[attr-defined]
    context = SERVICES["gems"]["build"]
    assert (DEPLOY / context["context"] / context["dockerfile"]).samefile(DEPLOY / "Dockerfile")


def test_the_server_of_chroma_has_the_version_of_its_client() -> None:
    (pin,) = re.findall(r"^chromadb==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert SERVICES["chroma"]["image"].endswith(f":{pin}")


def test_nothing_is_open_to_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ports answer on the machine itself only; what listens on all addresses of a container needs keys."""
    ports = {name: service.get("ports", []) for name, service in SERVICES.items()}
    assert {name for name, listed in ports.items() if listed} == {"gems", "open-webui"}
    assert [port for listed in ports.values() for port in listed if not port.startswith("127.0.0.1:")] == []
    (user,) = re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)
    assert int(user) > 0
    settings = settings_of(environment_of_image(), tmp_path, monkeypatch)
    assert settings.serve.host == "0.0.0.0"
    with pytest.raises(ConfigurationError, match="no keys"):
        check_reach(settings)
    KeyFile(settings.serve.keys_path(settings)).add("open-webui")
    check_reach(settings)
    for unit in UNITS:
        assert "GEMS_SERVE__HOST" not in environment_of_unit(unit)


def test_a_stop_waits_for_the_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from gems.apps.server.dependencies import ANSWERS_S

    needed = settings_of({}, tmp_path, monkeypatch).serve.drain_s + ANSWERS_S
    (unit,) = re.findall(r"^TimeoutStopSec=(\d+)$", (DEPLOY / "gems.service").read_text(), re.MULTILINE)
    assert min(int(unit), int(SERVICES["gems"]["stop_grace_period"].removesuffix("s"))) > needed


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_reads_the_units(tmp_path: Path) -> None:
    program = tmp_path / "gems"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for unit in [*UNITS, *DEPLOY.glob("*.timer")]:
        text = re.sub(r"^ExecStart=\S+", f"ExecStart={program}", unit.read_text(), flags=re.MULTILINE)
        (tmp_path / unit.name).write_text(text)
    paths = [str(path) for path in tmp_path.glob("*.[st]*")]
    done = subprocess.run(
        ["systemd-analyze", "verify", *paths], capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
