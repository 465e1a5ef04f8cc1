"""Answers of chat models that are not as they were asked for, by what happens; several members of each kind."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from benchmarks import faulty_world as world
from benchmarks.odd_answers import Asked, Chat, Message, Reply, all_yes, in_json, in_task, in_verify, of_verdicts

_JUDGED = ("checklist", "verify")
_FILLERS = (
    "sky",
    "path",
    "river",
    "hill",
    "cloud",
    "fence",
    "barn",
    "road",
    "stone",
    "leaf",
    "bridge",
    "boat",
    "field",
)


def _thinking(opens: str, closes: str) -> Chat:
    return lambda asked: f"{opens}At first sight: {all_yes(asked)} But look again.{closes}{asked.answer}"


THOUGHTS = {
    name: _thinking(opens, closes)
    for name, opens, closes in (
        ("<thought>", "<thought>", "</thought>"),
        ("<thinking>", "<thinking>", "</thinking>\n"),
        ("<mm:think>", "<mm:think>", "</mm:think>"),
        ("<THINK>", "<THINK>\n", "\n</THINK>\n\n"),
        ("opening mark missing", "", "</think>"),
        ("[THINK]", "[THINK]", "[/THINK]"),
        ("◁think▷", "◁think▷", "◁/think▷"),
        ("seed:think", "<seed:think>", "</seed:think>"),
        ("gpt-oss channels", "<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
        ("two thoughts", "<think>Well.</think><think>", "</think>"),
    )
}


def _endless(opens: str) -> Chat:
    return lambda asked: f"{opens}It looks as if {all_yes(asked)}" if asked.task in _JUDGED else None


ENDLESS = {name: _endless(name) for name in ("<thought>", "<mm:think>", "<|channel|>analysis<|message|>")}


def _preceded(text: str) -> Chat:
    return in_json(lambda asked: f"{text.replace('DRAFT', all_yes(asked))}\n{asked.answer}")


DRAFTS = {
    "a list of objects": _preceded('Objects: ["cat", "two balls"]'),
    "a draft": _preceded("First draft: DRAFT\nOn second thoughts, the final answer:"),
    "a draft in a fence": _preceded("```json\nDRAFT\n```\nCorrected:"),
    "an example of the form": _preceded('{"requirements": [{"question": "...", "kind": "object"}]}'),
    "the schema": _preceded('{"type": "object", "properties": {"answers": {"type": "array"}}}'),
}


def _wrapped(wrap: Callable[[dict[str, Any]], Any]) -> Chat:
    return in_json(lambda asked: json.dumps(wrap(asked.value)))


WRAPPERS: dict[str, Chat] = {
    **{name: _wrapped(lambda value, name=name: {name: value}) for name in ("result", "data", "response", "arguments")},
    "two wrappers": _wrapped(lambda value: {"data": {"result": value}}),
    "a list of one": _wrapped(lambda value: [value]),
    "a JSON string": _wrapped(json.dumps),
    "a string in a wrapper": _wrapped(lambda value: {"arguments": json.dumps(value)}),
    "an object that was not asked for": _wrapped(lambda value: {"answer_for_user": value}),
    "a tool call in words": in_json(
        lambda asked: f'<tool_call>\n{{"name": "reply", "arguments": {asked.answer}}}\n</tool_call>'
    ),
}


def _called(asked: Asked) -> Reply:
    function = {"name": "reply", "arguments": asked.answer}
    return Message(
        None, "tool_calls", {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": function}]}
    )


TOOL_CALLS = {"tool_calls": in_json(_called)}
REASONING = {
    name: in_json(lambda asked, name=name, content=content: Message(content, fields={name: asked.answer}))
    for name, content in (("reasoning_content", None), ("reasoning", ""))
} | {"draft beside the answer": lambda asked: Message(asked.answer, fields={"reasoning_content": all_yes(asked)})}
PARTS: dict[str, Chat] = {
    "text": lambda asked: Message([{"type": "text", "text": asked.answer}]),
    "thinking and text": lambda asked: Message(
        [
            {"type": "thinking", "thinking": [{"type": "text", "text": all_yes(asked)}]},
            {"type": "text", "text": asked.answer},
        ]
    ),
}
"""Content in a list of parts, as Mistral's."""


def _many(number: int) -> Chat:
    """A decomposer that asks about other things first, and a completeness check that finds nothing."""

    def edit(asked: Asked) -> Reply:
        fillers = [
            {"question": f"Is the {_FILLERS[i % len(_FILLERS)]} of the {i + 1}th kind?", "kind": "other", "parents": []}
            for i in range(number - len(world.THINGS))
        ]
        stated = [item | {"parents": []} for item in asked.value["requirements"]]
        return json.dumps({"requirements": fillers + stated})

    return in_task("decompose", edit)


