"""The built-in chat model: planner, decomposer, judge and reflector by rules."""

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
from gems.models.blocks.asking import numbered
from gems.models.blocks.detection import Eye
from gems.models.blocks.enhancing import enhanced
from gems.models.blocks.judge import LIMITS, Judgement, judged
from gems.models.blocks.keeping import compared
from gems.models.blocks.lessons import distilled
from gems.models.blocks.messages import Asked, asked, tokens
from gems.models.blocks.preparing import prepared
from gems.models.blocks.prompt_spec import understand
from gems.models.blocks.questions import decomposed
from gems.models.blocks.reflector import Reflection, RoundReport, reflected
from gems.models.blocks.rewriter import drafted
from gems.models.blocks.routing import chosen
from gems.models.blocks.scene import Scene, describe
from gems.models.schemas import (
    AnswerReply,
    ChecklistReply,
    ExperienceReply,
    PromptReply,
    ReflectionReply,
    RequirementsReply,
    Task,
)

Spoken = tuple[str, str]
"""What is answered, and the thought behind it."""


class BlocksChat(BaseChatModel):
    """Plays the tasks of `gems.models.schemas` for pictures of the built-in world; no network, no weights."""

    _eye: Eye = PrivateAttr(default_factory=Eye)

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
        request = asked(messages)
        content, thought = self._answer(request)
        used = tokens(content) + tokens(thought)
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

    def _answer(self, request: Asked) -> Spoken:
        plays: dict[Task, Callable[[Asked], Spoken]] = {
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

    def _free(self, request: Asked, played: str) -> Spoken:
        scene = None if request.named else self._look(request)
        if scene is not None:
            return f"I see {describe(scene)}.", "A free question about a picture: I tell what is in it."
        return (
            f"I am the chat model of the built-in world and play only these tasks: {played}. With a picture "
            "and no task I say what I see.",
            f"Nothing here names a task that I play; {LIMITS.partition(';')[0]}.",
        )

    def _look(self, request: Asked) -> Scene | None:
        """What the newest picture shows; None where there is none that can be opened."""
        if not request.images:
            return None
        try:
            return self._eye.see(request.images[-1])
        except InvalidImageError:
            # The judge answers `unknown` then: a broken picture is no failed requirement.
            return None

    def _verify(self, request: Asked) -> Spoken:
        scene = self._look(request)
        judgement = _judged(request.tag("question") or request.text, scene)
        return f"{judgement.answer.capitalize()}. {judgement.evidence}", _sight(scene)

    def _checklist(self, request: Asked) -> Spoken:
        scene = self._look(request)
        answers = []
        for number, question in enumerate(numbered(request.tag("questions") or request.text), start=1):
            judgement = _judged(question, scene)
            answers.append(AnswerReply(number=number, answer=judgement.answer, evidence=judgement.evidence))
        return ChecklistReply(answers=answers).model_dump_json(), _sight(scene)


def _judged(question: str, scene: Scene | None) -> Judgement:
    if scene is None:
        return Judgement("unknown", "There is no picture that I could open.")
    return judged(question, scene)


def _sight(scene: Scene | None) -> str:
    return (
        f"I look at the picture and see {describe(scene)}."
        if scene
        else "I was given no picture that I can open."
    )


def _route(request: Asked) -> Spoken:
    choice = chosen(request.tag("user_prompt"), request.tag("skills"))
    return choice.model_dump_json(), choice.why


def _enhance(request: Asked) -> Spoken:
    user = request.tag("user_prompt").strip()
    prompt = enhanced(user, request.tag("skill"))
    lines = len(prompt.splitlines()) - len(user.splitlines())
    thought = (
        f"The guidance is about {lines} facts of the prompt; I state them once more behind it."
        if lines
        else "The guidance is about nothing in the prompt that I could state, so it stays as it is."
    )
    return PromptReply(prompt=prompt or "nothing").model_dump_json(), thought


def _keep(request: Asked) -> Spoken:
    reply = compared(
        request.tag("user_prompt"), request.tag("new_prompt"), numbered(request.tag("questions"))
    )
    thought = f"{len(reply.lost)} of the questions are lost in the new prompt."
    return reply.model_dump_json(), thought


def _consult(_: Asked) -> Spoken:
    return "{}", f"I know no facts beyond my shapes; {LIMITS.partition(';')[0]}. I add nothing."


def _author(request: Asked) -> Spoken:
    draft = drafted(request.tag("skill"), request.tag("lessons"))
    return (
        draft.model_dump_json(),
        "I count which wordings worked and which did not, and state each as a rule.",
    )


def _prepare(request: Asked) -> Spoken:
    user = request.tag("user_prompt").strip()
    prompt = prepared(user, request.tag("lessons"))
    lines = len(prompt.splitlines()) - len(user.splitlines())
    thought = f"The lessons know a wording for {lines} facts of the prompt."
    return PromptReply(prompt=prompt or "nothing").model_dump_json(), thought


def _distil(request: Asked) -> Spoken:
    lesson = distilled(request.tag("experiences"))
    return ExperienceReply(
        experience=lesson
    ).model_dump_json(), "I count which wordings worked and which did not."


def _decompose(request: Asked) -> Spoken:
    prompt = request.tag("user_prompt")
    requirements = decomposed(prompt)
    brief = understand(prompt)
    thought = (
        f"The prompt names {len(brief.groups)} kinds of things and {len(brief.relations)} relations; "
        f"that makes {len(requirements)} questions."
    )
    return RequirementsReply(requirements=requirements).model_dump_json(), thought


def _reflection(request: Asked) -> Reflection:
    # The experience of a separate summary is the newest one: `refine` learns from it like from the others.
    told = f"{request.tag('experiences')}\n{request.tag('experience')}"
    return reflected(
        RoundReport(
            user_prompt=request.tag("user_prompt"),
            drawn_prompt=request.tag("drawn_prompt"),
            passed=request.tag("passed"),
            failed=request.tag("failed"),
            experiences=told,
            lessons=request.tag("lessons"),
        )
    )


def _summarise(request: Asked) -> Spoken:
    reflection = _reflection(request)
    return ExperienceReply(experience=reflection.experience).model_dump_json(), reflection.thought


def _refine(request: Asked) -> Spoken:
    reflection = _reflection(request)
    return PromptReply(prompt=reflection.prompt or "nothing").model_dump_json(), reflection.thought


def _reflect(request: Asked) -> Spoken:
    reflection = _reflection(request)
    reply = ReflectionReply(experience=reflection.experience, prompt=reflection.prompt or "nothing")
    return reply.model_dump_json(), reflection.thought
