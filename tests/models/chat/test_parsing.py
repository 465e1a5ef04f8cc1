"""What chat models really answer, read."""

from __future__ import annotations

import json
import time

import pytest

from gems.errors import UnreadableReplyError
from gems.models.chat.answers import read_answer
from gems.models.chat.parsing import read_json
from gems.models.chat.schemas import ChecklistReply, PromptReply, ReflectionReply, RequirementsReply, SkillChoice

PROMPT = '{"prompt": "a red {circle} and \\"}\\" beside it"}'
READ = 'a red {circle} and "}" beside it'


@pytest.mark.parametrize(
    "text",
    [
        PROMPT,
        f"Sure! Here is what you asked for:\n\n{PROMPT}\n\nHope this helps!",
        f"```json\n{PROMPT}\n```",
        f"```\n{PROMPT}\n```",
        f"I thought of {{this}} and [that].\n```JSON\n{PROMPT}\n```\nNo further remarks {{for now}}.",
        f"{PROMPT}\n\nNo further remarks {{for now}}.",
        f'{{"thinking": "first"}} {PROMPT}',
        f"[1, 2] {PROMPT}",
        f"{PROMPT.replace('red', 'blue')} {PROMPT}",
        f'{{"result": {PROMPT}}}',
        f'{{"data": {{"response": {PROMPT}}}}}',
        json.dumps({"name": "answer", "arguments": PROMPT}),
        json.dumps([{"function": {"name": "answer", "arguments": PROMPT}}]),
        json.dumps(PROMPT),
        f"{{{PROMPT}}}",
        f"{PROMPT[:-1]},}}",
        PROMPT.replace("circle", "circle").replace(": ", " :\n\n\t"),
    ],
)
def test_json_is_found_whatever_stands_around_it(text: str) -> None:
    assert read_json(text, PromptReply).prompt == READ


def test_line_breaks_inside_strings_are_read() -> None:
    assert read_json('{"prompt": "one\ntwo"}', PromptReply).prompt == "one\ntwo"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Sorry.",
        PROMPT[:-2],
        '{"prompt": 3}',
        '{"text": "a circle"}',
        '"a circle"',
        "null",
        "```json\n```",
        "{" * 2000,
        "[" * 20_000,
        '{"prompt":' * 20_000,
        f'{{"prompt": {PROMPT}',
        f"{PROMPT} {PROMPT[:-2]}",
        f'{{"example": {PROMPT}}}',
    ],
)
def test_what_has_not_the_form_is_told(text: str) -> None:
    with pytest.raises(UnreadableReplyError) as caught:
        read_json(text, PromptReply)
    assert "PromptReply" in caught.value.message
    assert len(caught.value.message) < 400


def test_a_value_of_the_wrong_form_does_not_hide_a_later_right_one() -> None:
    answers = {"answers": [{"number": 1, "answer": "yes"}]}
    text = f'{{"answers": [{{"number": "first", "answer": "no"}}]}} {json.dumps(answers)}'
    assert read_json(text, ChecklistReply).answers[0].answer == "yes"


_NO = '{"answers": [{"number": 1, "answer": "no"}]}'
_YES = '{"answers": [{"number": 1, "answer": "yes"}]}'


@pytest.mark.parametrize(
    "text",
    [
        f'I begin with {{"answers": [ and go on:\n{_NO}',
        f'{{"answers": [{{"number": 1, "evid\n\nLet me begin anew.\n```json\n{_NO}\n```',
        f'{_YES}\nNo: {{"answers": [ once more\n{_NO}',
    ],
)
def test_a_fragment_does_not_hide_what_a_model_began_anew(text: str) -> None:
    assert [item.answer for item in read_json(text, ChecklistReply).answers] == ["no"]