FRAGMENTS = {"a bracket that is not closed": _preceded('I begin with {"answers": [ and go on:')}
_DRESSES = (
    "<|begin_of_box|>{}<|end_of_box|>", "<answer>{}</answer>", "\\boxed{{}}", "**{}**", '"{}"', "Answer: {}",
    '{"reasoning": "It can be seen.", "answer": "{}"}', "1. {}", "```json\n{\"answer\": \"{}\"}\n```", "(A) {}",
    "Final answer: {}.", "The answer is {}.",
)  # fmt: skip
DRESSES = {dress: in_verify(dress) for dress in _DRESSES}
_WORDS = {
    "Chinese": ("是的。", "不是。"), "Japanese": ("はい、あります。", "いいえ、ありません。"),
    "Korean": ("네, 있습니다.", "아니요, 없습니다."), "Spanish": ("Sí, se ve.", "No, no se ve."),
    "French": ("Oui, il est là.", "Non, il manque."), "German": ("Ja, zu sehen.", "Nein, es fehlt."),
    "Portuguese": ("Sim, está lá.", "Não, falta."), "Italian": ("Sì, c'è.", "No, manca."),
    "Russian": ("Да, есть.", "Нет, не видно."), "Arabic": ("نعم، موجود.", "لا، غير موجود."),
    "Hindi": ("हाँ, है।", "नहीं, नहीं है।"),
}  # fmt: skip
LANGUAGES = {name: in_verify("{}", yes, no) for name, (yes, no) in _WORDS.items()}
OTHER_VERDICTS = {
    "yes, but no": in_verify("{}", no="Yes, but no."),
    "not yes": in_verify("{}", no="I cannot say yes."),
    "yes/no": in_verify("{}", no="yes/no"),
}

_NO_TO = {
    "partially": "partially",
    "mostly yes": "mostly yes",
    "N/A": "N/A",
    "yes and no": "yes and no",
    "null": None,
    "a number": 0.5,
}
ODD_VERDICTS = {
    name: of_verdicts(
        lambda answers, word=word: [each if each["answer"] == "yes" else each | {"answer": word} for each in answers]
    )
    for name, word in _NO_TO.items()
}


def _reworded(yes: Any, no: Any) -> Chat:
    return of_verdicts(lambda answers: [each | {"answer": yes if each["answer"] == "yes" else no} for each in answers])


def _of_checklist(edit: Callable[[list[dict[str, Any]]], str]) -> Chat:
    return in_task("checklist", lambda asked: edit(asked.value["answers"]))


OTHER_FORMS = {
    "booleans": _reworded(yes=True, no=False),
    "capitals": _reworded("YES", "NO"),
    "sentences": _reworded("Yes, it is there.", "No, yes would need another one."),
    "Spanish": _reworded("sí, se ve", "no, no se ve"),
    "signs": _reworded("✅", "❌"),
    "numbers as keys": _of_checklist(
        lambda answers: json.dumps({"answers": {each["number"]: each["answer"] for each in answers}})
    ),
    "a bare list": _of_checklist(json.dumps),
    "numbers as texts": of_verdicts(lambda answers: [each | {"number": f"Q{each['number']}"} for each in answers]),
    "a draft in the evidence": of_verdicts(
        lambda answers: [each | {"evidence": '{"answers": [{"number": 1, "answer": "yes"}]}'} for each in answers]
    ),
    "a thought as a field": _of_checklist(
        lambda answers: json.dumps({"thinking": json.dumps({"answers": _hasty(answers)}), "answers": answers})
    ),
}
BY_LINE = {
    "an object per line": _of_checklist(lambda answers: "\n".join(map(json.dumps, answers))),
    "a table": _of_checklist(
        lambda answers: "\n".join(["| number | answer |", *(f"| {a['number']} | {a['answer']} |" for a in answers)])
    ),
    "numbered lines": _of_checklist(
        lambda answers: "\n".join(f"{each['number']}. {each['answer'].title()}" for each in answers)
    ),
}
"""Checklists that are no JSON object: each question is asked by itself."""


def _hasty(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each | {"answer": "yes"} for each in answers]


def _text_of(edit: Callable[[str], str]) -> Chat:
    return in_json(lambda asked: edit(asked.answer))


NEARLY_JSON = {
    "comma before the brace": _text_of(lambda text: re.sub(r"([}\]])", r",\1", text).replace("[,]", "[]")),
    "single quotes": in_json(lambda asked: repr(asked.value)),
    "keys without quotes": _text_of(lambda text: re.sub(r'"(\w+)":', r"\1:", text)),
    "comments": _text_of(lambda text: text.replace("{", "{ // as asked\n", 1)),
    "curly quotes": _text_of(lambda text: re.sub(r'"([^"]*)"', r"“\1”", text)),
    "a fence that is not closed": _text_of(lambda text: f"```json\n{text}"),
    "words behind it": _text_of(lambda text: f"{text}\n\nLet me know {{if}} more is needed."),
    "comma missing": _text_of(lambda text: text.replace("}, {", "} {").replace(', "', ' "', 1)),
}


