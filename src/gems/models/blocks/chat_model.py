"""The built-in chat model: planner, decomposer, judge and reflector as rules."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import PrivateAttr

from gems.errors import InvalidImageError
from gems.models.blocks.detection import Detector
from gems.models.blocks.judge import LIMITS, Judgement, judge_question
from gems.models.blocks.lessons import distil_lesson
from gems.models.blocks.messages import ParsedRequest, count_tokens, parse_request
from gems.models.blocks.preparing import prepare_prompt
from gems.models.blocks.prompt_spec import decompose_prompt, parse_numbered, parse_prompt
from gems.models.blocks.reflector import Reflection, RoundReport, reflect_on_round
from gems.models.blocks.rewriter import draft_skill, enhance_prompt, restore_prompt
from gems.models.blocks.routing import choose_skills
from gems.models.blocks.scene import Scene, describe_scene
from gems.models.schemas import (
    AnswerReply,
    ChecklistReply,
    ExperienceReply,
    PromptReply,
    ReflectionReply,
    RequirementsReply,
    Task,
)

_Answer = tuple[str, str]
"""Reply and reasoning."""


class BlocksChat(BaseChatModel):
    """Rule-based chat model for the tasks of `gems.models.schemas` and images of the built-in world."""

    _detector: Detector = PrivateAttr(default_factory=Detector)

    @property
    def _llm_type(self) -> str:
        return "gems-blocks"

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
            "verify": self._verify,
            "checklist": self._checklist,
            "summarise": _summarise,
            "refine": _refine,
            "reflect": _reflect,
            "distil": _distil,
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
            f"Nothing here names a task that I play; {LIMITS.partition(';')[0]}.",
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
        answers = []
        for number, question in enumerate(parse_numbered(request.tag("questions") or request.text), start=1):
            judgement = _judge(question, scene)
            answers.append(AnswerReply(number=number, answer=judgement.answer, evidence=judgement.evidence))
        return ChecklistReply(answers=answers).model_dump_json(), _describe_sight(scene)


def _judge(question: str, scene: Scene | None) -> Judgement:
    if scene is None:
        return Judgement("unknown", "There is no picture that I could open.")
    return judge_question(question, scene)


def _describe_sight(scene: Scene | None) -> str:
    return (
        f"I look at the picture and see {describe_scene(scene)}."
        if scene
        else "I was given no picture that I can open."
    )


def _route(request: ParsedRequest) -> _Answer:
    choice = choose_skills(request.tag("user_prompt"), request.tag("skills"))
    return choice.model_dump_json(), choice.why


def _enhance(request: ParsedRequest) -> _Answer:
    user = request.tag("user_prompt").strip()
    prompt = enhance_prompt(user, request.tag("skill"))
    lines = len(prompt.splitlines()) - len(user.splitlines())
    thought = (
        f"The guidance is about {lines} facts of the prompt; I state them once more behind it."
        if lines
        else "The guidance is about nothing in the prompt that I could state, so it stays as it is."
    )
    return PromptReply(prompt=prompt or "nothing").model_dump_json(), thought


def _keep(request: ParsedRequest) -> _Answer:
    reply = restore_prompt(
        request.tag("user_prompt"), request.tag("new_prompt"), parse_numbered(request.tag("questions"))
    )
    thought = f"{len(reply.lost)} of the questions are lost in the new prompt."
    return reply.model_dump_json(), thought


def _consult(_: ParsedRequest) -> _Answer:
    return "{}", f"I know no facts beyond my shapes; {LIMITS.partition(';')[0]}. I add nothing."


def _author(request: ParsedRequest) -> _Answer:
    draft = draft_skill(request.tag("skill"), request.tag("lessons"))
    return (
        draft.model_dump_json(),
        "I count which wordings worked and which did not, and state each as a rule.",
    )


def _prepare(request: ParsedRequest) -> _Answer:
    user = request.tag("user_prompt").strip()
    prompt = prepare_prompt(user, request.tag("lessons"))
    lines = len(prompt.splitlines()) - len(user.splitlines())
    thought = f"The lessons know a wording for {lines} facts of the prompt."
    return PromptReply(prompt=prompt or "nothing").model_dump_json(), thought


def _distil(request: ParsedRequest) -> _Answer:
    lesson = distil_lesson(request.tag("experiences"))
    return ExperienceReply(
        experience=lesson
    ).model_dump_json(), "I count which wordings worked and which did not."


def _decompose(request: ParsedRequest) -> _Answer:
    prompt = request.tag("user_prompt")
    requirements = decompose_prompt(prompt)
    spec = parse_prompt(prompt)
    thought = (
        f"The prompt names {len(spec.groups)} kinds of things and {len(spec.relations)} relations; "
        f"that makes {len(requirements)} questions."
    )
    return RequirementsReply(requirements=requirements).model_dump_json(), thought


def _reflection(request: ParsedRequest) -> Reflection:
    # `refine` gets the newest experience, of the separate summary, in its own tag.
    experiences = f"{request.tag('experiences')}\n{request.tag('experience')}"
    return reflect_on_round(
        RoundReport(
            user_prompt=request.tag("user_prompt"),
            drawn_prompt=request.tag("drawn_prompt"),
            passed=request.tag("passed"),
            failed=request.tag("failed"),
            experiences=experiences,
            lessons=request.tag("lessons"),
        )
    )


def _summarise(request: ParsedRequest) -> _Answer:
    reflection = _reflection(request)
    return ExperienceReply(experience=reflection.experience).model_dump_json(), reflection.thought


def _refine(request: ParsedRequest) -> _Answer:
    reflection = _reflection(request)
    return PromptReply(prompt=reflection.prompt or "nothing").model_dump_json(), reflection.thought


def _reflect(request: ParsedRequest) -> _Answer:
    reflection = _reflection(request)
    reply = ReflectionReply(experience=reflection.experience, prompt=reflection.prompt or "nothing")
    return reply.model_dump_json(), reflection.thought
