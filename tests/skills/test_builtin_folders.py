"""The folders of the built-in skills: what stands in them, and that plain prompts do not call for them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from langchain_core.messages import HumanMessage, SystemMessage

from gems.models.blocks import BlocksChat
from gems.models.chat.schemas import SkillChoice, wrap_in_tag

ROOT = Path(__file__).resolve().parents[2]
BUILTIN = ROOT / "skills" / "builtin"
SHAPES = ROOT / "src" / "gems" / "models" / "blocks" / "prompts.jsonl"
NAMES = (
    "aesthetic-drawing",
    "counting-and-binding",
    "creative-drawing",
    "knowledge-grounding",
    "spatial-layout",
    "text-rendering",
)
EVERY = pytest.mark.parametrize("name", NAMES)


def parts(name: str) -> tuple[dict[str, Any], str]:
    """Front matter and body of a skill."""
    text = (BUILTIN / name / "SKILL.md").read_text(encoding="utf-8")
    opening, front, body = re.split(r"^---\n", text, maxsplit=2, flags=re.MULTILINE)
    assert opening == ""
    return yaml.safe_load(front), body.strip()


def json_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def examples(name: str) -> list[dict[str, Any]]:
    return json_lines(BUILTIN / name / "examples.jsonl")


def alike(prompt: str) -> str:
    """What two prompts share that differ in case, spaces and punctuation only."""
    return re.sub(r"\W+", " ", prompt.lower()).strip()


def chosen(prompt: str) -> list[str]:
    """What the rule-based planner of the built-in world chooses."""
    lines = "\n".join(f"{name}: {' '.join(parts(name)[0]['description'].split())}" for name in NAMES)
    asked = wrap_in_tag("user_prompt", prompt) + wrap_in_tag("skills", lines)
    reply = BlocksChat().invoke([SystemMessage("Task: route"), HumanMessage(asked)])
    return SkillChoice.model_validate_json(reply.text).skills


def test_these_are_the_folders() -> None:
    assert sorted(path.name for path in BUILTIN.iterdir() if (path / "SKILL.md").exists()) == list(NAMES)


@EVERY
def test_front_matter(name: str) -> None:
    front, _ = parts(name)
    assert set(front) == {"name", "description", "license", "metadata"}
    assert front["name"] == name
    assert 80 <= len(front["description"]) <= 400
    assert "\n" not in front["description"].strip()
    assert " Not " in front["description"]
    assert front["license"] == "Apache-2.0"
    assert front["metadata"]["author"] == "GEMS"
    assert all(isinstance(value, str) for value in front["metadata"].values())


@EVERY
def test_conflicts_are_known_and_mutual(name: str) -> None:
    for other in parts(name)[0]["metadata"].get("gems-conflicts", "").split():
        assert other in NAMES
        assert name in parts(other)[0]["metadata"]["gems-conflicts"].split()


@EVERY
def test_body(name: str) -> None:
    _, body = parts(name)
    assert len(body.splitlines()) <= 120
    assert len(body) / 4 <= 5000
    for heading in ("## When to use", "## When not", "## What stays", "## Examples"):
        assert f"\n{heading}\n" in body
    assert 2 <= body.count("**Prompt:** ") == body.count("**Rewritten:** ") <= 3


@EVERY
def test_references_exist_and_are_named(name: str) -> None:
    _, body = parts(name)
    folder = BUILTIN / name / "references"
    there = {f"references/{path.name}" for path in folder.iterdir()} if folder.exists() else set()
    assert set(re.findall(r"references/[\w./-]+\.md", body)) == there
    assert all((BUILTIN / name / path).read_text(encoding="utf-8").startswith("# ") for path in there)


@EVERY
def test_examples(name: str) -> None:
    lines = examples(name)
    for line in lines:
        assert set(line) == {"prompt", "trigger", "keeps"}
        assert line["prompt"].strip() == line["prompt"] != ""
        assert isinstance(line["trigger"], bool)
        assert 2 <= len(line["keeps"]) <= 5 if line["trigger"] else line["keeps"] == []
        assert len(set(line["keeps"])) == len(line["keeps"])
        for phrase in line["keeps"]:
            assert phrase.strip()
            assert phrase in line["prompt"]
    assert sum(line["trigger"] for line in lines) >= 8
    assert sum(not line["trigger"] for line in lines) >= 8


def test_no_two_examples_are_alike() -> None:
    prompts = [alike(line["prompt"]) for name in NAMES for line in examples(name)]
    assert len(set(prompts)) == len(prompts)


@EVERY
def test_examples_are_not_those_of_the_guidance(name: str) -> None:
    shown = re.findall(r"\*\*Prompt:\*\* (.+?)\n\n", parts(name)[1], flags=re.DOTALL)
    assert not {alike(prompt) for prompt in shown} & {alike(line["prompt"]) for line in examples(name)}


def test_text_is_also_shown_in_chinese() -> None:
    triggers = [line["prompt"] for line in examples("text-rendering") if line["trigger"]]
    assert sum(bool(re.search(r"[\u4e00-\u9fff]", prompt)) for prompt in triggers) >= 2


def test_prompts_of_shapes_call_for_lettering_only() -> None:
    prompts = [line["prompt"] for line in json_lines(SHAPES)]
    assert len(prompts) == 60
    for prompt in prompts:
        # Three counted groups call for counting, whatever else there is.
        expected = ["text-rendering"] if '"' in prompt else []
        assert [name for name in chosen(prompt) if name != "counting-and-binding"] == expected
    assert sum("counting-and-binding" in chosen(prompt) for prompt in prompts) == 1