def _without_experience(**more: Any) -> Chat:
    return in_task("reflect", lambda asked: json.dumps({"prompt": asked.value["prompt"], **more}))


REFLECTIONS = {
    "missing": _without_experience(),
    "null": _without_experience(experience=None),
    "a list": _without_experience(experience=["One", "two"]),
}


def _cut(asked: Asked) -> Reply:
    return Message(asked.answer[: len(asked.answer) // 2], "length")


def _thought_to_the_end(_asked: Asked) -> Reply:
    return Message(None, "length", {"reasoning_content": "Let me think about it again. " * 500})


def _cut_if_short(asked: Asked) -> Reply:
    """A limit that twice as much would do for."""
    limit = asked.body.get("max_tokens") or asked.body.get("max_completion_tokens") or 0
    return None if limit else _cut(asked)


CUT = {"the JSON": in_json(_cut), "the reasoning": _thought_to_the_end}
CUT_ONCE = {"a limit that is too low": in_json(_cut_if_short)}


def _unreadable_first(asked: Asked) -> Reply:
    return "I will think about it." if asked.number <= 4 and asked.task != "verify" else None


UNREADABLE_FIRST = {"four prose answers": _unreadable_first}


def _open_question(question: str) -> Chat:
    def edit(asked: Asked) -> Reply:
        value = asked.value
        value["requirements"].append({"question": question, "kind": "count", "parents": []})
        return json.dumps(value)

    def undecided(asked: Asked) -> Reply:
        if asked.task == "verify":
            return "There are three of them." if question in asked.text else None
        number = re.search(rf"^(\d+)\. {re.escape(question)}$", asked.text, re.MULTILINE)
        if asked.task != "checklist" or number is None:
            return None
        answers = [
            each | {"answer": "three"} if each["number"] == int(number[1]) else each for each in asked.value["answers"]
        ]
        return json.dumps({"answers": answers})

    return lambda asked: edit(asked) if asked.task == "decompose" else undecided(asked)


OPEN_QUESTIONS = {
    question: _open_question(question)
    for question in (
        "How many stars are there?",
        "What colour is the door?",
        "图中有多少颗星星?",
        "Describe the background.",
    )
}


def _copied(text: str) -> Chat:
    def edit(asked: Asked) -> Reply:
        if asked.task in ("reflect", "mend"):
            said = {"experience": "Something was missing.", "prompt": text}
            return json.dumps(said | ({"instruction": text} if asked.task == "mend" else {}))
        if asked.task == "decompose":
            value = asked.value
            value["requirements"].append({"question": "a question inside the tags", "kind": "other", "parents": []})
            return json.dumps(value)
        return None

    return edit


PLACEHOLDERS = {text: _copied(text) for text in ("The whole new prompt", "...", "<prompt>", "the whole next prompt")}
MIXED = {
    "numbers of another list": of_verdicts(
        lambda answers: [each | {"number": each["number"] + 100, "answer": "yes"} for each in answers]
    ),
    "the first number for all": of_verdicts(lambda answers: [each | {"number": 1} for each in answers]),
    "half of the numbers": of_verdicts(lambda answers: answers[::2]),
    "every number twice, the second time yes": of_verdicts(
        lambda answers: answers + [each | {"answer": "yes"} for each in answers]
    ),
    "the answer to another request": in_task("checklist", lambda _asked: '{"skills": [], "why": "yes"}'),
    "the question copied": in_task("verify", lambda asked: f"{asked.text[-200:]}"),
    "the form copied": in_task(
        "checklist", lambda _asked: '{"answers": [{"number": 1, "evidence": "...", "answer": "yes, no or unknown"}]}'
    ),
    "an apology": lambda asked: (
        "I'm sorry, but I can't see the image. Yes, I can help." if asked.task in _JUDGED else None
    ),
}
WRONG_FORMS = {
    "prose": in_json(lambda _asked: "As you wish, I shall do that."),
    "numbers": in_json(lambda _asked: "[1, 2, 3]"),
    "an empty object": in_json(lambda _asked: "{}"),
}
REFUSED_BY_MODEL = {
    "content_filter": in_task("checklist", lambda _asked: Message("", "content_filter")),
    "refusal field": in_task("checklist", lambda _asked: Message(None, fields={"refusal": "I cannot do that."})),
}
"""Judges that decline a checklist."""
MANY = {"30 requirements": _many(30), "58 requirements": _many(58)}
TOO_MANY = {"70 requirements": _many(70)}
