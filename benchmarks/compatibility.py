"""What runs come to with chat models and servers that are not as they were expected.

`benchmarks.faults` lets a share of the answers be faulty; here every answer of a kind is. Each kind has several
members, and each member is a server of its own over real HTTP, for three runs: two whose pictures come right sooner
or later and a hopeless one, whose last thing no picture ever shows. Which picture meets what is a hidden truth
(`faulty_world`). The bounds, with exit status 1 where one is missed:

- Nothing crashes, and no image is called passed that the clean judge rejects: no hopeless run passes.
- No kind needs more requests than its budget: those of the same runs without any fault, and some more.
- Runs end as they should: those that can be answered as without a fault, the others with the error of their kind.

    python -m benchmarks.compatibility [--only WORD ...] [--quick] [--out FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import logging
import multiprocessing
import os
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from starlette.responses import Response

from benchmarks import faulty_world as world
from benchmarks import odd_models as models
from benchmarks import odd_servers as servers
from benchmarks._results import write
from benchmarks.odd_answers import Asked, Chat, Picture, respond
from gems.errors import GemsError, InternalError
from gems.generation import ImageRequest
from gems.service import Gems
from gems.settings import ChatSettings, GeneratorSettings, Settings
from tests.support.stub import Recorded, StubServer

PROCESSES = 2
ROUNDS = 3
TIMEOUT_S = 30.0
"""Silence that no server here keeps unless that is its kind."""
SILENCE_S = 2.0
MOST_PER_QUESTION = 3
"""Requests about one question and image."""
MOST_IN_VAIN = 15
"""Requests of a run that is not answered: three for each of five questions."""
PROMPTS = (world.prompt(0), world.prompt(3), world.prompt(0, hopeless=True))
USUAL = ("passed", "passed", "max_rounds")
"""How the three runs end without a fault."""
_PLACEHOLDERS = re.compile(r"^\W*(?:the )?whole (?:new|next) prompt\W*$|^[\W_]*$|^<prompt>$")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of behaviour.

    Attributes:
        name: What happens.
        members: By name, how the chat model or the image server answers.
        extra: Requests of the three runs beyond those without a fault.
        ends: Words in how runs may end; None for as usual.
        options: Of the runs.
        environment: Variables that are set meanwhile.
        is_about_pictures: Whether the image server is meant.
        timeout_s: Longest silence of the chat model.
    """

    name: str
    members: Mapping[str, Any]
    extra: int = 0
    ends: tuple[str, ...] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    is_about_pictures: bool = False
    timeout_s: float = TIMEOUT_S


