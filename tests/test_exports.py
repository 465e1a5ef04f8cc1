"""The public face of the package."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import gems

_LAZY = """
import sys
import gems
gems.__all__, dir(gems), gems.__version__
heavy = {"gems.service", "langgraph", "langchain_core", "pydantic", "httpx", "openai", "PIL", "numpy"}
print(sorted(heavy & set(sys.modules)))
gems.GemsError
print(sorted(heavy & set(sys.modules)))
"""


def test_every_name_is_there() -> None:
    for name in gems.__all__:
        assert getattr(gems, name) is not None
    assert dir(gems) == gems.__all__


def test_every_name_comes_from_where_it_is_said_to() -> None:
    assert set(gems._MODULES) | {"__version__"} == set(gems.__all__)
    for name, home in gems._MODULES.items():
        assert getattr(gems, name) is getattr(sys.modules[home], name)


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(gems.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    declared = {
        alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert declared == gems._MODULES


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="generates"):
        gems.generates  # noqa: B018


def test_importing_the_package_loads_nothing_heavy() -> None:
    told = subprocess.run([sys.executable, "-c", _LAZY], capture_output=True, text=True, timeout=300, check=True)
    assert told.stdout.splitlines() == ["[]", "[]"]
