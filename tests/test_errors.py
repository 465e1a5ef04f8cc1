"""The tree of errors: as drawn, complete, and helpful."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import get_args

import pytest

import gems
import gems.graphs
import gems.memory
import gems.nodes
import gems.skills
from gems import errors
from gems.errors import GemsError

PACKAGES = (gems, gems.graphs, gems.memory, gems.nodes, gems.skills)
_DRAWN = re.compile(r"^    (?P<bars>[│├└─ ]*)(?P<name>[A-Z]\w+)(?:\s{2,}(?P<rest>.*))?$")


def every_class(base: type[GemsError] = GemsError) -> list[type[GemsError]]:
    """All error classes of `gems.errors`, a parent before its children."""
    below = [found for child in base.__subclasses__() for found in every_class(child)]
    return [kind for kind in (base, *below) if kind.__module__ == errors.__name__]


def drawn() -> list[tuple[str, str | None, int | None]]:
    """Name, parent and exit code of each line of the tree in the module's docstring."""
    found: list[tuple[str, str | None, int | None]] = []
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if (match := _DRAWN.match(line)) is None:
            continue
        path = [*path[: len(match["bars"]) // 4], match["name"]]
        code = re.search(r"exit (\d)", match["rest"] or "")
        found.append((match["name"], path[-2] if len(path) > 1 else None, int(code[1]) if code else None))
    return found


def test_the_tree_is_the_one_that_is_drawn() -> None:
    real = {kind.__name__: kind.__mro__[1].__name__ for kind in every_class()}
    assert {name: parent or "Exception" for name, parent, _ in drawn()} == real
    assert len(drawn()) == len(real) > 30


def test_exit_codes_are_as_drawn() -> None:
    codes = {name: code for name, _, code in drawn() if code is not None}
    assert set(codes) == {kind.__name__ for kind in GemsError.__subclasses__()}
    for group in GemsError.__subclasses__():
        assert {kind.exit_code for kind in every_class(group)} == {codes[group.__name__]}


@pytest.mark.parametrize("kind", every_class())
def test_each_says_whose_fault_it_is(kind: type[GemsError]) -> None:
    assert kind.fault in get_args(errors.Fault)
    assert kind.exit_code in (1, 2)
    assert kind.fault != "gems" or kind.__name__ in ("GemsError", "InternalError")


def test_only_a_providers_errors_are_worth_trying_again() -> None:
    worth_it = {kind.__name__ for kind in every_class() if kind.retryable}
    assert worth_it == {
        "UnreachableError",
        "ProviderTimeoutError",
        "RateLimitError",
        "ServerError",
        "UnreadableReplyError",
        "TruncatedReplyError",
        "InvalidImageError",
    }


def raised_without_hint(source: Path) -> list[str]:
    """Where `source` makes an error that has neither a hint of its own nor one of its class."""
    bare = {kind.__name__ for kind in every_class() if not kind.default_hint}
    found = []
    for node in ast.walk(ast.parse(source.read_text())):
        if not isinstance(node, ast.Call) or getattr(node.func, "id", None) not in bare:
            continue
        if not any(keyword.arg == "hint" for keyword in node.keywords):
            found.append(f"{source.name}:{node.lineno} {ast.unparse(node.func)}")
    return found


def test_every_error_says_what_to_do() -> None:
    folders = {Path(place) for package in PACKAGES for place in package.__path__}
    sources = {source for folder in folders for source in folder.rglob("*.py")}
    assert len(sources) > 60
    assert [line for source in sorted(sources) for line in raised_without_hint(source)] == []


def test_hints_of_ones_own_stand_in_for_the_classs() -> None:
    assert errors.RunNotFoundError("There is no such run.").hint == errors.RunNotFoundError.default_hint
    own = errors.RunNotFoundError("There is no such run.", hint="Look elsewhere.")
    assert (own.message, own.hint, own.run_id) == ("There is no such run.", "Look elsewhere.", "")
    assert str(own) == "There is no such run. Look elsewhere."
    assert str(errors.PromptError("Too long.")) == "Too long."


def test_a_missing_extra_is_named() -> None:
    error = errors.MissingExtraError("Drawing", "diffusers")
    assert error.extra == "diffusers"
    assert "pip install 'gems-agent[diffusers]'" in str(error)


def test_what_the_endpoint_asks_is_kept() -> None:
    assert errors.RateLimitError("x", retry_after=3.0).retry_after == 3.0
    assert errors.ServerError("x").retry_after is None
    assert errors.TooManyImagesError("x", limit=2).limit == 2