UNSURE = ("passed", "undecided", "max_rounds")
BROKEN = ("UnreadableReplyError", "TruncatedReplyError", "UnreachableError")
PAPER = {"profile": "paper"}
_NOBODY = "http://127.0.0.1:9"
PROXY = {"HTTP_PROXY": _NOBODY, "http_proxy": _NOBODY, "ALL_PROXY": _NOBODY, "NO_PROXY": "", "no_proxy": ""}
KINDS = (
    Kind("draft verdict in unknown thought marks", models.THOUGHTS),
    Kind("thought that never ends", models.ENDLESS, 15, ("undecided", "UnreadableReplyError", "max_rounds")),
    Kind("draft, list or example before the answer", models.DRAFTS),
    Kind("fragment before the answer", models.FRAGMENTS),
    Kind("answer in wrappers", models.WRAPPERS),
    Kind("answer in a tool call", models.TOOL_CALLS),
    Kind("answer in the reasoning field", models.REASONING),
    Kind("many requirements", models.MANY, 45),
    Kind("more requirements than are checked", models.TOO_MANY, 6, ("undecided", "max_rounds")),
    Kind("single answers in boxes, tags and JSON", models.DRESSES, options=PAPER),
    Kind("single answers in other languages", models.LANGUAGES, options=PAPER),
    Kind("single answers that contradict themselves", models.OTHER_VERDICTS, 6, UNSURE, PAPER),
    Kind("verdicts other than yes, no and unknown", models.ODD_VERDICTS, 15, UNSURE),
    Kind("verdicts in another form", models.OTHER_FORMS),
    Kind("checklists that are no JSON object", models.BY_LINE, 75, UNSURE),
    Kind("content in parts", models.PARTS),
    Kind("JSON that is nearly JSON", models.NEARLY_JSON),
    Kind("reflection without an experience", models.REFLECTIONS),
    Kind("answers cut off at the token limit", models.CUT, 30, ("TruncatedReplyError", *UNSURE)),
    Kind("answers cut off at a limit that is too low", models.CUT_ONCE, 30),
    Kind("unreadable answers at the start", models.UNREADABLE_FIRST, 6),
    Kind("answers in the wrong form", models.WRONG_FORMS, 50, UNSURE),
    Kind("questions that are not yes/no", models.OPEN_QUESTIONS, 9, UNSURE),
    Kind("placeholders copied from the instructions", models.PLACEHOLDERS, 6, UNSURE),
    Kind("answers mixed up, doubled or missing", models.MIXED, 70, UNSURE),
    Kind("checklist refused by the model", models.REFUSED_BY_MODEL, 50, (*UNSURE, "refused")),
    Kind("log probabilities refused", servers.LOGPROBS, 6, options=PAPER),
    Kind("JSON schema refused", servers.SCHEMAS, 9),
    Kind("one picture per message", servers.ONE_PICTURE, 6, options=PAPER),
    Kind("texts must be strings", servers.STRINGS, 6),
    Kind("no system role", servers.NO_SYSTEM, 9),
    Kind("model that sees nothing", servers.BLIND, 0, ("BlindModelError",)),
    Kind("reflector that sees nothing", servers.BLIND_REFLECTOR, 3),
    Kind("no choices", servers.NO_CHOICES, 0, ("UnreadableReplyError",)),
    Kind("no choices once", servers.NO_CHOICES_ONCE, 3),
    Kind("context exceeded by pictures", servers.CONTEXT, 9),
    Kind("context exceeded by everything", servers.NO_CONTEXT, 0, ("ContextExceededError",)),
    Kind("slow server", servers.SLOW, timeout_s=SILENCE_S),
    Kind("server that says nothing", servers.SILENT, 0, ("ProviderTimeoutError",), timeout_s=SILENCE_S),
    Kind("stream done in another way", servers.STREAMS, 3),
    Kind("streaming refused", servers.STREAMS_REFUSED, 6),
    Kind("parameters refused", servers.PARAMETERS, 9),
    Kind("error within the stream", servers.ERRORS_IN_STREAMS, 0, ("ServerError", "UnreadableReplyError")),
    Kind("stream that breaks off", servers.BROKEN, 0, BROKEN),
    Kind("stream that breaks off at first", servers.BROKEN_ONCE, 6),
    Kind("stream without an end", servers.ENDLESS_STREAMS, 0, BROKEN),
    Kind("answers of 4 MB", servers.LARGE, 0, ("UnreadableReplyError",)),
    Kind("proxy for everything but this machine", {"HTTP_PROXY": None}, environment=PROXY),
    Kind("pictures in other formats", servers.FORMATS, 6, is_about_pictures=True),
    Kind("base64 in another dress", servers.BASE64, is_about_pictures=True),
    Kind("picture refused", servers.PICTURE_REFUSED, 0, ("RefusedError",), is_about_pictures=True),
    Kind("server that answers addresses only", servers.ADDRESSES, 1, is_about_pictures=True),
    Kind("seeds of other programs", {"-1": None, "3484050600": None}, 15, UNSURE),
)  # fmt: skip


@dataclass
class Found:
    """What came of the runs of a member, or of all members of a kind.

    Attributes:
        kind: Its name.
        member: Its name; of a kind, how many members there are.
        runs: How many.
        ended: By stop reason or error.
        wrong: Runs that were called passed although the clean judge rejects the image.
        odd: Runs that ended otherwise than they should, in words.
        crashed: What was raised that is none of our errors.
        images: Requests for images.
        requests: Chat requests.
        allowed: Most of them.
        per_question: Most of them about one question and image.
        tokens: Of all chat requests and answers.
        seconds: Of all runs together.
    """

    kind: str
    member: str
    runs: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    wrong: int = 0
    odd: list[str] = field(default_factory=list)
    crashed: list[str] = field(default_factory=list)
    images: int = 0
    requests: int = 0
    allowed: int = 0
    per_question: int = 0
    tokens: int = 0
    seconds: float = 0.0

    def missed(self) -> list[str]:
        """The bounds that are missed, in words."""
        found = [f"{self.wrong} runs passed wrongly"] if self.wrong else []
        found += self.odd + self.crashed
        if self.requests > self.allowed:
            found.append(f"{self.requests} requests, {self.allowed} allowed")
        if self.per_question > MOST_PER_QUESTION:
            found.append(f"{self.per_question} requests about one question")
        return [f"{self.kind} ({self.member}): {text}" for text in found]


