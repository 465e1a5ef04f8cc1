"""The built-in chat model, which answers each task by rules."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, get_args

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import PrivateAttr

from gems.errors import InvalidImageError
from gems.models.blocks import vocabulary as words
from gems.models.blocks.conversation import read_follow_up
from gems.models.blocks.detection import Detector
from gems.models.blocks.judge import Judgement, judge_question
from gems.models.blocks.prompt_spec import LIMITS, decompose_prompt, explain_limits, parse_numbered, parse_prompt
from gems.models.blocks.reflector import distil_lesson, reflect_on_round, write_instruction
from gems.models.blocks.retouch import locate_fault
from gems.models.blocks.rewriter import draft_skill, enhance_prompt, prepare_prompt, propose_amendments, restore_prompt
from gems.models.blocks.scene import Scene, describe_scene
from gems.models.chat.schemas import (
    AnswerReply,
    ChecklistReply,
    ExperienceReply,
    MendingReply,
    PromptReply,
    ReflectionReply,
    RequirementsReply,
    SkillChoice,
    Task,
    extract_tag,
    find_task,
)

_DATA_URL = re.compile(r"\Adata:[\w.+/-]*;base64,", re.IGNORECASE)
_TOKENS_PER_IMAGE = 85
MOST_SKILLS = 3
_MUCH = 3
"""Number of words of a description, counted groups or relations that select a skill."""
_EVERYWHERE = """
    with from that this into when where image images picture pictures drawing draw drawings design make
    makes creating create creation generate generation rendering render prompt prompts shape shapes used
    using scene skill skills style visual about asks user
