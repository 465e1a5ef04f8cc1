"""The prompt of a conversation."""

from __future__ import annotations

from collections.abc import Sequence

from gems.apps.server.openai.errors import AnswerError
from gems.apps.server.openai.schemas import Message
from gems.options import MAX_PROMPT


def prompt_of(messages: Sequence[Message]) -> str:
    """Return the text of the last user message; raise AnswerError if it is missing or not text."""
    last = next((message for message in reversed(messages) if message.role == "user"), None)
    if last is None:
        raise AnswerError("messages contains no user message.", param="messages")
    text = _message_text(last).strip()
    if not text:
        raise AnswerError("The last user message has no text.", param="messages")
    if len(text) > MAX_PROMPT:
        raise AnswerError(f"The last user message has more than {MAX_PROMPT:,} characters.", param="messages")
    if text.startswith("### Task:") and "<chat_history>" in text:
        # Open WebUI asks the selected model to write titles and tags of conversations.
        raise AnswerError(
            "This model only generates images; select another one for Open WebUI tasks.", param="messages"
        )
    return text


def _message_text(message: Message) -> str:
    if not isinstance(message.content, list):
        return message.content or ""
    for part in message.content:
        if part.type != "text":
            raise AnswerError(
                f"Unsupported content type: {part.type[:40]!r}. Only text is allowed; URLs are not fetched. "
                "Edit images with /v1/images/edits.",
                param="messages",
            )
    return "\n".join(part.text or "" for part in message.content)
