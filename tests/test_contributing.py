"""CONTRIBUTING.md names files and functions that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
WALKS = dict(re.findall(r"^### (.+?)\n\n(.+?)(?=\n\n#|\Z)", TEXT, re.DOTALL | re.MULTILINE))
STOP = re.compile(r"\d+\. `([\w/.-]+\.py)` `(\w+)`: .+")


def test_three_walks_are_described() -> None:
    assert list(WALKS) == ["A prompt's way", "An image's way", "How to add a generator"]


@pytest.mark.parametrize("walk", WALKS)
def test_every_stop_exists(walk: str) -> None:
    lines = WALKS[walk].splitlines()
    assert 1 < len(lines) <= 10
    for line in lines:
        stop = STOP.fullmatch(line)
        assert stop, line
        path, name = stop.groups()
        assert name in defined_names(ROOT / path), f"{path} does not define {name}"


def test_every_path_exists() -> None:
    named = set(re.findall(r"`((?:src|graphs|nodes|memory|skills|tests|notebooks|docs|scripts)/[\w/.-]*)`", TEXT))
    assert len(named) > 20
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_the_table_is_short() -> None:
    rows = re.findall(r"^\| (?!---|To change)", TEXT, re.MULTILINE)
    assert 1 < len(rows) <= 12


def defined_names(path: Path) -> set[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, kinds)}
