"""Use chat messages as the request, and answer with the image."""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage

from gems.errors import ImageMissingError, PromptError, RequestError
from gems.memory.images import ImageStore
from gems.memory.source_images import decode_source_image, store_source
from gems.models.images import open_image
from gems.nodes.base import Update
from gems.nodes.follow_up import LONGEST, PICTURE_TYPES, Turn
from gems.state import Context, State
from gems.types import Answer, Round, Shown, answers_of

_TEXTS = ("text", "input_text")
_DATA = "data:"
_MAX_LISTED = 10
"""Number of requirements listed in an answer."""


def read_turns(state: State) -> list[Turn]:
    """Return the conversation, if its newest message is this run's request; empty if the run has a prompt.

    Its pictures are images that earlier runs on this thread ended with, by id, and images that persons attached, as
    data URLs. Clients can send messages of the program too, so no id is read from a message.

    Raises PromptError if the newest message has a part that cannot be used.
    """
    messages = state.get("messages") or []
    if not is_unanswered(messages) or _has_new_prompt(state):
        return []
    earlier, newest = messages[:-1], messages[-1]
    answers, by_prompt = dict[str, str](), defaultdict[int, list[Turn]](list)
    for shown in state.get("shown") or ():
        if shown["message"]:
            answers[shown["message"]] = shown["image"]
        else:
            # A client may have removed messages that stood before.
            turns = [Turn(True, shown["prompt"]), Turn(False, "", (shown["image"],))]
            by_prompt[min(shown["place"], len(earlier))] += turns
    told: list[Turn] = []
    for place, message in enumerate(earlier):
        told += by_prompt[place]
        if message.type == "human":
            pictures = tuple(picture for picture in _list_pictures(message) if picture.startswith(_DATA))
            told.append(Turn(True, str(message.text), pictures))
        elif message.type == "ai":
            image = answers.get(message.id or "")
            told.append(Turn(False, "", () if image is None else (image,)))
    return [*told, *by_prompt[len(earlier)], _read_newest(newest)]


def _has_new_prompt(state: State) -> bool:
    """Return whether this run was given a prompt: values of a thread stay, so it may be an earlier run's."""
    prompt, before = state.get("prompt") or "", state.get("prompt_digest")
    is_old = _digest(prompt) == before if before else bool(state.get("plan"))
    return bool(prompt) and not is_old


def prompt_update(prompt: str) -> Update:
    """Return the update with a conversation's prompt, by which the next run tells it from a new one."""
    return {"prompt": prompt, "prompt_digest": _digest(prompt)}


def _read_newest(message: AnyMessage) -> Turn:
    parts = message.content if isinstance(message.content, list) else []
    kinds = [str(part.get("type")) for part in parts if isinstance(part, dict)]
    if other := next((kind for kind in kinds if kind not in (*_TEXTS, *PICTURE_TYPES)), None):
        raise PromptError(
            f"The message has a part of type {other[:40]!r}, and only text and images are read here.",
            hint="Send text, and at most one image to edit.",
        )
    pictures = tuple(_list_pictures(message))
    if not all(picture.startswith(_DATA) for picture in pictures):
        raise PromptError(
            "An image of the message is not sent with it, and images are not fetched from addresses.",
            hint="Send the image as a data URL.",
        )
    if pictures and not message.text.strip():
        raise PromptError("The message has an image, but no text that says what to change.", hint="Add the text.")
    return Turn(True, str(message.text), pictures)


def _list_pictures(message: AnyMessage) -> Iterator[str]:
    """Yield the images of a message as they were sent: as data URLs, or as addresses."""
    for part in message.content if isinstance(message.content, list) else ():
        if not isinstance(part, dict) or part.get("type") not in PICTURE_TYPES:
            continue
        # OpenAI's clients, LangChain's blocks of both versions, and Anthropic's clients.
        inner = next((part[name] for name in ("image_url", "source") if part.get(name)), part)
        given: Mapping[str, Any] = inner if isinstance(inner, Mapping) else {"url": inner}
        if data := given.get("base64") or given.get("data"):
            yield data if str(data).startswith(_DATA) else f"{_DATA}image/png;base64,{data}"
        else:
            yield str(given.get("url") or "")


