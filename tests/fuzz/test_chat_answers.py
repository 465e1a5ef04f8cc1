"""Answers of chat models."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage
from pydantic import BaseModel

from gems.errors import GemsError, UnreadableReplyError
from gems.models.chat.answers import read_answer
from gems.models.chat.messages import Question
from gems.models.chat.parsing import read_json, read_json_in_place, replace_surrogates
from gems.models.chat.probabilities import yes_probabilities, yes_probability
from gems.models.chat.reply import read_reply
from gems.models.chat.schemas import TASK_TAGS, ChecklistReply, RequirementsReply, extract_tag, wrap_in_tag
from gems.models.chat.thought import split_thought
from gems.models.http import error_from_status
from gems.nodes.decomposer import MAX_REQUIREMENTS, clean_requirements
from gems.nodes.prompts import REPLIES
from gems.observability.redaction import hide, redact, secrets_in, secrets_of_address
from gems.types import AnswerValue, RequirementKind
from tests.support.text_strategies import as_json, odd_texts, shaped, texts, values

FORMS: list[type[BaseModel]] = sorted({form for form in REPLIES.values() if form}, key=lambda form: form.__name__)
NAMES = [name for form in FORMS for name in form.model_fields]
ENTRIES = shaped("number", "answer", "evidence", "question", "kind", "parents", "how")


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_every_form(form: type[BaseModel]) -> None:
    @given(
        as_json(st.one_of(shaped(*form.model_fields), st.fixed_dictionaries(dict.fromkeys(form.model_fields, ENTRIES))))
    )
    @example('```json\n{"prompt": ')
    @example("[" * 100_000)
    @example("{" * 100_000)
    @example('{"a":' * 5_000)
    @example("9" * 5_000)
    @example('{"number": ' + "9" * 5_000 + "}")
    @example("```" + "\n" * 50_000)
    @example("```" + "a" * 50_000)
    @example("[1," * 800 + "1," * 20_000)
    def read(text: str) -> None:
        try:
            found = read_json(text, form)
        except UnreadableReplyError:
            return
        assert isinstance(found, form)
        # What was read can be stored: no halves of characters are in it.
        found.model_dump_json().encode()

    read()


@given(as_json(st.fixed_dictionaries({"requirements": st.lists(ENTRIES, max_size=30)})))
def test_requirements_are_sound_whatever_was_stated(text: str) -> None:
    try:
        stated = read_json(text, RequirementsReply).requirements
    except UnreadableReplyError:
        return
    kept, _left_over = clean_requirements(stated)
    ids = [item["id"] for item in kept]
    assert ids == [f"r{number}" for number in range(1, len(kept) + 1)]
    assert len(kept) <= MAX_REQUIREMENTS
    for place, item in enumerate(kept):
        assert item["question"].strip()
        assert item["kind"] in get_args(RequirementKind)
        assert set(item["parents"]) <= set(ids[:place])


@given(as_json(st.fixed_dictionaries({"answers": st.lists(ENTRIES, max_size=10)})))
def test_answers_are_yes_no_or_unknown(text: str) -> None:
    try:
        answers = read_json(text, ChecklistReply).answers
    except UnreadableReplyError:
        return
    assert all(answer.answer in get_args(AnswerValue) for answer in answers)


@given(odd_texts)
@example("answer" + " " * 50_000)
@example("answer is" + " " * 50_000)
@example("the answer: " * 5_000)
@example("*" * 50_000 + "yes")
@example("no doubt" + "," * 50_000)
def test_plain_answers(text: str) -> None:
    answer, evidence = read_answer(text)
    assert answer in get_args(AnswerValue)
    # Compatibility forms of Unicode are written out, one of them as 18 characters.
    assert len(evidence) <= 18 * len(text)


@given(odd_texts)
def test_thoughts(text: str) -> None:
    thought, answer = split_thought(text)
    assert len(thought) + len(answer) <= len(text)
    replace_surrogates(text).encode()


@given(values)
@example({"content": [{"token": "yes", "top_logprobs": [{"token": "yes", "logprob": 1e999}]}]})
@example({"content": [{"token": "yes", "top_logprobs": [{"token": "yes", "logprob": 1000.0}]}]})
@example({"content": [{"token": "yes", "top_logprobs": [{"token": "yes"}]}]})
@example({"content": [{"token": "yes", "top_logprobs": "yes"}]})
@example({"content": {"token": "yes"}})
@example({"content": [{"token": None}]})
@example({"content": ["yes"]})
def test_log_probabilities(logprobs: Any) -> None:
    _checked_probability(logprobs)


@given(st.lists(shaped("token", "logprob", "top_logprobs"), max_size=4))
def test_log_probabilities_that_are_nearly_right(content: Any) -> None:
    _checked_probability({"content": content})


def _checked_probability(logprobs: Any) -> None:
    found = yes_probability(logprobs)
    assert found is None or 0 <= found <= 1


@given(
    as_json(st.fixed_dictionaries({"answers": st.lists(ENTRIES, max_size=5)})),
    st.one_of(values, st.lists(shaped("token", "bytes", "logprob", "top_logprobs"), max_size=4)),
)
def test_log_probabilities_of_lists(text: str, content: Any) -> None:
    try:
        read, place = read_json_in_place(text, ChecklistReply)
    except UnreadableReplyError:
        return
    if place is None:
        return
    whole = [{"token": text, "logprob": -0.1, "top_logprobs": content}]
    for tokens in (content, whole):
        found = yes_probabilities(text, place, read.answers, {"content": tokens})
        assert len(found) == len(read.answers)
        assert all(each is None or 0 <= each <= 1 for each in found)


@given(
    st.one_of(odd_texts, st.lists(st.one_of(st.text(), st.dictionaries(st.text(max_size=8), st.text())), max_size=3)),
    st.fixed_dictionaries({}, optional={"refusal": values, "reasoning_content": values, "reasoning": values}),
    st.fixed_dictionaries({}, optional={"finish_reason": values, "logprobs": values}),
    st.sampled_from([None, *FORMS]),
)
def test_whole_answers(content: Any, more: Any, about: Any, form: Any) -> None:
    message = AIMessage(content=content, additional_kwargs=more, response_metadata=about)
    question = Question(task="verify", system="", parts=(), reply=form)
    try:
        reply = read_reply(message, question, "m at http://host/v1", ("sk-secret-0123456789",))
    except GemsError:
        return
    f"{reply.text}{reply.thought}".encode()


@given(st.integers(300, 599), odd_texts | as_json(shaped("error", "message", "code")))
@example(400, "a." * 50_000)
@example(400, "a://" * 20_000)
@example(400, "token" + " " * 50_000)
@example(400, "number of" + " images" * 10_000)
@example(400, '{"error": ' + "[" * 50_000)
@example(400, "at most " + "9" * 5_000 + " images")
def test_error_answers(status: int, body: str) -> None:
    error = error_from_status(status, body, "m at http://host/v1", "sk-secret-0123456789")
    assert isinstance(error, GemsError)
    assert len(error.message) < 400


@given(texts, st.lists(texts, max_size=3))
def test_no_secret_is_left(text: str, secrets: list[str]) -> None:
    for secret in secrets:
        assert len(secret) < 4 or secret in "[secret]" * 3 or secret not in hide(f"{text}{secret}{text}", secret)
    redact(text, *secrets)


@given(values)
def test_secrets_among_fields(fields: Any) -> None:
    assert all(isinstance(secret, str) for secret in secrets_in(fields))


@given(texts)
@example("http://[")
def test_secrets_of_addresses(text: str) -> None:
    try:
        assert all(isinstance(secret, str) for secret in secrets_of_address(text))
    except ValueError:
        # Where it is no address at all, as whoever opens it says.
        return


@given(st.sampled_from(sorted({tag for tags in TASK_TAGS.values() for tag in tags})), texts)
@example("user_prompt", "<" + " " * 20_000)
@example("user_prompt", "<user_prompt " * 2_000)
@example("user_prompt", "&lt;user_prompt " * 1_000)
@example("user_prompt", "</user_prompt>")
def test_data_comes_out_of_its_tag_as_it_was_put_in(tag: str, text: str) -> None:
    found = extract_tag(tag, wrap_in_tag(tag, text))
    # What looked like a hidden tag already cannot be told from one that was hidden.
    assert found is not None
    assert found == text or "&lt;" in text


def test_schemas_of_forms_are_json() -> None:
    for form in FORMS:
        json.dumps(form.model_json_schema())
