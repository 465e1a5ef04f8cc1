"""Lines of an export are taken back as they were, and broken ones say what is wrong."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from gems.memory.experience import indexed_text
from gems.memory.export import MAX_LINE, format_line, numbered_lines, read_line

SHORT = {
    "type": "experience",
    "run": "r1",
    "round": 2,
    "generator": "flat",
    "prompt": "three cats",
    "failed": [{"kind": "count", "question": "Three cats?"}],
    "score": 0.5,
    "text": "It drew two.",
}
FULL = {
    "run": "r1",
    "round": 2,
    "prompt": 'three "cats"\u2028 \u4e09',
    "generator": "flat",
    "skills": ["spatial"],
    "failed": [{"kind": "count", "question": "Three cats?"}],
    "passed": [{"kind": "style", "question": "A drawing?"}],
    "text": "It drew two.",
    "next_prompt": "exactly three cats",
    "score": 0.5,
    "score_after": 1.0,
    "failed_after": [],
    "passed_after": [{"kind": "count", "question": "Three cats?"}],
    "action_after": "edit",
    "steps_after": [{"action": "edit", "kind": "count", "improved": True}],
    "at": "2026-01-31T12:00:00.000+00:00",
    "record": {"shown": 3, "helped": 2, "hurt": 1},
    "text_indexed": "found by this",
}
LESSON = {
    "generator": "flat",
    "skills": [],
    "kinds": ["count"],
    "text": "Say exactly.",
    "sources": [["r1", 2], ["r2", 1]],
    "by": "model",
    "at": "2026-01-31T12:00:00.000+00:00",
    "record": {"shown": 0, "helped": 0, "hurt": 0},
    "text_indexed": "three cats\nThree cats?",
}


def line(**changes: Any) -> str:
    return json.dumps({name: value for name, value in (SHORT | changes).items() if value is not ...})


def fault(given: str | bytes) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        read_line(given)
    return str(caught.value)


def test_round_trip() -> None:
    own = FULL | {"text_indexed": indexed_text(str(FULL["prompt"]), ["Three cats?"])}
    for value in (FULL, own):
        assert read_line(format_line("experience", "r1:2", value)) == ("experience", "r1:2", value)
    assert read_line(format_line("lesson", "abc", LESSON)) == ("lesson", "abc", LESSON)
    assert "\n" not in format_line("experience", "r1:2", FULL)
    assert json.loads(format_line("lesson", "abc", LESSON))["type"] == "lesson"


def test_lines_leave_out_what_an_import_completes() -> None:
    own = FULL | {"text_indexed": indexed_text(str(FULL["prompt"]), ["Three cats?"])}
    assert "text_indexed" not in json.loads(format_line("experience", "r1:2", own))
    assert json.loads(format_line("experience", "r1:2", FULL))["text_indexed"] == "found by this"


def test_long_prompts_fit_a_line() -> None:
    prompt = "x" * 20_000
    value = FULL | {"prompt": prompt, "next_prompt": prompt}
    value["text_indexed"] = indexed_text(prompt, ["Three cats?"])
    assert read_line(format_line("experience", "r1:2", value))[2] == value


def test_what_may_be_missing_is_completed() -> None:
    kind, key, value = read_line(line())
    assert (kind, key) == ("experience", "r1:2")
    assert value["text_indexed"] == "three cats\nThree cats?"
    assert value["record"] == {"shown": 0, "helped": 0, "hurt": 0}
    assert (value["failed_after"], value["passed_after"], value["score_after"]) == ([], [], None)
    assert (value["skills"], value["next_prompt"]) == ([], "")
    assert datetime.fromisoformat(value["at"]).tzinfo is not None


def test_moments_are_kept_in_utc() -> None:
    assert read_line(line(at="2026-01-31T12:00:00+02:00"))[2]["at"] == "2026-01-31T10:00:00.000+00:00"
    assert read_line(line(at="2026-01-31"))[2]["at"] == "2026-01-31T00:00:00.000+00:00"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"text": ...}, "text: Field required"),
        ({"text": "word " * 101}, "text: it has 101 words; the maximum is 100"),
        ({"text": " \n"}, "text"),
        ({"prompt": "\ud800"}, "prompt: it contains a lone surrogate"),
        ({"failed": [{"kind": "count", "question": "\udfff"}]}, "failed.0.question: it contains a lone surrogate"),
        ({"failed": [{"kind": "magic", "question": "?"}]}, "failed.0.kind"),
        ({"round": 0}, "round"),
        ({"round": 10**30}, "round"),
        ({"score": 1.5}, "score"),
        ({"score": float("nan")}, "score"),
        ({"generator": " "}, "generator"),
        ({"at": "yesterday"}, "at: it is not an ISO 8601 date"),
        ({"record": {"shown": -1, "helped": 0, "hurt": 0}}, "record: its counts"),
        ({"record": {"shown": 1}}, "record.helped: Field required"),
        ({"surplus": 1}, "surplus: Extra inputs"),
        ({"type": "wish"}, "type: Input should be 'experience'"),
        ({"type": "lesson"}, "key: Field required"),
    ],
)
def test_faults_are_named(changes: dict[str, Any], said: str) -> None:
    assert said in fault(line(**changes))


def test_what_is_no_json() -> None:
    assert "not JSON" in fault("{")
    assert "not JSON" in fault("[" * 60_000)
    assert fault(b'{"text": "\xff"}') == "it is not UTF-8"
    assert "line: " in fault("[1]")
    assert fault(" " * (MAX_LINE + 1)) == "it has 65,537 bytes; the maximum is 65,536"
    # Bytes count, not characters.
    assert "bytes; the maximum is" in fault(json.dumps("\u4e09" * 30_000, ensure_ascii=False))


def test_lines_are_numbered_with_the_blank_ones() -> None:
    assert list(numbered_lines([b"a", b"", b"  \r", "b"])) == [(1, b"a"), (4, "b")]