class Server:
    """A stub server of one member, and what it counts."""

    def __init__(self, chat: Chat | None = None, picture: Picture | None = None) -> None:
        self._chat, self._picture = chat, picture
        self.questions: Counter[str] = Counter()
        self.requests = self.images = self.tokens = 0
        self.prompts: list[str] = []
        self.stub = StubServer(images=world.draw, respond=self._respond)

    def _respond(self, asked: Recorded) -> Response | None:
        if asked.kind == "chat":
            return self._answer(asked.body)
        if asked.kind == "images":
            self.images += 1
            self.prompts.append(asked.body["prompt"])
            return self._picture(asked, world.draw(_image_request(asked.body))) if self._picture else None
        return None

    def _answer(self, body: dict[str, Any]) -> Response:
        self.requests += 1
        asked = Asked(body, self.requests)
        data = asked.text.partition("<")[2]
        self.questions[f"{asked.task} {self.images} {hashlib.sha256(data.encode()).hexdigest()}"] += 1
        response, tokens = respond(asked, self._chat(asked) if self._chat else None)
        self.tokens += tokens or asked.tokens
        return response


def _image_request(body: dict[str, Any]) -> ImageRequest:
    width, _, height = str(body["size"]).partition("x")
    return ImageRequest(prompt=body["prompt"], seed=int(body["seed"]), width=int(width), height=int(height))


def settings_for(stub: StubServer, home: Path, timeout_s: float) -> Settings:
    """All models at the stub, and waits that are short."""
    patience: dict[str, Any] = {"timeout_s": timeout_s, "first_wait_s": 0.01}
    return Settings(
        home=home,
        experience="off",
        chat=ChatSettings(model=f"openai:stub@{stub.base_url}", **patience),
        generator=GeneratorSettings(model=f"openai:stub@{stub.base_url}", **patience),
    )


def measure(kind: Kind, member: str) -> Found:
    """Carry out the runs of a member, and the same without a fault."""
    edit = kind.members[member]
    server = Server(picture=edit) if kind.is_about_pictures else Server(edit)
    found = Found(kind.name, member)
    with _environment(kind.environment):
        asyncio.run(_run_all(server, kind, found))
    if not found.ended.keys() - {"passed", "max_rounds", "undecided"}:
        found.allowed = _usual_requests(kind.options.get("profile", "balanced")) + kind.extra
    else:
        found.allowed = MOST_IN_VAIN * found.runs + kind.extra
    return found


@cache
def _usual_requests(profile: str) -> int:
    """Return how many requests the three runs need without a fault."""
    clean = Found("", "")
    asyncio.run(_run_all(Server(), Kind("none", {}, options={"profile": profile}), clean))
    return clean.requests


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


async def _run_all(server: Server, kind: Kind, found: Found) -> None:
    started = time.perf_counter()
    with server.stub as stub, tempfile.TemporaryDirectory() as home:
        async with Gems(settings_for(stub, Path(home), kind.timeout_s), skills=()) as gems:
            for number, prompt in enumerate(PROMPTS):
                seed = int(member) if re.fullmatch(r"-?\d+", member := found.member) else number
                options = {"seed": seed, "size": "128x128", "max_rounds": ROUNDS, "plateau": 0} | kind.options
                await _run_one(gems, prompt, options, kind, found)
    found.requests, found.images, found.tokens = server.requests, server.images, server.tokens
    found.per_question = max(server.questions.values(), default=0)
    found.odd += [f"drew {prompt!r}" for prompt in server.prompts if _PLACEHOLDERS.search(prompt)]
    found.seconds = round(time.perf_counter() - started, 2)


