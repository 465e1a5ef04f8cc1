"""Reading `examples.jsonl`."""

from __future__ import annotations

from pathlib import Path

import pytest

from gems.errors import SkillError
from gems.skills.discovery import BUILTIN
from gems.skills.examples import Example, read_examples
from tests.support.skill_folders import example, skill_folder


def test_lines_are_read_with_their_numbers(tmp_path: Path) -> None:
    first = '{"prompt": "a fox\u2028", "trigger": true, "keeps": ["fox"]}'
    text = f'\n{first}\r\n\n{{"prompt": "b", "trigger": false}}'
    folder = skill_folder(tmp_path, "foxes", text)
    assert read_examples(folder) == [
        Example(line=2, prompt="a fox\u2028", trigger=True, keeps=("fox",)),
        Example(line=4, prompt="b", trigger=False),
    ]


@pytest.mark.parametrize("folder", sorted(BUILTIN.iterdir()), ids=lambda folder: folder.name)
def test_those_of_the_built_in_skills(folder: Path) -> None:
    assert len(read_examples(folder)) > 20


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "invalid json"),
        ('"text"', "object"),
        ('{"trigger": true}', "prompt: field required"),
        ('{"prompt": " ", "trigger": true}', "prompt: "),
        ('{"prompt": 3, "trigger": true}', "prompt: "),
        ('{"prompt": "a", "trigger": "yes"}', "trigger: "),
        ('{"prompt": "a", "trigger": true, "keeps": "a"}', "keeps: "),
        ('{"prompt": "a", "trigger": true, "keeps": [1]}', "keeps.0: "),
        ('{"prompt": "a", "trigger": true, "keeps": [" "]}', "keeps: a statement is empty"),
        ('{"prompt": "a", "trigger": true, "keep": ["a"]}', "keep: "),
        ('{"prompt": "\\ud800", "trigger": true}', "invalid json"),
        (f'{{"prompt": "{"a" * 20_001}", "trigger": true}}', "prompt: "),
        (f'{{"prompt": "a", "trigger": true, "keeps": ["{"a" * 501}"]}}', "501 characters"),
        ("[" * 100_000, "invalid json"),
    ],
)
def test_what_is_wrong_with_a_line(tmp_path: Path, line: str, told: str) -> None:
    with pytest.raises(SkillError) as caught:
        read_examples(skill_folder(tmp_path, "foxes", line))
    assert f"line 1: {told}" in caught.value.message or told in caught.value.message
    assert len(caught.value.message) < 1_000


def test_all_broken_lines_are_told_together(tmp_path: Path) -> None:
    good = '{"prompt": "a", "trigger": true}'
    folder = skill_folder(tmp_path, "foxes", "\n".join([good, "x", good, "{}", *["y"] * 40]))
    with pytest.raises(SkillError, match=r"line 2: .*line 4: .*and lines 23, 24, .*44") as caught:
        read_examples(folder)
    assert "line 1:" not in caught.value.message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("text", [None, "", "\n \n"])
def test_no_examples(tmp_path: Path, text: str | None) -> None:
    with pytest.raises(SkillError, match=r"no (file|example)"):
        read_examples(skill_folder(tmp_path, "foxes", text))


def test_no_utf8(tmp_path: Path) -> None:
    folder = skill_folder(tmp_path, "foxes", [example("a")])
    (folder / "examples.jsonl").write_bytes(b"\n\xff\xfe")
    with pytest.raises(SkillError, match="line 2, is not UTF-8"):
        read_examples(folder)


def test_a_link_out_of_the_folder(tmp_path: Path) -> None:
    folder = skill_folder(tmp_path, "foxes")
    (tmp_path / "secret").write_text('{"prompt": "a", "trigger": true}')
    (folder / "examples.jsonl").symlink_to(tmp_path / "secret")
    with pytest.raises(SkillError, match="leads out"):
        read_examples(folder)
