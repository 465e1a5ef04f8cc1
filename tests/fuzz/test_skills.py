"""Skill files: front matter, headings, examples, names, references, what is trusted."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from gems.errors import GemsError
from gems.files.trust import distrust, trust, trusted_folders
from gems.runs.skill_learning import remove_control_characters, valid_name
from gems.skills.discovery import read_skill
from gems.skills.examples import FILE, read_examples
from gems.skills.files import find_references, read_references, read_text, within
from gems.skills.lettering import wanted_texts
from gems.skills.models import Skill, normalise_name
from gems.skills.parser import is_skill_name, read_document
from gems.skills.scaffold import Draft
from tests.support.text_strategies import as_json, bytes_, odd_texts, shaped, texts


@given(st.one_of(texts, texts.map(lambda text: f"---\n{text}\n---\nbody")), st.booleans())
@example("---\n" + "[" * 5_000, False)
@example("---\n" + "a: &a [*a]\n---\nbody", False)
@example("---\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40)) + "---\nx", False)
@example("---\nname: x\ndescription:" + " " * 50_000 + "\n---\nx", False)
@example("#" * 50_000, False)
@example("## Description\n" + "> " * 5_000, False)
@example("## Instructions\n" + "*" * 20_000, False)
@example("---\n? [a]\n: b\n---\nx", False)
@example("---\n- a\n---\nx", True)
@example("---\nmetadata: {gems-conflicts: [a]}\n---\nx", True)
def test_skill_files(text: str, has_code: bool) -> None:
    document = read_document(text.replace("\r", ""), "my-folder", has_code=has_code)
    assert document.is_usable or document.findings
    if document.is_usable:
        assert document.name == normalise_name(document.name) != ""
        assert 0 < len(document.description) <= 1024
        assert all(name for name in document.conflicts) or not document.conflicts


@given(bytes_)
def test_skill_folders(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "SKILL.md").write_bytes(raw)
    assert read_skill(tmp_path, "home", trusted=True).folder == tmp_path


@given(texts, st.text(max_size=60))
def test_a_draft_reads_as_it_was_written(body: str, description: str) -> None:
    body, description = (
        remove_control_characters(body).strip(),
        " ".join(remove_control_characters(description).split()),
    )
    fields = {"name": "my-skill", "description": description, "metadata": {"x": description}}
    draft = Draft(name="my-skill", fields=fields, body=body)
    if not draft.faults():
        document = read_document(draft.text(), "my-skill")
        assert (document.name, document.description, document.body) == ("my-skill", description, body)


@given(odd_texts)
def test_names(text: str) -> None:
    name = normalise_name(text)
    assert normalise_name(name) == name
    assert is_skill_name(valid_name(text)) or not valid_name(text)


@given(st.lists(st.one_of(as_json(shaped("prompt", "trigger", "keeps")), texts), max_size=5))
@example(['{"prompt": ' + "[" * 50_000])
def test_examples(tmp_path: Path, lines: list[str]) -> None:
    (tmp_path / FILE).write_text("\n".join(lines), encoding="utf-8", newline="")
    try:
        found = read_examples(tmp_path)
    except GemsError:
        return
    again = [json.dumps({"prompt": e.prompt, "trigger": e.trigger, "keeps": list(e.keeps)}) for e in found]
    (tmp_path / FILE).write_text("\n".join(again), encoding="utf-8")
    assert [(e.prompt, e.trigger, e.keeps) for e in read_examples(tmp_path)] == [
        (e.prompt, e.trigger, e.keeps) for e in found
    ]


@given(odd_texts)
@example("~")
@example("x" * 5_000)
@example("a/" * 3_000)
def test_references(tmp_path: Path, relative: str) -> None:
    try:
        path = within(tmp_path, relative)
        read_text(tmp_path, relative)
    except GemsError:
        return
    assert path.resolve().is_relative_to(tmp_path.resolve())


@given(texts)
@example("references/" * 5_000)
@example("references/" + "a" * 50_000)
@example("../" * 20_000 + "references/x.md")
@example("a/" * 20_000 + "x.md")
@example("[x](" * 10_000)
@example("[x](%00) [y](%ff) [z](..%2f) [w](c:x) ![v](/) [u](" + "a" * 50_000 + ")")
@example("[x](\ud800.md) references/\ud800.md")
def test_references_in_bodies(tmp_path: Path, body: str) -> None:
    texts_sent, ignored = read_references(Skill(name="x", description="x", folder=tmp_path), body)
    assert list(ignored) == find_references(body, tmp_path)
    assert not texts_sent
    assert all(ignored.values())


@given(texts)
@example('"a" ' * 2_000)
@example("\u201ca\u201d " * 2_000)
@example("\u201c" * 5_000)
@example("says " * 1_500)
@example("the word A, " * 1_500)
def test_wanted_texts(prompt: str) -> None:
    assert all(text.strip() for text in wanted_texts(prompt))


@given(as_json(shaped("folders")) | texts)
@example('{"folders": 5}')
@example('{"folders": [5]}')
@example('{"folders": ["\\u0000"]}')
@example('{"folders": ["\\ud800"]}')
@example("[" * 50_000)
def test_the_list_of_trusted_folders(tmp_path: Path, text: str) -> None:
    (tmp_path / "trusted.json").write_text(text, encoding="utf-8")
    try:
        listed = trusted_folders(tmp_path)
        assert trust(tmp_path, tmp_path) in trusted_folders(tmp_path)
        distrust(tmp_path, tmp_path)
        assert trusted_folders(tmp_path) == listed - {tmp_path.resolve()}
    except GemsError:
        return