@pytest.mark.parametrize(
    "text",
    [
        f'{{"x": 1,, "draft": {_YES}, "final": {{"answers": [',
        f'{{"x": 1,,\n"draft":\n{_YES},\n"final": {{"answers": [',
        f'{_YES}\nNo: {{"answers": [ once more\n{{"note": 1}}',
        f'{_YES}\nI begin with {{"answers": [ and go on:\n{_NO} or [',
    ],
)
def test_what_ends_in_the_middle_is_not_completed(text: str) -> None:
    with pytest.raises(UnreadableReplyError):
        read_json(text, ChecklistReply)


def test_bare_lists_are_met_half_way() -> None:
    answers = read_json('[{"number": 2, "answer": "no", "evidence": "I see two."}]', ChecklistReply).answers
    assert [(item.number, item.answer, item.evidence) for item in answers] == [(2, "no", "I see two.")]
    stated = read_json('["Is it red?", "Is it round?"]', RequirementsReply).requirements
    assert [item.question for item in stated] == ["Is it red?", "Is it round?"]


@pytest.mark.parametrize(
    ("text", "skills"),
    [
        ("Spatial.", ["Spatial"]),
        ("SKILL_ID: spatial", ["spatial"]),
        ("`spatial`", ["spatial"]),
        ("**spatial**", ["spatial"]),
        ("None.", []),
        ("null", []),
        ('{"skills": ["spatial"], "why": "rows"}', ["spatial"]),
        ('{"skills": []}', []),
        ('["spatial"]', None),
        ("**SKILL_ID:** spatial", ["spatial"]),
        ("skill_id: Spatial", ["Spatial"]),
        ('{"skills": null, "why": null}', []),
        ('{"skills": "spatial"}', ["spatial"]),
        ('{"skills": "spatial, text-rendering"}', ["spatial", "text-rendering"]),
        ('{"skills": "none"}', []),
        ('{"skills": ["spatial", null, 3]}', ["spatial"]),
    ],
)
def test_a_skill_may_be_named_plainly(text: str, skills: list[str] | None) -> None:
    if skills is None:
        with pytest.raises(UnreadableReplyError):
            read_json(text, SkillChoice)
    else:
        assert read_json(text, SkillChoice).skills == skills


def test_a_speech_is_no_skill_name() -> None:
    for text in ("The best one here is without any doubt whatsoever the skill that lays things out", "a\nb"):
        with pytest.raises(UnreadableReplyError):
            read_json(text, SkillChoice)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Yes", "yes"),
        ("Yes, no doubt", "yes"),
        ("yes, there is nothing else", "yes"),
        ("yes, it is snowy", "yes"),
        ("No.", "no"),
        ("no, although yes would be nice", "no"),
        ("NO - it is blue", "no"),
        ("**Answer:** Yes", "yes"),
        ("**Answer**: no", "no"),
        ("Final answer: yes, three", "yes"),
        ('{"answer": "yes", "evidence": "three circles"}', "yes"),
        ('{"answer": "no"}', "no"),
        ("> *Yes*", "yes"),
        ('"No"', "no"),
        ("true", "yes"),
        ("Unknown. It is too dark.", "unknown"),
        ("Cannot tell: yes or no", "unknown"),
        ("Sure! I looked closely, and the answer is no.", "no"),
        ("The answer is yes? At first I thought so, but the answer is **no**", "no"),
        ("Sure! Here is what you asked for:\n\nYes. I see three.\n\nHope this helps!", "yes"),
        ("Here you are:\n\nNo, there are two.\n\nNo further remarks.", "no"),
        ("```json\nNo. I see two.\n```", "no"),
        ("```\nYes\n```", "yes"),
        ("Well.\nNo further remarks.", "unknown"),
        ("No doubt, yes.", "yes"),
        ("No doubt: no.", "no"),
        ("No doubt.", "unknown"),
        ("No doubts are visible.", "unknown"),
        ("N/A", "unknown"),
        ("n/a - nothing to see", "unknown"),
        ("N", "no"),
        ("Y.", "yes"),
        ("Y\nThree circles.", "yes"),
        ("Y tampoco hay un gato.", "unknown"),
        ("The answer is: **No**.", "no"),
        ("The answer is : yes", "yes"),
        ("Snow lies everywhere.", "unknown"),
        ("Nothing like that is there.", "unknown"),
        ("Not that I see", "unknown"),
        ("Yesterday it was there.", "unknown"),
        ("", "unknown"),
        ("   \n", "unknown"),
    ],
)
def test_the_first_word_decides(text: str, value: str) -> None:
    assert read_answer(text)[0] == value


