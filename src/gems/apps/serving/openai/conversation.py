"""What to draw, from a conversation."""

from __future__ import annotations

from collections.abc import Sequence

from gems.apps.server.openai.errors import AnswerError
from gems.apps.serving.openai.bodies import Message
from gems.options import MAX_PROMPT


def prompt_of(messages: Sequence[Message]) -> str:
    """The text of the user's last message.

    Raises:
        AnswerError: there is none, or it holds something else.
    """
    last = next((message for message in reversed(messages) if message.role == "user"), None)
    if last is None:
        raise AnswerError("messages holds no message of the user.", param="messages")
    text = _text(last).strip()
    if not text:
        raise AnswerError("The last message of the user has no text.", param="messages")
    if len(text) > MAX_PROMPT:
        raise AnswerError(
            f"The last message of the user has more than {MAX_PROMPT:,} characters.", param="messages"
        )
    if text.startswith("### Task:") and "<chat_history>" in text:
        # Open WebUI has titles and tags of conversations written by the model that is talked to.
        raise AnswerError(
            "This model only draws; choose another one for Open WebUI's tasks.", param="messages"
        )
    return text


def _text(message: Message) -> str:
    if not isinstance(message.content, list):
        return message.content or ""
    for part in message.content:
        if part.type != "text":
            raise AnswerError(
                f"A part of type {part.type[:40]!r} cannot be used: only text is drawn. Addresses are never "
                "fetched; images are edited by /v1/images/edits.",
                param="messages",
            )
    return "\n".join(part.text or "" for part in message.content)