async def _run_one(gems: Gems, prompt: str, options: dict[str, Any], kind: Kind, found: Found) -> None:
    usual = USUAL[PROMPTS.index(prompt)]
    found.runs += 1
    try:
        result = await gems.run(prompt, **options)
    except GemsError as error:
        ended = type(error).__name__
        if isinstance(error, InternalError):
            found.crashed.append(str(error))
    except Exception as error:  # noqa: BLE001 - which ones there are is what is measured
        ended = type(error).__name__
        found.crashed.append(f"{ended}: {error}")
    else:
        ended = str(result.stop_reason)
        if result.failure is not None:
            ended = f"{ended}: {result.failure['error']}"
            if result.failure["error"] == InternalError.__name__:
                found.crashed.append(result.failure["message"])
        if result.image_id is not None and (result.passed or result.stop_reason == "passed"):
            found.wrong += not all(world.met(await gems.resources.images.load(result.image_id)))
    found.ended[ended] += 1
    if not (ended == usual if kind.ends is None else any(word in ended for word in kind.ends)):
        found.odd.append(f"ended as {ended}")


def campaign(kinds: Sequence[Kind], *, quick: bool = False) -> list[Found]:
    """What came of each member, in the order of the kinds; several processes work on them side by side."""
    jobs = [(kind.name, member) for kind in kinds for member in list(kind.members)[: 1 if quick else None]]
    with ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(_measure_named, *zip(*jobs, strict=True)))


def _measure_named(kind: str, member: str) -> Found:
    logging.disable(logging.CRITICAL)
    return measure(next(each for each in KINDS if each.name == kind), member)


def joined(members: Sequence[Found]) -> list[Found]:
    """What came of each kind."""
    kinds: dict[str, Found] = {}
    for member in members:
        whole = kinds.setdefault(member.kind, Found(member.kind, "0"))
        whole.member = str(int(whole.member) + 1)
        for name in ("runs", "ended", "wrong", "odd", "crashed", "images", "requests", "allowed", "tokens", "seconds"):
            setattr(whole, name, getattr(whole, name) + getattr(member, name))
        whole.per_question = max(whole.per_question, member.per_question)
    return list(kinds.values())


def table_of(kinds: Sequence[Found]) -> Table:
    """The kinds as a table."""
    table = Table(title="Three runs of each member", box=box.SIMPLE)
    table.add_column("what happens")
    table.add_column("members", justify="right")
    table.add_column("ended")
    for heading in ("wrongly passed", "images", "per question", "requests", "allowed", "tokens", "s"):
        table.add_column(heading, justify="right")
    for each in kinds:
        table.add_row(
            each.kind, each.member, ended_of(each), str(each.wrong), str(each.images), str(each.per_question),
            str(each.requests), str(each.allowed), f"{each.tokens:,}", f"{each.seconds:.1f}",
        )  # fmt: skip
    return table


def ended_of(found: Found) -> str:
    """How the runs ended, in words."""
    return ", ".join(f"{count} {name}" for name, count in sorted(found.ended.items()))


def plain(found: Found) -> dict[str, Any]:
    """Return what came of a member as JSON holds it."""
    return {each.name: getattr(found, each.name) for each in fields(found)} | {"ended": dict(found.ended)}


def main() -> int:
    """Print the table; exit status 1 where a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD", help="kinds whose names hold one of these")
    parser.add_argument("--quick", action="store_true", help="one member of each kind")
    parser.add_argument("--out", type=Path, help="also write the results there, as JSON")
    given = parser.parse_args()
    started = time.perf_counter()
    chosen = [kind for kind in KINDS if any(word in kind.name for word in given.only)]
    members = campaign(chosen, quick=given.quick)
    console = Console(width=None if sys.stdout.isatty() else 170)
    console.print(table_of(joined(members)))
    missed = [text for member in members for text in member.missed()]
    console.print("\n".join(missed) or "Every bound is kept.", highlight=False)
    console.print(f"{time.perf_counter() - started:.0f} seconds", highlight=False)
    if given.out is not None:
        tables = {"kinds": [plain(each) for each in joined(members)], "members": [plain(each) for each in members]}
        write(given.out, "compatibility", tables | {"missed": missed})
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
