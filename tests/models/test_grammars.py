"""The forms of replies as the grammars that servers make of them.

vLLM and SGLang compile a JSON schema with xgrammar, llguidance or outlines-core. Each must accept every form, and with
it allow what is right and nothing else. `make live` installs xgrammar, and asks a llama.cpp server, which has a
compiler of its own.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from gems.models.chat.capabilities import response_format
from gems.models.chat.parsing import read_json
from gems.models.chat.schemas import Task
from gems.nodes.prompts import REPLIES

Accepts = Callable[[str], bool]
"""Whether a text is a whole reply."""
FORMS = {task: form for task, form in REPLIES.items() if form is not None}
REPLY: dict[Task, Any] = {
    "route": {"why": "It asks for words.", "skills": ["text-rendering"]},
    "enhance": {"prompt": 'three red circles and the word "GO"'},
    "keep": {"lost": [{"number": 2, "how": "contradicted"}], "prompt": "three red circles above a blue square"},
    "prepare": {"prompt": "ein Haus über dem Fluß, 三个红色的圆"},
    "decompose": {
        "requirements": [
            {"question": 'Is the word "GO" visible?', "kind": "text"},
            {"question": 'Is the word "GO" red?', "kind": "attribute", "parents": [1]},
        ]
    },
    "complete": {"requirements": []},
    "follow": {"kind": "change", "picture": 1, "instruction": "Make it green.", "prompt": "a green cat"},
    "checklist": {
        "answers": [
            {"number": 1, "evidence": "three circles at the top", "answer": "yes"},
            {"number": 2, "evidence": "", "answer": "unknown"},
            {"number": 12, "evidence": 'it says "G0"', "answer": "no", "box": [120, 400, 310, 560]},
        ]
    },
    "settle": {"answers": [{"number": 1, "evidence": "four circles", "answer": "no", "box": [120, 400, 310, 560]}]},
    "summarise": {"experience": "The circles were too few."},
    "refine": {"prompt": "exactly three red circles"},
    "reflect": {"experience": "The circles were too few.", "prompt": "exactly three red circles"},
    "mend": {
        "experience": "The circles were too few.",
        "prompt": "exactly three red circles",
        "instruction": "Add a red circle.",
    },
    "distil": {"experience": "Naming the count first helps."},
    "amend": {
        "amendments": [
            {
                "kind": "wording",
                "target": "reflect",
                "name": "",
                "before": "",
                "after": "Count.",
                "reason": "It helped.",
            }
        ]
    },
    "author": {"name": "exact-counts", "description": "For prompts with counts.", "body": "Name the count first."},
}
"""A right reply to each task; what it leaves out has a default."""
NO_FIELD = [[0]]
"""What no field of any form holds."""


def compile_llguidance(schema: dict[str, Any]) -> Accepts:
    llguidance = importlib.import_module("llguidance")
    grammar = llguidance.LLMatcher.grammar_from_json_schema(json.dumps(schema))
    tokenizer = llguidance.LLTokenizer("byte")
    failed, messages = llguidance.LLMatcher.validate_grammar_with_warnings(grammar, tokenizer)
    assert not failed, messages
    assert messages == []

    def accepts(text: str) -> bool:
        matcher = llguidance.LLMatcher(tokenizer, grammar)
        tokens = list(text.encode())
        return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()

    return accepts


def compile_outlines(schema: dict[str, Any]) -> Accepts:
    outlines = importlib.import_module("outlines_core")
    expression = outlines.json_schema.build_regex_from_schema(json.dumps(schema))
    vocabulary = outlines.Vocabulary(256, {bytes([byte]): [byte] for byte in range(256)})
    index = outlines.Index(expression, vocabulary)

    def accepts(text: str) -> bool:
        state = index.get_initial_state()
        for byte in text.encode():
            if (state := index.get_next_state(state, byte)) is None:
                return False
        return bool(index.is_final_state(state))

    return accepts


def compile_xgrammar(schema: dict[str, Any]) -> Accepts:
    xgrammar = pytest.importorskip("xgrammar", reason="`make live` installs xgrammar")
    tokenizer = xgrammar.TokenizerInfo([bytes([byte]) for byte in range(256)] + [b"</s>"], stop_token_ids=[256])
    grammar = xgrammar.GrammarCompiler(tokenizer).compile_json_schema(json.dumps(schema))

    def accepts(text: str) -> bool:
        matcher = xgrammar.GrammarMatcher(grammar)
        return matcher.accept_string(text) and matcher.accept_token(256)

    return accepts


@pytest.fixture(params=[compile_llguidance, compile_outlines, compile_xgrammar], ids=lambda made: made.__name__[8:])
def compiled(request: pytest.FixtureRequest) -> Callable[[dict[str, Any]], Accepts]:
    """Each engine, on a vocabulary of single bytes."""
    engine: Callable[[dict[str, Any]], Accepts] = request.param
    return engine


@pytest.fixture(params=FORMS)
def task(request: pytest.FixtureRequest) -> Task:
    """Each task that is answered by a form."""
    found: Task = request.param
    return found


def sent(form: type[BaseModel]) -> dict[str, Any]:
    """The schema in the request."""
    schema: dict[str, Any] = response_format(form, "json_schema")["json_schema"]["schema"]
    return schema


def without_lengths(schema: Any) -> Any:
    """The schema without limits of texts."""
    if isinstance(schema, list):
        return [without_lengths(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {name: without_lengths(value) for name, value in schema.items() if name != "maxLength"}


def whole(task: Task) -> dict[str, Any]:
    """The right reply with all its fields, as a strict server writes it."""
    return FORMS[task].model_validate(REPLY[task]).model_dump(mode="json")


def written(reply: Any) -> str:
    return json.dumps(reply, ensure_ascii=False)


def spoilt(reply: dict[str, Any], needed: list[str]) -> Iterator[str]:
    """Replies that are wrong: cut off, within prose, a field missing or of the wrong type."""
    text = written(reply)
    yield from (text[:-1], text[: len(text) // 2], f"Here it is: {text}", f"{text} Done.", "{}", "")
    for name in needed:
        yield written({key: value for key, value in reply.items() if key != name})
    for name in reply:
        yield written(reply | {name: NO_FIELD})


def test_each_form_has_an_example() -> None:
    assert set(REPLY) == set(FORMS)


def test_the_form_that_is_sent_allows_what_is_right(task: Task, compiled: Any) -> None:
    accepts = compiled(sent(FORMS[task]))
    for text in (written(whole(task)), json.dumps(whole(task), ensure_ascii=False, separators=(",", ":"))):
        assert accepts(text), text
        assert read_json(text, FORMS[task]) == FORMS[task].model_validate(REPLY[task])


def test_limits_of_texts_are_sent_where_the_server_is_known_to_read_them_rightly(task: Task, compiled: Any) -> None:
    """xgrammar makes a grammar without escapes of them: no quoted word could be answered."""
    schema = response_format(FORMS[task], "json_schema", limits_texts=True)["json_schema"]["schema"]
    reply = written(whole(task))
    escapes = compiled is compile_xgrammar and "maxLength" in json.dumps(schema) and "\\" in reply
    assert compiled(schema)(reply) is not escapes


def test_the_form_that_is_sent_allows_nothing_else(task: Task, compiled: Any) -> None:
    accepts, reply = compiled(sent(FORMS[task])), whole(task)
    assert [text for text in (*spoilt(reply, list(reply)), written(reply | {"more": ""})) if accepts(text)] == []


def test_the_form_that_is_read_can_be_sent_too(task: Task, compiled: Any) -> None:
    """With references and optional fields, as clients of other makers send a model's schema."""
    schema, reply = FORMS[task].model_json_schema(), whole(task)
    accepts = compiled(without_lengths(schema))
    assert accepts(written(reply))
    assert [text for text in spoilt(reply, schema["required"]) if accepts(text)] == []


def test_the_form_of_a_builtin_skill_is_sent_as_well(compiled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(__file__).parents[2] / "skills" / "builtin" / "knowledge-grounding" / "graph.py"
    spec = spec_from_file_location("knowledge_grounding", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    # Pydantic looks up annotations there.
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    reply = {"facts": [{"visible": "a kangaroo", "why": "", "question": "Is there a kangaroo?"}]}
    accepts = compiled(sent(module.Facts))
    assert accepts(written(reply))
    assert accepts(written({"facts": []}))
    assert [text for text in spoilt(reply, ["facts"]) if accepts(text)] == []


def test_items_of_lists_are_checked_as_well(compiled: Any) -> None:
    accepts, reply = compiled(sent(FORMS["checklist"])), whole("checklist")
    first = reply["answers"][0]
    for item in (first | {"answer": "maybe"}, first | {"number": "one"}, {"number": 1}, first | {"more": ""}, "yes"):
        assert not accepts(written({"answers": [item]})), item
    assert accepts(written({"answers": [first]}))
