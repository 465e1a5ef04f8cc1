"""Thoughts of all families of models, split off."""

from __future__ import annotations

import time

import pytest

from gems.models.chat.thought import MARKS, split_thought

DRAFT = '{"answers": [{"number": 1, "answer": "yes"}]}'
VERDICT = '{"answers": [{"number": 1, "evidence": "blue", "answer": "no"}]}'
TAGS = (
    *("think", "thinking", "thought", "thoughts", "THINK", "Thought", "mm:think", "seed:think", "longcat_think"),
    *("think:opensource", "think_fast", "ifm|think", "reasoning", "reason", "reflection", "SCRATCHPAD", "scratch_pad"),
    *("analysis", "inner_monologue", "antThinking", "brainstorm"),
)
PAIRS = [
    *((f"<{tag}>", f"</{tag}>") for tag in TAGS),
    ("<ifm|think_fast>", "</ifm|think>"),
    ("<thinking>", "</think>"),
    ('<think foo="bar">', "</think>"),
    ("< think >", "</ think >"),
    ("<think>", "<\\think>"),
    ("&lt;think&gt;", "&lt;/think&gt;"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|open|>think<|sep|>", "<|close|>think<|sep|><|open|>response<|sep|>"),
    ("<|channel>thought\n", "<channel|>"),
    ("<unused94>thought\n", "<unused95>"),
    ("<|START_THINKING|>", "<|END_THINKING|><|START_RESPONSE|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|><|begin_of_solution|>"),
    ("<|startofthought|>", "<|endofthought|>"),
    ("<|plamo:begin_think:plamo|>", "<|plamo:end_think:plamo|>"),
    ("<|think:start|>", "<|think:end|>"),
    ("[unused16]", "[unused17]"),
    ("<|im_start|>think\n", "<|im_start|>answer\n"),
    ("Here are my reasoning steps:\n", "[BEGIN FINAL RESPONSE]\n"),
    ("<|think|>", "<|end|><|begin|>assistant<|content|>"),
]
OPENED = [
    *PAIRS,
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final <|constrain|>json<|message|>"),
    ("<|channel|> analysis<|message|> ", "<|end|><|start|>assistant<|channel|> final<|message|> "),
    ("analysis", "assistantfinal"),
    ("Here is my thought process:", "\nHere is my response:"),
    ("Here's my thought process:", "\nHere's my response:"),
    ("<|content_thinking|>", "<|end_message|><|message_model|><|content_text|>"),
    (" to=self<|message|>", "<|eom|><|start|>assistant to=user<|message|>"),
    ("/think\n", "<|im_end|>\n<|im_start|>assistant\n"),
    ("## Thinking\n\n", "\n\n## Final Response\n\n"),
    ("###Thinking\n", "\n###Response\n"),
    ('<details type="reasoning" done="true">', "</details>"),
    ("<SUMMARY>", "</SUMMARY><CONCLUSION>"),
    ("thought\n", "\nFinal Answer: "),
]


@pytest.mark.parametrize(("opens", "closes"), OPENED)
def test_only_what_follows_the_thought_is_the_answer(opens: str, closes: str) -> None:
    thought = f"First I would say {DRAFT} but the ball is blue."
    found, answer = split_thought(f"{opens}{thought}{closes}{VERDICT}")
    assert answer == VERDICT
    assert found.endswith("the ball is blue.")
    assert split_thought(f"{opens}{thought}{closes}\nNo.")[1] == "No."
    assert split_thought(f"{opens}{thought}{closes}")[1] == "", "nothing follows"
    assert split_thought(f"{opens}{thought}")[1] == "", "it is not closed"
    assert split_thought(f"{opens}a{closes}{DRAFT}{opens}b{closes}{VERDICT}")[1] == VERDICT, "it thinks again"


@pytest.mark.parametrize(("opens", "closes"), PAIRS)
def test_the_opening_mark_may_stand_in_the_template(opens: str, closes: str) -> None:
    assert split_thought(f"I would say {DRAFT} but no.{closes}\n{VERDICT}")[1] == VERDICT


@pytest.mark.parametrize(
    ("content", "thought", "answer"),
    [
        ("Yes.", "", "Yes."),
        ("", "", ""),
        ("<think>\n\n</think>\n\nYes.", "", "Yes."),
        ("<think><think>a</think>b</think>No.", "ab", "No."),
        ("</think>Yes.", "", "Yes."),
        (f"{VERDICT}<|channel>thought\n<channel|>", "", VERDICT),
        ("Yes<|im_end|>", "", "Yes"),
        ("No<｜end▁of▁sentence｜>", "", "No"),
        ("<|channel|>final<|message|>No<|return|>", "", "No"),
        ("The mark `</think>` ends it. Yes", "", "The mark `</think>` ends it. Yes"),
        ('{"prompt": "a sign: </think>"}', "", '{"prompt": "a sign: </think>"}'),
        ('<think>a</think>{"prompt": "a sign: <think>"}', "a", '{"prompt": "a sign: <think>"}'),
        (f"{DRAFT} so far. </think> {VERDICT}", f"{DRAFT} so far.", VERDICT),
        ("I write <think> in the middle.", "I write  in the middle.", ""),
    ],
)
def test_other_places_of_marks(content: str, thought: str, answer: str) -> None:
    assert split_thought(content) == (thought, answer)


def test_every_row_of_the_table_says_where_it_is_from() -> None:
    assert all(marks.family and marks.source and (marks.opens or marks.answers) for marks in MARKS)


@pytest.mark.parametrize(
    "text",
    [
        *("<" * 50_000, "<think>" * 20_000, "{" * 20_000, "<think" + " " * 50_000, "< " * 30_000, "</think>{" * 10_000),
        *("here" * 20_000, "<|channel|>" * 10_000, "\n" * 50_000, "#" * 50_000, "<a " * 30_000, "[[{" * 20_000),
        *("<think>" + " " * 50_000, "final answer" * 5_000),
    ],
    ids=range(14),
)
def test_a_model_caught_in_a_loop_holds_up_nobody(text: str) -> None:
    started = time.process_time()
    split_thought(text)
    assert time.process_time() - started < 1.5