def test_evidence_is_what_is_said_besides() -> None:
    assert read_answer("Yes. I see (three) circles.") == ("yes", "I see (three) circles.")
    assert read_answer("**Answer:** No \u2013 only two") == ("no", "only two")
    assert read_answer("No") == ("no", "")
    assert read_answer(" It is dark. ") == ("unknown", "It is dark.")
    assert read_answer("Sure!\n\nYes. I see three.\n\nBye!")[1].startswith("I see three")


@pytest.mark.parametrize("half", ["\ud83d", "\\ud83d", "\\ude00 "])
def test_half_a_surrogate_pair_is_replaced(half: str) -> None:
    read = read_json(f'{{"prompt": "a {half}b \\ud83d\\ude00"}}', PromptReply).prompt
    assert read.replace(" ", "") == "a\ufffdb\N{GRINNING FACE}"
    assert read.encode()


@pytest.mark.parametrize(
    "text",
    [
        "```json" + "\n" * 50_000,
        "```" + "a" * 50_000,
        "{" * 100_000,
        "[1," * 800 + "1," * 20_000,
        "answer" + " " * 50_000,
        "so the answer is" + " " * 50_000 + "?",
    ],
    ids=range(6),
)
def test_a_model_caught_in_a_loop_holds_up_nobody(text: str) -> None:
    """Each of these took seconds to minutes of the event loop's time."""
    started = time.process_time()
    with pytest.raises(UnreadableReplyError):
        read_json(text, PromptReply)
    assert read_answer(text)[0] == "unknown"
    assert time.process_time() - started < 1.5


def test_an_answer_behind_many_brackets_is_found() -> None:
    text = "{x} [y] " * 500 + '{"prompt": "a red cat"}'
    assert read_json(text, PromptReply).prompt == "a red cat"


@pytest.mark.parametrize(
    "text",
    [
        '{"prompt": "a sign saying "OPEN}',
        '{"experience": "x", "prompt": "a sign saying "OPEN}',
        '{"prompt": "a cat", "a dog", "a bird"}',
        '{"prompt": "a red cat" "with a hat"}',
        '{"prompt": "the words \\"NO", "WAY\\" in red"}',
        '{"prompt": "a red cat" and much more, "experience": "e"',
    ],
)
def test_half_a_prompt_is_no_prompt(text: str) -> None:
    """A mend that leaves out words of what came is not believed."""
    with pytest.raises(UnreadableReplyError):
        read_json(text, ReflectionReply)


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        ('{"prompt": "a sign saying "OPEN" above a door"}', 'a sign saying "OPEN" above a door'),
        ('{"prompt": "a cat, "a dog", and a bird"}', 'a cat, "a dog", and a bird'),
        ("{'prompt': 'it is a dog', 'experience': 'x',}", "it is a dog"),
        ('{"prompt": "a cat", // the prompt\n "experience": "x"}', "a cat"),
        ('{"prompt": "a cat" /* the prompt */, "experience": "x",}', "a cat"),
        ('{"prompt": "caf\\u00e9\\na door",}', "caf\u00e9\na door"),
        ('{prompt: "a cat", experience: null,}', "a cat"),
        ('{"prompt": “a red cat”}', "a red cat"),
    ],
)
def test_a_mend_that_keeps_every_word_is_believed(text: str, prompt: str) -> None:
    assert read_json(text, ReflectionReply).prompt == prompt
