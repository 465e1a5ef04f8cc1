"""Ask a person in the terminal what follows a round."""

from __future__ import annotations

import asyncio
import base64
import re
import sys
from pathlib import Path

import typer

from gems.apps.text import clean_text
from gems.errors import AnswerNeededError, OptionError
from gems.memory.images import ImageStore
from gems.types import Decision, DecisionRequest

_HELP = "Enter continues; redraw TEXT adds TEXT to the prompt; accept K ends with the image of round K."
_ROUND = re.compile(r"(\d{1,3})(?:\.(\d{1,2}))?")


async def ask_decision(error: AnswerNeededError, images: ImageStore) -> Decision:
    """Ask on standard error and read the answer from standard input; raise the error again at its end."""
    asked: DecisionRequest = error.question
    _say("\n".join([asked["question"], _HELP, *_list_choices(asked, images)]))
    while True:
        line = await _read(error, "> ")
        try:
            return await _read_rest(error, asked, line)
        except OptionError as fault:
            _say(f"{fault.message} {fault.hint}")


async def _read_rest(error: AnswerNeededError, asked: DecisionRequest, line: str) -> Decision:
    word, _, rest = line.partition(" ")
    if not line or line.lower() == "continue":
        return {"action": "continue"}
    if word.lower() == "redraw":
        return {"action": "redraw", "instruction": rest.strip()}
    if line.lower() == "undo":
        return {"action": "undo"}
    if word.lower() == "accept" and (not rest or _ROUND.fullmatch(rest.strip())):
        return {"action": "accept", "parent": _choose(asked, rest.strip())} if rest else {"action": "accept"}
    decision: Decision = {"action": "edit", "instruction": line}
    if len(asked["choices"]) > 1:
        chosen = await _read(error, "image of which round [the best]> ")
        if chosen:
            decision["parent"] = _choose(asked, chosen)
    if mask := await _read(error, "file of a mask, white where it may change [everywhere]> "):
        decision["mask"] = await asyncio.to_thread(_load_mask, mask)
    return decision


def _list_choices(asked: DecisionRequest, images: ImageStore) -> list[str]:
    numbers = [choice["round"] for choice in asked["choices"]]
    lines, places = list[str](), dict[int, int]()
    for choice in asked["choices"]:
        place = places[choice["round"]] = places.get(choice["round"], 0) + 1
        name = f"{choice['round']}.{place}" if numbers.count(choice["round"]) > 1 else str(choice["round"])
        lines.append(f"round {name}: {choice['score']:.0%} {images.path(choice['image'])}")
    return lines


def _choose(asked: DecisionRequest, text: str) -> str:
    """Return the image of a round, such as `2`, or of its candidate, such as `2.3`; OptionError for another."""
    found = _ROUND.fullmatch(text)
    of_round = [each["image"] for each in asked["choices"] if found and each["round"] == int(found[1])]
    place = int(found[2] or 1) if found else 0
    if not 1 <= place <= len(of_round):
        raise OptionError(f"There is no image {text[:40]!r}.", hint="Name a round of the list.")
    return of_round[place - 1]


def _load_mask(path: str) -> str:
    try:
        return base64.b64encode(Path(path).expanduser().read_bytes()).decode()
    except (OSError, ValueError, RuntimeError) as error:
        raise OptionError(f"{path[:200]} cannot be read: {error}.", hint="Name a PNG file.") from error


async def _read(error: AnswerNeededError, prompt: str) -> str:
    """Return a line of standard input; raise the error at its end."""
    typer.echo(prompt, err=True, nl=False)
    line = await _read_line()
    if not line:
        typer.echo("", err=True)
        raise error
    return line.strip()


def _complete(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


async def _read_line() -> str:
    """Wait for a line of standard input without a thread, which could not be interrupted."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    try:
        descriptor = sys.stdin.fileno()
        loop.add_reader(descriptor, _complete, ready)
    except (NotImplementedError, OSError, ValueError):
        # A file is always ready; Windows has no such readers.
        return sys.stdin.readline()
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)
    return sys.stdin.readline()


def _say(text: str) -> None:
    typer.echo(clean_text(text), err=True)
