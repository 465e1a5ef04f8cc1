"""Models that do as they are told, and what a node needs around it."""

from __future__ import annotations

import inspect
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import BaseModel, Field

from gems.generation import GeneratedImage, GeneratorCapabilities, ImageRequest
from gems.memory.images import ImageStore
from gems.memory.ledger import open_ledger
from gems.models.chat.capabilities import ChatLimits
from gems.models.chat.client import ChatClient
from gems.models.chat.schemas import extract_tag, find_task
from gems.models.images import EncodedImageCache
from gems.nodes.context import NodeContext
from gems.service import Gems
from gems.settings import ChatSettings, Settings
from gems.skills.models import Skill, SkillRegistry
from gems.state import Context
from gems.types import Options, Role
from tests.support.stub.models import flat_picture

FREE = ChatLimits(attempts=1, first_wait_s=0, input_usd=0.0, output_usd=0.0)
OPTIONS: Options = {
    "max_rounds": 5,
    "candidates": 1,
    "width": 64,
    "height": 64,
    "sized": True,
    "seed": 7,
    "profile": "balanced",
    "negative_prompt": "",
    "skills": "auto",
    "max_images": None,
    "budget_usd": None,
    "deadline_s": None,
    "plateau": 7,
    "memory": True,
}


@dataclass(frozen=True, slots=True)
class Asked:
    """One question as it reached the model."""

    task: str
    text: str
    pictures: tuple[str, ...]
    """Data URLs, in order."""
    system: str

    def tag(self, name: str) -> str:
        return extract_tag(name, self.text) or ""

    def lines(self, name: str) -> list[str]:
        return [line for line in self.tag(name).splitlines() if line and line != "(none)"]


def requirements(*questions: str, **more: Any) -> dict[str, Any]:
    """The decomposer's answer."""
    return {"requirements": [{"question": question, **more} for question in questions]}


def checks(*answers: str) -> dict[str, Any]:
    """The judge's answer to a checklist."""
    numbered = enumerate(answers, 1)
    return {"answers": [{"number": n, "answer": said, "evidence": f"seen {n}"} for n, said in numbered]}


def failing(count: int = 1) -> Callable[[Asked], dict[str, Any]]:
    """Answers every checklist with `no` for its first `count` questions and `yes` for the rest."""
    return lambda asked: checks(*("no" if n < count else "yes" for n in range(len(asked.lines("questions")))))


def at_looks(*answers: Any) -> Callable[[Asked], Any]:
    """Answers to the checklists about one picture, one after another: to the first look, to the second.

    The second look asks backwards, so its first answer is about the last requirement.
    """
    looks: Counter[str] = Counter()

    def answer(asked: Asked) -> Any:
        picture = asked.pictures[-1]
        looks[picture] += 1
        return answers[looks[picture] - 1]

    return answer


def another_prompt(asked: Asked) -> dict[str, Any]:
    """The reflector's answer: the drawn prompt and one word more."""
    return {"experience": "It lacks something.", "prompt": f"{asked.tag('drawn_prompt')} more"}


AS_LISTED = "as the checklist about the same picture was answered; yes where it was not asked about"


def script() -> dict[str, Any]:
    """Answers by task: two requirements that every image meets."""
    return {
        "route": {"skills": [], "why": "It is plain."},
        "enhance": lambda asked: {"prompt": f"better {asked.tag('user_prompt')}"},
        "keep": {"lost": [], "prompt": ""},
        "consult": {},
        "author": {"name": "a-draft", "description": "A draft.", "body": "Say it."},
        "prepare": lambda asked: {"prompt": f"prepared {asked.tag('user_prompt')}"},
        "distil": {"experience": "A lesson."},
        "decompose": requirements("Is there a cat?", "Is it red?"),
        "complete": {"requirements": []},
        "follow": {"kind": "new", "picture": 0, "instruction": "", "prompt": ""},
        "checklist": failing(0),
        "settle": failing(0),
        "verify": AS_LISTED,
        "reflect": another_prompt,
        "mend": lambda asked: another_prompt(asked) | {"instruction": f"Mend: {asked.tag('fault')}"},
        "summarise": {"experience": "It lacks something."},
        "refine": another_prompt,
    }


