"""Secrets stay out of messages, and what is no secret stays in."""

from __future__ import annotations

import pytest

from gems.observability.redaction import redact, shorten


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("Incorrect API key provided: sk-proj-0123456789abcdef.", "0123456789abcdef"),
        ("Incorrect API key provided: sk-abc*****wxyz.", "wxyz"),
        ("hf_ABCDEFGHIJKLM is not known", "ABCDEFGHIJKLM"),
        ("key AIzaSyABCDEFGHIJKLMNOPQRSTUV is not valid", "SyABCDEFGHIJKLM"),
        ("Authorization: Bearer eyJhbGciOi.J9-x_y~z/+==", "eyJhbGciOi"),
        ("authorization=Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
        ("bearer abcdef123", "abcdef123"),
        ('{"api_key": "abc123"}', "abc123"),
        ("{'apiKey': 'abc123'}", "abc123"),
        ("GET /v1?api-key=abc123&x=1", "abc123"),
        ("password=hunter2 is wrong", "hunter2"),
        ("secret: hunter2", "hunter2"),
        ("http://user:hunter2@host:8000/v1", "hunter2"),
        ("http://:hunter2@host/v1", "hunter2"),
    ],
)
def test_usual_shapes_are_hidden(text: str, hidden: str) -> None:
    assert hidden not in redact(text)
    assert "[secret]" in redact(text)


def test_the_rest_of_the_text_stays() -> None:
    assert redact("GET /v1?api_key=abc123&size=64 at http://u:p@host/x") == (
        "GET /v1?api_key=[secret]&size=64 at http://[secret]@host/x"
    )


@pytest.mark.parametrize(
    "text",
    [
        "At most 1 image(s) may be provided.",
        "The model `qwen3-vl` does not exist at http://host:8000/v1.",
        "max_tokens must be at least 1",
        "a bearer of news",
        "mail@example.org: a task-force",
    ],
)
def test_ordinary_words_stay(text: str) -> None:
    assert redact(text) == text


def test_given_secrets_are_hidden_wherever_they_stand() -> None:
    assert redact("xMYKEYx MYKEY", "MYKEY") == "x[secret]x [secret]"
    assert redact("a (b.c) d", "(b.c)") == "a [secret] d"


def test_a_text_too_short_to_be_a_secret_hides_nothing() -> None:
    assert redact("a banana", "a", "") == "a banana"


def test_shortened_to_one_line() -> None:
    assert shorten(" a\n\n b\tc ") == "a b c"
    assert shorten("x" * 300) == "x" * 300
    assert len(shorten("x" * 301)) == 300
    assert shorten("abcdef", 4) == "abc\u2026"