async def load_picture(picture: str, images: ImageStore) -> tuple[str, tuple[int, int]]:
    """Return the id of a picture of `read_turns`, and its width and height in pixels; a data URL is stored first.

    Raises:
        RequestError: the image is invalid, or was deleted.
        StorageError: it could not be stored or read.
    """
    if picture.startswith(_DATA):
        hint = "Send the image as a data URL."
        source = await asyncio.to_thread(decode_source_image, picture, "messages", hint)
        await store_source(source, images)
        return source.id, (source.width, source.height)
    try:
        data = await images.load(picture)
    except ImageMissingError as error:
        hint = "Describe the whole image, or attach the one to change."
        raise RequestError(f"The earlier image that is meant is gone: {error.message}", hint=hint) from error
    return picture, open_image(data).size


def is_unanswered(messages: Sequence[AnyMessage]) -> bool:
    """Return whether the last message is from a person."""
    return bool(messages) and messages[-1].type == "human"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]


def answer_update(state: State, found: dict[str, Any], rounds: Sequence[Round], context: Context) -> Update:
    """Return the message with a link to the best image, and its checklist; empty without an open question."""
    messages = state.get("messages") or []
    if not is_unanswered(messages):
        return {}
    best = next(turn for turn in rounds if turn["number"] == found["best_round"])
    text = format_answer(state, found, best, len(rounds))
    content: list[str | dict[str, Any]] = [{"type": "text", "text": text}]
    link = context.link(found["image"])
    if link is not None:
        content.insert(0, {"type": "image_url", "image_url": {"url": link}})
    facts = {"image": found["image"], "score": found["score"], "stop_reason": state.get("stop_reason")}
    name = hashlib.sha256(f"{len(messages)}/answer/{found['image']}".encode()).hexdigest()[:32]
    return {"messages": [AIMessage(content=content, id=name, response_metadata=facts)]}


def shown_update(state: State, image: str, answer: Update) -> Update:
    """Return the update that lets later messages on the thread name the image; `answer` is that of `answer_update`."""
    if "run_id" in state:
        # The service gives each run a thread of its own.
        return {}
    said = answer.get("messages")
    shown: Shown = {
        "image": image,
        "message": said[0].id if said else "",
        "prompt": "" if said else state["prompt"][:LONGEST],
        "place": len(state.get("messages") or ()),
    }
    return {"shown": [shown]}


def format_answer(state: State, found: dict[str, Any], best: Round, rounds: int) -> str:
    """Format the checklist of the best round, unmet requirements first."""
    answers = answers_of(best)
    checked = [(item["question"], answers.get(item["id"])) for item in state["requirements"]]
    met = sum(answer is not None and answer["answer"] == "yes" for _, answer in checked)
    which = "1 round" if rounds == 1 else f"round {found['best_round']} of {rounds}"
    lines = [f"{met} of {len(checked)} requirements are met, after {which}."]
    checked.sort(key=lambda item: item[1] is not None and item[1]["answer"] == "yes")
    lines += [_format_line(question, answer) for question, answer in checked[:_MAX_LISTED]]
    if len(checked) > _MAX_LISTED:
        lines.append(f"- and {len(checked) - _MAX_LISTED} more")
    if failure := state.get("failure"):
        lines.append(f"It stopped early: {failure['message']}")
    return "\n".join(lines)


def _format_line(question: str, answer: Answer | None) -> str:
    if answer is None:
        return f"- unknown: {question}"
    why = f" ({answer['evidence'][:200]})" if answer["evidence"] and answer["answer"] != "yes" else ""
    return f"- {answer['answer']}: {question}{why}"