class ScriptedChat(BaseChatModel):
    """Answers each task from `script` and keeps what it was asked.

    An answer is a text, something to be sent as JSON, an exception to raise, a list of answers to be given
    one after another, or a function of the question that makes one of these.
    """

    script: dict[str, Any] = Field(default_factory=script)
    asked: list[Asked] = Field(default_factory=list)
    thought: str = "I looked at it."
    missing: set[tuple[str, str]] = Field(default_factory=set)
    """Pictures and questions that a checklist answered with no."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def tasks(self) -> list[str]:
        return [question.task for question in self.asked]

    def about(self, task: str) -> list[Asked]:
        return [question for question in self.asked if question.task == task]

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        raise AssertionError("The loop never asks without an event loop.")

    async def _agenerate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        question = _asked(messages)
        self.asked.append(question)
        told = await self._told(self.script[question.task], question)
        text = told if isinstance(told, str) else _json(told)
        message = AIMessage(
            content=text,
            additional_kwargs={"reasoning_content": self.thought},
            usage_metadata={"input_tokens": 10, "output_tokens": 5, "total_tokens": 15},
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _told(self, answer: Any, question: Asked) -> Any:
        if isinstance(answer, list):
            answer = answer.pop(0)
        if callable(answer):
            answer = answer(question)
            answer = await answer if inspect.isawaitable(answer) else answer
        if isinstance(answer, Exception):
            raise answer
        if question.task == "checklist" and isinstance(answer, dict):
            self._remember(question, answer)
        if answer == AS_LISTED:
            return "No. It is missing." if self._is_missing(question) else "Yes. It is there."
        return answer

    def _remember(self, question: Asked, answer: dict[str, Any]) -> None:
        if not question.pictures:
            return
        for line, said in zip(question.lines("questions"), answer["answers"], strict=False):
            asked = (question.pictures[-1], line.partition(". ")[2])
            (self.missing.add if said["answer"] == "no" else self.missing.discard)(asked)

    def _is_missing(self, question: Asked) -> bool:
        return (question.pictures[-1], question.tag("question").strip()) in self.missing


class FlatGenerator:
    """Draws pictures of one colour as an `ImageGenerator` and keeps what it was asked.

    Args:
        price_usd: Of one image.
        before: Awaited with each request before it is drawn; may raise.
        paint: Makes the PNG bytes.
    """

    def __init__(
        self,
        *,
        price_usd: float | None = 0.0,
        before: Callable[[ImageRequest], Awaitable[None]] | None = None,
        paint: Callable[[ImageRequest], bytes] = flat_picture,
    ) -> None:
        self.capabilities = GeneratorCapabilities(
            model="flat", default_size=(64, 64), min_side=16, max_side=2048, price_usd=price_usd
        )
        self.before, self.paint = before, paint
        self.parameters: dict[str, Any] = {"steps": 4}
        self.requests: list[ImageRequest] = []

    async def generate(self, request: ImageRequest) -> GeneratedImage:
        self.requests.append(request)
        if self.before is not None:
            await self.before(request)
        return GeneratedImage(
            data=self.paint(request),
            width=request.width,
            height=request.height,
            seed=request.seed,
            model="flat",
            parameters=self.parameters,
            seconds=0.25,
        )

    async def aclose(self) -> None:
        """Nothing is held."""


@dataclass(slots=True)
class Desk:
    """A context with scripted models and real stores."""

    chat: ScriptedChat
    generator: FlatGenerator
    context: Context
    events: list[dict[str, Any]] = field(default_factory=list)

    def work(self, **given: Any) -> NodeContext:
        """A node's turn whose events end up in `events`."""
        told: dict[str, Any] = {"run_id": "run", "round": 1, "profile": "balanced", "deadline_s": None} | given
        return NodeContext(context=self.context, write=self.events.append, **told)

    def told(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == kind]


@asynccontextmanager
async def opened_desk(
    home: Path,
    *,
    chat: ScriptedChat | None = None,
    generator: FlatGenerator | None = None,
    skills: Iterable[Skill] = (),
    limits: ChatLimits = FREE,
) -> AsyncIterator[Desk]:
    """A desk with its stores below `home`."""
    chat, generator = chat or ScriptedChat(), generator or FlatGenerator()
    client = ChatClient(chat, name="scripted", limits=limits)
    async with open_ledger(home / "ledger.sqlite3") as ledger:
        context = Context(
            chats=dict.fromkeys(get_args(Role), client),
            generator=generator,
            images=ImageStore(home / "images"),
            encodings=EncodedImageCache(),
            ledger=ledger,
            skills=SkillRegistry(skills),
        )
        yield Desk(chat, generator, context)


def _asked(messages: list[BaseMessage]) -> Asked:
    contents: list[Any] = [message.content for message in messages]
    parts = [
        part
        for content in contents
        for part in ([{"type": "text", "text": content}] if isinstance(content, str) else content)
    ]
    texts = [part["text"] for part in parts if part["type"] == "text"]
    task = find_task(contents)
    assert task, texts
    urls = tuple(part["image_url"]["url"] for part in parts if part["type"] == "image_url")
    # Instructions stand in texts of their own or before the first tag.
    return Asked(task, "\n".join(texts[1:] or texts), urls, texts[0])


def _json(value: Any) -> str:
    return value.model_dump_json() if isinstance(value, BaseModel) else json.dumps(value)


def settings_at(home: Path, **more: Any) -> Settings:
    """Settings with a home of their own that try nothing twice; runs learn nothing from each other."""
    own: dict[str, Any] = {"chat": ChatSettings(attempts=1, first_wait_s=0), "experience": "off"}
    return Settings(home=home, **own | more)


@asynccontextmanager
async def opened_gems(
    home: Path, chat: ScriptedChat, generator: FlatGenerator, skills: Iterable[Skill] = ()
) -> AsyncIterator[Gems]:
    """A service with scripted models."""
    async with Gems(settings_at(home), chat=chat, generator=generator, skills=skills) as gems:
        yield gems
