"""What is changed about a request that an endpoint refused."""

from __future__ import annotations

from typing import Any

import pytest

from gems.errors import (
    ConfigurationError,
    GemsError,
    RejectedRequestError,
    ServerError,
    TooManyImagesError,
    UnreadableReplyError,
)
from gems.models.chat.capabilities import (
    ChatLimits,
    find_feature_to_drop,
    reduce_pictures,
    response_format,
    structured_mode,
)
from gems.models.chat.messages import Question
from gems.models.schemas import (
    ChecklistReply,
    ExperienceReply,
    PromptReply,
    ReflectionReply,
    RequirementsReply,
    SkillChoice,
)

PLAIN = Question(task="verify", system="Task: verify", parts=("Is it red?",), logprobs=True)
FORMED = Question(task="enhance", system="Task: enhance", parts=("x",), reply=PromptReply)
EVERYTHING = ChatLimits(temperature=0.0, max_tokens=10)


def rejected(message: str) -> RejectedRequestError:
    return RejectedRequestError(f"stub answered 400: {message}")


@pytest.mark.parametrize(
    ("refused", "mode"),
    [(set(), "json_schema"), ({"json_schema"}, "json_mode"), ({"json_schema", "json_mode"}, "text")],
)
def test_the_best_mode_that_was_not_refused(refused: set[str], mode: str) -> None:
    assert structured_mode(refused) == mode


FORMS = [ChecklistReply, ExperienceReply, PromptReply, ReflectionReply, RequirementsReply, SkillChoice]


def objects(schema: Any) -> list[dict[str, Any]]:
    """Every object schema within `schema`."""
    if isinstance(schema, list):
        return [found for item in schema for found in objects(item)]
    if not isinstance(schema, dict):
        return []
    inner = [found for value in schema.values() for found in objects(value)]
    return [schema, *inner] if schema.get("type") == "object" else inner


@pytest.mark.parametrize("form", FORMS)
def test_schemas_are_what_strict_mode_takes(form: Any) -> None:
    asked = response_format(form, "json_schema")
    assert asked["type"] == "json_schema"
    assert asked["json_schema"]["strict"] is True
    assert asked["json_schema"]["name"] == form.__name__
    found = objects(asked["json_schema"]["schema"])
    assert found
    for schema in found:
        assert schema["required"] == list(schema["properties"])
        assert schema["additionalProperties"] is False
        assert all("default" not in field for field in schema["properties"].values())


def test_a_field_may_be_called_title() -> None:
    from pydantic import BaseModel

    class Book(BaseModel):
        title: str
        default: str = ""

    schema = response_format(Book, "json_schema")["json_schema"]["schema"]
    assert schema["required"] == ["title", "default"] == list(schema["properties"])


def test_json_mode_names_no_schema() -> None:
    assert response_format(PromptReply, "json_mode") == {"type": "json_object"}


@pytest.mark.parametrize(
    ("error", "pictures", "shown", "expected"),
    [
        (TooManyImagesError("x", limit=1), 3, None, 1),
        (TooManyImagesError("x", limit=2), 3, None, 2),
        (TooManyImagesError("x", limit=8), 3, None, 2),
        (TooManyImagesError("x"), 5, None, 2),
        (TooManyImagesError("x"), 5, 2, 1),
        (TooManyImagesError("x", limit=4), 1, None, None),
        (rejected("This model's maximum context length is 4096 tokens"), 4, None, 2),
        (rejected("Prompt is too long"), 4, 2, 1),
        (rejected("Prompt is too long"), 4, 1, None),
        (rejected("Prompt is too long"), 0, None, None),
        (rejected("response_format is not supported"), 4, None, None),
        (UnreadableReplyError("too long to read"), 4, None, None),
    ],
)
def test_fewer_pictures(error: GemsError, pictures: int, shown: int | None, expected: int | None) -> None:
    assert reduce_pictures(error, pictures, shown) == expected


@pytest.mark.parametrize(
    "error", [TooManyImagesError("At most 0 image(s)", limit=0), TooManyImagesError("x")]
)
def test_a_model_that_sees_nothing_is_no_use(error: TooManyImagesError) -> None:
    with pytest.raises(ConfigurationError, match="vision model"):
        reduce_pictures(error, 1, None)


@pytest.mark.parametrize(
    ("error", "question", "refused", "expected"),
    [
        (rejected("logprobs are not supported"), PLAIN, set(), "logprobs"),
        (rejected("temperature must be 1"), PLAIN, set(), "temperature"),
        (rejected("Use max_completion_tokens instead"), PLAIN, set(), "max_tokens"),
        (rejected("logprobs are not supported"), PLAIN, {"logprobs"}, None),
        (rejected("temperature"), FORMED, set(), "temperature"),
        (rejected("what?"), FORMED, set(), "json_schema"),
        (rejected("what?"), FORMED, {"json_schema"}, "json_mode"),
        (rejected("what?"), FORMED, {"json_schema", "json_mode"}, None),
        (rejected("what?"), PLAIN, set(), "logprobs"),
        (UnreadableReplyError("mentions temperature"), FORMED, set(), "json_schema"),
        (UnreadableReplyError("empty"), PLAIN, set(), None),
        (ServerError("logprobs"), PLAIN, set(), None),
    ],
)
def test_what_to_leave_out_next(
    error: GemsError, question: Question, refused: set[str], expected: str | None
) -> None:
    assert find_feature_to_drop(error, question, refused, EVERYTHING) == expected


def test_what_was_not_sent_is_not_left_out() -> None:
    nothing_set = ChatLimits(logprobs=False)
    for words in ("temperature", "max_tokens", "logprobs"):
        assert find_feature_to_drop(rejected(words), PLAIN, set(), nothing_set) is None
