"""Requests that chat programs write themselves: titles and tags of chats, and templates around a person's words."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

_TASK = re.compile(r"\s*#{2,4} ?Task:", re.IGNORECASE)
_WITH_SOURCES = re.compile(r"\s*#{2,4} ?Task:\s*Respond to the user query using the provided context", re.IGNORECASE)
"""Open WebUI: what was attached or found on the web, with the person's words behind it or inside."""
_ATTACHED = re.compile(r"\A\s*<attached_files>.*?</attached_files>\s*", re.DOTALL)
"""Open WebUI: the names of what was attached, before the person's words or the template around them."""
_QUERY = re.compile(r"<user_query>\s*(.*?)\s*</user_query>", re.DOTALL)
_SOURCES_END = "</context>"
_HISTORY = re.compile(r"<chat_history>(.*?)(?:</chat_history>|\Z)", re.DOTALL)
_SAID = re.compile(r"^\s*(?:\|\|>)?\s*(?:user|human)[ \t]*:[ \t]*(\S.*)$", re.IGNORECASE | re.MULTILINE)
_FORM = re.compile(r"JSON (?:format|object)[^{]{0,80}(\{.*?\})\s*$", re.DOTALL | re.IGNORECASE | re.MULTILINE)
_FIELD = re.compile(r'"(\w{1,30})"\s*:\s*(\[)?')
_TITLE = re.compile(
    r"(?=[^\n]{0,600}\btitle\b)(?=[^\n]{0,600}\b(?:conversation|chat|dialogue)\b)"
    r"[^\n]{0,200}\b(?:concise|short|brief|summari[sz]e|generate|provide|create|write|words?)\b",
    re.IGNORECASE,
)
"""A title of a conversation, as LibreChat and others ask for it; the conversation follows in lines of its own."""
_TRANSCRIPT = re.compile(
    r"\n\s*(?:\|\|>)?\s*(?:user|human|conversation|messages?|ai|assistant|response)\s*:", re.IGNORECASE
)
_EMOJI = re.compile(r"\s*Your task is to reflect the speaker's likely facial expression through a fitting emoji")
_MIXTURE = re.compile(r"\s*You have been provided with a set of responses from various models to the latest user query")
_TITLE_WORDS = 5
_PALETTE = "\U0001f3a8"
_TAGS = ["Image Generation"]


def unwrap_request(text: str) -> str:
    """Return the person's own words of a message that a chat program put into a template; others unchanged."""
    text = _ATTACHED.sub("", text)
    if _WITH_SOURCES.match(text) is None:
        return text
    if query := _QUERY.search(text):
        text = query[1]
    elif _SOURCES_END in text:
        text = text.rpartition(_SOURCES_END)[2].strip()
    return _ATTACHED.sub("", text)


def answer_helper(texts: Sequence[str]) -> str | None:
    """Return the answer to a request of a chat program for itself, such as a title; None if a person asks.

    `texts` are those of the system and user messages; the last is the newest.
    """
    text = texts[-1] if texts else ""
    if _WITH_SOURCES.match(text):
        return None
    if _TASK.match(text) or (_FORM.search(text) and _HISTORY.search(text)):
        return _fill_form(text)
    if _EMOJI.match(text):
        return _PALETTE
    if _MIXTURE.match(text):
        return "This model draws pictures and does not join answers."
    if _TITLE.match(text.lstrip()) and _TRANSCRIPT.search(text):
        return _title_of(text)
    instructions = "\n".join(texts[:-1])
    if len(texts) > 1 and _TITLE.match(instructions.lstrip()) and _SAID.search(text):
        return _title_of(text)
    return None


def _fill_form(text: str) -> str:
    """Return the JSON that a template asks for, or a title."""
    form = _FORM.search(text)
    if form is None:
        return _title_of(text)
    known: dict[str, Any] = {"title": _title_of(text), "prompt": _last_said(text), "tags": _TAGS, "emoji": _PALETTE}
    return json.dumps({name: known.get(name, [] if listed else "") for name, listed in _FIELD.findall(form[1])})


def _said(text: str) -> list[str]:
    history = _HISTORY.search(text)
    return [line.strip() for line in _SAID.findall(history[1] if history else text)]


def _last_said(text: str) -> str:
    return (_said(text) or [""])[-1]


def _title_of(text: str) -> str:
    """Return the first words of a conversation."""
    words = unwrap_request((_said(text) or ["Image"])[0]).split()
    return " ".join(words[:_TITLE_WORDS]).strip(".,;:!?\"'") or "Image"