"""
_COMMON = frozenset(_EVERYWHERE.split())
# Every prompt of this world names shapes and colours, so these words do not distinguish skills.
_WORLD = frozenset({*words.SHAPE_WORDS, *words.ADJECTIVES, *words.COUNT_WORDS, words.BACKGROUND})
_QUOTED = re.compile(r'"[^"\n]+"|“[^”\n]+”')


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """A parsed chat request.

    `task` is None for a free question; `named` is the word after `Task:`, even if it is not a known task.
    """

    task: Task | None
    named: str
    text: str
    images: tuple[bytes, ...]
    tokens: int
    system: str = ""

    def tag(self, name: str) -> str:
        """Return the text inside a tag; empty if there is none."""
        return extract_tag(name, self.text) or ""


def parse_request(messages: Sequence[BaseMessage]) -> ParsedRequest:
    """Parse messages; images that cannot be decoded are left out."""
    system = "\n".join(_message_text(m) for m in messages if m.type == "system")
    others = [message for message in messages if message.type != "system"]
    named = find_task(message.content for message in messages)
    task = next((known for known in get_args(Task) if known == named), None)
    text = "\n".join(_message_text(message) for message in others)
    images = tuple(image for message in others for image in _message_images(message) if image)
    size = count_tokens(system) + count_tokens(text) + _TOKENS_PER_IMAGE * len(images)
    return ParsedRequest(task, named, text, images, size, system)


def count_tokens(text: str) -> int:
    """Estimate the number of tokens: one per four characters."""
    return -(-len(text) // 4)


def _message_text(message: BaseMessage) -> str:
    if isinstance(message.content, str):
        return message.content
    parts = [part if isinstance(part, str) else part.get("text", "") for part in message.content]
    return "\n".join(str(part) for part in parts if part)


def _message_images(message: BaseMessage) -> Iterator[bytes]:
    """Yield the images in data URLs; other URLs are not fetched."""
    for part in message.content:
        url = part.get("image_url") if isinstance(part, dict) and part.get("type") == "image_url" else None
        data = url.get("url") if isinstance(url, dict) else url
        header = _DATA_URL.match(data) if isinstance(data, str) else None
        if header is not None:
            with suppress(ValueError):
                yield base64.b64decode(str(data)[header.end() :], validate=True)


def choose_skills(prompt: str, catalogue: str) -> SkillChoice:
    """Choose the matching skills of a catalogue of `name: description` lines, best first."""
    spec, spoken = parse_prompt(prompt), _content_words(prompt)
    if _QUOTED.search(prompt):
        spoken |= {"text", "lettering"}
    amounts = {"counting": sum(group.explicit for group in spec.groups), "spatial": len(spec.relations)}
    fits = dict[str, int]()
    for line in catalogue.splitlines():
        name, colon, description = line.strip().lstrip("- ").partition(":")
        fit = _score_skill(name, description, spoken, amounts) if colon and name.strip() else 0
        if fit:
            fits[name.strip()] = max(fit, fits.get(name.strip(), 0))
    skills = sorted(fits, key=lambda name: -fits[name])[:MOST_SKILLS]
    listed = " and ".join(filter(None, [", ".join(skills[:-1]), *skills[-1:]]))
    why = f"The prompt speaks of what {listed} {'is' if len(skills) == 1 else 'are'} for."
    return SkillChoice(skills=skills, why=why if skills else "No skill's words are in the prompt.")


def _score_skill(name: str, description: str, spoken: set[str], amounts: Mapping[str, int]) -> int:
    """Score a skill, 0 for no clear match; a word of its name counts as much as a description."""
    named = {word for word in re.findall(r"[a-z]+", name.lower()) if word not in _COMMON}
    by_name = len(_content_words(" ".join(named)) & spoken)
    by_amount = sum(amount for word, amount in amounts.items() if word in named and amount >= _MUCH)
    described = len(_content_words(description) & spoken)
    return _MUCH * by_name + by_amount + (described if described >= _MUCH else 0)


def _content_words(text: str) -> set[str]:
    found = re.findall(r"[a-z]{4,}", text.lower())
    return {word for word in found if word not in _COMMON and word not in _WORLD}


_Answer = tuple[str, str]
"""Reply and reasoning."""


class BlocksChat(BaseChatModel):
    """Rule-based chat model for the tasks of `gems.models.chat.schemas` and images of the built-in world."""

    _detector: Detector = PrivateAttr(default_factory=Detector)

    @property
    def _llm_type(self) -> str:
        return "gems-blocks"

    def explain_limits(self, prompt: str) -> str:
        """Say what of a prompt is not checked; empty for nothing."""
        return explain_limits(prompt)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,  # noqa: ARG002 - answers are never long enough to be stopped
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002 - sampling parameters mean nothing to rules
    ) -> ChatResult:
        request = parse_request(messages)
        content, thought = self._answer(request)
        used = count_tokens(content) + count_tokens(thought)
        message = AIMessage(
            content=content,
            additional_kwargs={"reasoning_content": thought},
            response_metadata={"model_name": "blocks", "finish_reason": "stop"},
            usage_metadata={
                "input_tokens": request.tokens,
                "output_tokens": used,
                "total_tokens": request.tokens + used,
            },
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> ChatResult:
        return await asyncio.to_thread(self._generate, messages, stop, None, **kwargs)

    def _answer(self, request: ParsedRequest) -> _Answer:
        plays: dict[Task, Callable[[ParsedRequest], _Answer]] = {
            "route": _route,
            "enhance": _enhance,
            "keep": _keep,
            "consult": _consult,
            "prepare": _prepare,
            "decompose": _decompose,
            "complete": _complete,
            "follow": _follow,
            "verify": self._verify,
            "checklist": self._checklist,
            "settle": self._checklist,
            "summarise": _reflect,
            "refine": _reflect,
            "reflect": _reflect,
            "mend": _reflect,
            "distil": _distil,
            "amend": _amend,
            "author": _author,
        }
        if request.task is not None:
            return plays[request.task](request)
        return self._free(request, ", ".join(plays))

    def _free(self, request: ParsedRequest, played: str) -> _Answer:
        scene = None if request.named else self._look(request)
        if scene is not None:
            return f"I see {describe_scene(scene)}.", "A free question about a picture: I tell what is in it."
        return (
            f"I am the chat model of the built-in world and play only these tasks: {played}. With a picture "
            "and no task I say what I see.",
            f"Nothing here names a task that I play; {LIMITS}.",
        )

    def _look(self, request: ParsedRequest) -> Scene | None:
        """Detect the scene of the newest image; None if there is none that can be opened."""
        if not request.images:
            return None
        try:
            return self._detector.detect(request.images[-1])
        except InvalidImageError:
            # The judge answers `unknown` then: a broken image is not a failed requirement.
            return None

    def _verify(self, request: ParsedRequest) -> _Answer:
        scene = self._look(request)
        judgement = _judge(request.tag("question") or request.text, scene)
        return f"{judgement.answer.capitalize()}. {judgement.evidence}", _describe_sight(scene)

    def _checklist(self, request: ParsedRequest) -> _Answer:
        scene = self._look(request)
        questions = parse_numbered(request.tag("questions") or request.text)
        answers = []
        for number, question in enumerate(questions, start=1):
            judged = _judge(question, scene)
            box = locate_fault(scene, question, questions) if scene is not None and judged.answer == "no" else []
            answers.append(AnswerReply(number=number, answer=judged.answer, evidence=judged.evidence, box=box))
        return ChecklistReply(answers=answers).model_dump_json(), _describe_sight(scene)


def _judge(question: str, scene: Scene | None) -> Judgement:
    if scene is None:
        return Judgement("unknown", "There is no picture that I could open.")
    return judge_question(question, scene)


def _describe_sight(scene: Scene | None) -> str:
    if scene is None:
        return "I was given no picture that I can open."
    return f"I look at the picture and see {describe_scene(scene)}."


def _route(request: ParsedRequest) -> _Answer:
    choice = choose_skills(request.tag("user_prompt"), request.tag("skills"))
    return choice.model_dump_json(), choice.why


def _enhance(request: ParsedRequest) -> _Answer:
    user = request.tag("user_prompt").strip()
    prompt = enhance_prompt(user, request.tag("skill"))
    lines = len(prompt.splitlines()) - len(user.splitlines())
    thought = "The guidance is about nothing in the prompt that I could state, so it stays as it is."
    if lines:
        thought = f"The guidance is about {lines} facts of the prompt; I state them once more behind it."
    return PromptReply(prompt=prompt or "nothing").model_dump_json(), thought


def _keep(request: ParsedRequest) -> _Answer:
    reply = restore_prompt(
        request.tag("user_prompt"), request.tag("new_prompt"), parse_numbered(request.tag("questions"))
    )
    return reply.model_dump_json(), f"{len(reply.lost)} of the questions are lost in the new prompt."


def _consult(_: ParsedRequest) -> _Answer:
    return "{}", f"I know no facts beyond my shapes; {LIMITS}. I add nothing."


def _author(request: ParsedRequest) -> _Answer:
    draft = draft_skill(request.tag("skill"), request.tag("lessons"))
    return draft.model_dump_json(), "I state each wording that worked or did not as a rule."


def _amend(request: ParsedRequest) -> _Answer:
    reply = propose_amendments(request.tag("lessons"), request.tag("texts"))
    return reply.model_dump_json(), "I propose to say which wordings worked more often than not."


def _prepare(request: ParsedRequest) -> _Answer:
    user = request.tag("user_prompt").strip()
    prompt = prepare_prompt(user, request.tag("lessons"))
    lines = len(prompt.splitlines()) - len(user.splitlines())
    thought = f"The lessons know a wording for {lines} facts of the prompt."
    return PromptReply(prompt=prompt or "nothing").model_dump_json(), thought


def _distil(request: ParsedRequest) -> _Answer:
    reply = ExperienceReply(experience=distil_lesson(request.tag("experiences")))
    return reply.model_dump_json(), "I count which wordings worked and which did not."


def _decompose(request: ParsedRequest) -> _Answer:
    prompt = request.tag("user_prompt")
    requirements, spec = decompose_prompt(prompt), parse_prompt(prompt)
    thought = (
        f"The prompt names {len(spec.groups)} kinds of things and {len(spec.relations)} relations; "
        f"that makes {len(requirements)} questions."
    )
    return RequirementsReply(requirements=requirements).model_dump_json(), thought


def _complete(request: ParsedRequest) -> _Answer:
    asked = set(parse_numbered(request.tag("questions")))
    missing = [item for item in decompose_prompt(request.tag("user_prompt")) if item.question not in asked]
    # Their parents are positions among the questions of this world's own list.
    missing = [item.model_copy(update={"parents": []}) for item in missing]
    thought = f"{len(missing)} of my own questions about the prompt are not among those that were asked."
    return RequirementsReply(requirements=missing).model_dump_json(), thought


def _follow(request: ParsedRequest) -> _Answer:
    reply = read_follow_up(request.tag("conversation"), request.tag("user_prompt"))
    return reply.model_dump_json(), f"By its words the message asks for: {reply.kind}."


def _reflect(request: ParsedRequest) -> _Answer:
    tags = ("user_prompt", "drawn_prompt", "passed", "failed", "lessons")
    # `refine` gets the newest experience, of the separate summary, in its own tag.
    experiences = f"{request.tag('experiences')}\n{request.tag('experience')}"
    found = reflect_on_round(
        **{name: request.tag(name) for name in tags}, experiences=experiences, instructions=request.system
    )
    prompt = found.prompt or "nothing"
    if request.task == "summarise":
        return ExperienceReply(experience=found.experience).model_dump_json(), found.thought
    if request.task == "refine":
        return PromptReply(prompt=prompt).model_dump_json(), found.thought
    if request.task == "mend":
        told = write_instruction(request.tag("user_prompt"), request.tag("fault"))
        reply = MendingReply(experience=found.experience, prompt=prompt, instruction=told)
        return reply.model_dump_json(), f"{found.thought} The editor is told: {told}"
    return ReflectionReply(experience=found.experience, prompt=prompt).model_dump_json(), found.thought
