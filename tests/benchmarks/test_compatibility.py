"""The campaign of models and servers that differ, small: some members, and what it says where a bound is missed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.compatibility import KINDS, Found, Kind, joined, measure
from benchmarks.odd_answers import all_yes

ROOT = Path(__file__).resolve().parents[2]
BY_NAME = {kind.name: kind for kind in KINDS}


@pytest.mark.parametrize(
    ("kind", "member"),
    [
        ("draft verdict in unknown thought marks", "<mm:think>"),
        ("content in parts", "thinking and text"),
        ("more requirements than are checked", "70 requirements"),
        ("JSON schema refused", "every format, 500"),
        ("reflector that sees nothing", "Ollama"),
        ("error within the stream", "OpenRouter"),
        ("pictures in other formats", "transparent PNG"),
    ],
)
def test_a_member_keeps_every_bound(kind: str, member: str) -> None:
    found = measure(BY_NAME[kind], member)
    assert found.missed() == []
    assert found.runs == sum(found.ended.values()) == 3


def test_a_judge_that_lies_is_noticed() -> None:
    lying = {"says yes": lambda asked: all_yes(asked) if asked.is_judging else None}
    found = measure(Kind("a judge that lies", lying), "says yes")
    assert found.wrong > 0
    assert f"a judge that lies (says yes): {found.wrong} runs passed wrongly" in found.missed()


def test_bounds() -> None:
    found = Found("slow", "a member", runs=3, requests=10, allowed=10, per_question=3)
    assert found.missed() == []
    found.requests = 11
    assert found.missed() == ["slow (a member): 11 requests, 10 allowed"]
    found.per_question = 4
    assert "slow (a member): 4 requests about one question" in found.missed()
    (whole,) = joined([found, found])
    assert (whole.member, whole.runs, whole.requests, whole.per_question) == ("2", 6, 22, 4)


def test_no_two_kinds_have_one_name() -> None:
    assert len(BY_NAME) == len(KINDS)


def test_what_was_measured_is_written(tmp_path: Path) -> None:
    out = tmp_path / "compatibility.json"
    command = [sys.executable, "-m", "benchmarks.compatibility", "--only", "tool call", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    tables = json.loads(out.read_text())["tables"]
    (kind,) = tables["kinds"]
    assert (kind["kind"], kind["ended"]) == ("answer in a tool call", {"passed": 2, "max_rounds": 1})
    assert tables["missed"] == []
