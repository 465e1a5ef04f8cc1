"""What servers refuse, in their own words: each is understood, whatever wraps it and whatever its status."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gems.errors import (
    AuthenticationError,
    BlindModelError,
    ContextExceededError,
    ModelUnavailableError,
    RateLimitError,
    RefusedError,
    RejectedRequestError,
    ServerError,
    TooManyImagesError,
)
from gems.models.http import error_from_status
from gems.models.refusals import clean_message, find_refusal

ROWS = [json.loads(line) for line in (Path(__file__).parent / "refusals.jsonl").read_text("utf-8").splitlines()]
SERVERS = (
    *("vLLM", "SGLang", "llama.cpp", "Ollama", "LM Studio", "TGI", "OpenAI", "Azure", "OpenRouter", "Anthropic"),
    *("Gemini", "Groq", "LMDeploy", "DeepSeek", "DashScope", "Moonshot", "Mistral"),
)
ERRORS: dict[str, type[Exception]] = {
    "quota": ModelUnavailableError,
    "key": AuthenticationError,
    "rate": RateLimitError,
    "overload": ServerError,
    "policy": RefusedError,
    "no_images": BlindModelError,
    "image_count": TooManyImagesError,
    "context": ContextExceededError,
    "sum_too_long": ContextExceededError,
}


def envelopes(text: str) -> list[str]:
    """The same words as different servers and gateways send them."""
    openai = {"error": {"message": text, "type": "invalid_request_error", "param": None, "code": None}}
    inner = json.dumps({"error": {"message": text}})
    bodies: list[Any] = [
        openai,
        {"object": "error", "message": text, "type": "BadRequestError", "param": None, "code": 400},
        {"error": text},
        {"error": text, "error_type": "validation"},
        {"detail": text},
        {"detail": [{"type": "value_error", "loc": ["body"], "msg": text, "input": {"messages": []}}]},
        {"error": {"code": 404, "message": "Provider returned error", "metadata": {"raw": inner}}},
        {"error": inner},
        [{"error": {"code": 400, "message": text, "status": "INVALID_ARGUMENT"}}],
        {"type": "error", "error": {"type": "invalid_request_error", "message": text}, "request_id": "r"},
    ]
    return [*(json.dumps(body) for body in bodies), text]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['server']}: {row['text'][:40]}")
def test_every_refusal_is_understood(row: dict[str, Any]) -> None:
    for body in envelopes(row["text"]):
        found = find_refusal(body)
        assert found is not None, body
        assert (found.kind, found.most) == (row["kind"], row["most"]), body
        error = error_from_status(row["status"], body, "model at http://host/v1")
        assert type(error) is ERRORS.get(row["kind"], RejectedRequestError)
        # Whatever the status says: some servers answer what cannot be done with 500, others with 403.
        for status in (400, 403, 404, 422, 500):
            assert type(error_from_status(status, body, "model at http://host/v1")) is type(error)


def test_every_server_is_in_the_table() -> None:
    named = " ".join(row["server"] for row in ROWS)
    assert [server for server in SERVERS if server not in named] == []


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (401, "Incorrect API key provided: sk-1. Response_format is another matter.", AuthenticationError),
        (403, "You may not use this project; unknown parameter or not.", AuthenticationError),
        (404, "The model `nothing` does not exist", ModelUnavailableError),
        (500, "Internal Server Error", ServerError),
        (503, "", ServerError),
        (400, "No.", RejectedRequestError),
    ],
)
def test_other_words_leave_it_to_the_status(status: int, body: str, expected: type[Exception]) -> None:
    assert type(error_from_status(status, body, "model at http://host/v1")) is expected


def test_what_the_client_sent_is_not_taken_for_the_servers_words() -> None:
    sent = {"messages": [{"content": "a sign that says: image input is not supported, rate limit reached"}]}
    body = {
        "error": {
            "message": f"1 validation error(s):\n  {{'type': 'missing', 'msg': 'Field required', 'input': {sent}}}"
        }
    }
    assert find_refusal(json.dumps(body)) is None


def test_messages_are_short() -> None:
    assert len(clean_message("x" * 1_000_000)) < 1_000
    assert find_refusal("[" * 100_000) is None
    assert find_refusal(json.dumps({"error": {"message": None}})) is None
    assert find_refusal('{"error": ' * 2_000) is None
