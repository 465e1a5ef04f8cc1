"""Reflector: summarize the round as an experience and write the next prompt."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence

from gems.errors import RefusedError, RejectedRequestError, UnreadableReplyError
from gems.events import Reflected
from gems.memory.experience import shorten
from gems.memory.retrieval import format_lesson
from gems.models.chat.messages import Picture
from gems.models.chat.schemas import ExperienceReply, MendingReply, PromptReply, ReflectionReply
from gems.nodes.base import Update
from gems.nodes.context import NodeContext
from gems.nodes.lessons import recall_lessons, recalls_update, record_outcome
from gems.nodes.prompts import ORIGINAL, ask_for_own_words, numbered, question
from gems.nodes.rewrite import QUESTIONS_PREFIX, holds_words, keeps_words, put_words_first, restore_lost
from gems.state import State
from gems.types import REDRAW, Experience, Recalled, Requirement, Round, answers_of, best_round, find_image

_HISTORY = 6
_ATTEMPTS = 2
_UNUSABLE_REPLY = (UnreadableReplyError, RefusedError, RejectedRequestError)
_EARLIER_QUESTIONS = re.compile(rf"\n{re.escape(QUESTIONS_PREFIX)}[^\n]*")


async def reflect(state: State, work: NodeContext) -> Update:
    """Summarize the newest round and write the next prompt."""
    rounds, requirements = state["rounds"], state["requirements"]
    await record_outcome(state, work)
    found: list[Recalled] = []
    step = state.get("step") or REDRAW
    instruction = step.get("instruction", "")
    if instruction:
        # Nobody has to think about what a person has said.
        text = f"A person wants: {instruction}"
        prompt = "" if step["parent"] else f"{_last_prompt(state).rstrip().rstrip('.')}. {instruction}"
    elif failed_questions(rounds[-1], requirements) or step["parent"]:
        found = await recall_lessons(state, work, rounds[-1]["number"] + 1)
        text, prompt, instruction = await _write_reflection(state, work, numbered(map(format_lesson, found)))
        wanted = state["options"].get("instruction")
        if instruction and wanted and step["parent"] == state["options"].get("source"):
            # What was wanted first did not succeed.
            instruction = f"{wanted} {instruction}"
    else:
        # No requirement is known to fail: generate another image with the same prompt.
        text, prompt = "The judge could not decide everything, so the same prompt is drawn again.", ""
    experience: Experience = {
        "round": rounds[-1]["number"],
        "text": shorten(text),
        "next_prompt": prompt or _last_prompt(state),
    }
    work.emit(Reflected(experience=experience))
    return {
        "experiences": [experience],
        "current_prompt": experience["next_prompt"],
        "instruction": instruction,
        "judge_reasoning": "",
    } | recalls_update(rounds[-1]["number"] + 1, found)


def _last_prompt(state: State) -> str:
    """Return the newest prompt; of somebody's own image there is only the one that the planner wrote."""
    turn = state["rounds"][-1]
    return state["current_prompt"] if turn.get("action") == "given" else turn["prompt"]


async def _write_reflection(state: State, work: NodeContext, learnt: str) -> tuple[str, str, str]:
    """Return the experience, the next prompt, and the instruction for an editor if the next step changes an image."""
    turn, requirements = state["rounds"][-1], state["requirements"]
    slots = round_slots(state) | {"lessons": learnt}
    pictures = await _pictures_to_show(state, work)
    # Keeps the experience even if a later call fails.
    texts: list[str] = []
    fault = _describe_fault(state)
    instruction = fault and f"Change the picture so that the answer is yes: {fault} Everything else stays as it is."
    # Words that somebody took out of the prompt, as forks can, are not put back.
    user = state["prompt"]
    own = keeps_words(user, work) and holds_words(turn["prompt"], user)

    async def write(attempt: int) -> str:
        nonlocal instruction
        asked = question(
            "mend" if fault else "reflect",
            slots | ({"fault": fault} if fault else {}),
            pictures=pictures,
            attempt=attempt,
            editing=work.is_editing,
            prompt_tokens=work.prompt_tokens,
        )
        reply = (await work.ask(ask_for_own_words(asked) if own else asked)).form(
            MendingReply if fault else ReflectionReply
        )
        texts.append(reply.experience)
        if isinstance(reply, MendingReply):
            instruction = reply.instruction.strip() or instruction
        return put_words_first(reply.prompt, user) if own and reply.prompt.strip() else reply.prompt

    try:
        if work.profile == "paper":
            # Summarize, then refine with every earlier image.
            summary = await work.ask(question("summarise", slots, pictures=pictures[-1:]))
            texts.append(summary.form(ExperienceReply).experience)
            prompt = await refine_prompt(slots | {"experience": texts[0]}, turn["prompt"], work, pictures)
        else:
            prompt = await _new_prompt(write, turn["prompt"])
            if prompt and not keeps_words(user, work):
                prompt = (await restore_lost(prompt, user, requirements, work)).prompt
    except _UNUSABLE_REPLY as error:
        work.warn(f"The reflector's reply was unusable; the failed requirements are appended to the prompt: {error}")
        texts.append(f"Not met: {slots['failed'] or 'nothing'}. Met: {slots['passed'] or 'nothing'}.")
        prompt = ""
    return texts[0], prompt or append_questions(turn, requirements), instruction


def _describe_fault(state: State) -> str:
    """Return the questions that the next change of an image is for, with evidence and place; empty for a new image."""
    step = state.get("step")
    if not step or not step["parent"]:
        return ""
    questions = {item["id"]: item["question"] for item in state["requirements"]}
    turn, index = find_image(state["rounds"], step["parent"]) or (state["rounds"][-1], 0)
    answers = {answer["requirement"]: answer for answer in turn["verdicts"][index]["answers"]}
    faults = []
    for name in step["requirements"]:
        evidence, box = answers[name]["evidence"], answers[name].get("box")
        place = f" (at {box})" if box and step["boxes"] else ""
        faults.append(f"{questions[name]}{' - ' if evidence else ''}{evidence}{place}")
    return "\n".join(faults)


async def refine_prompt(slots: dict[str, str], last: str, work: NodeContext, pictures: Sequence[Picture] = ()) -> str:
    """Return a prompt other than the last one, by the task `refine`; empty if the model writes none."""

    async def write(attempt: int) -> str:
        reply = await work.ask(
            question("refine", slots, pictures=pictures, attempt=attempt, prompt_tokens=work.prompt_tokens)
        )
        return reply.form(PromptReply).prompt

    return await _new_prompt(write, last)


async def _new_prompt(ask: Callable[[int], Awaitable[str]], last: str) -> str:
    """Return a prompt other than the last one; empty if the model writes none in two attempts."""
    for attempt in range(_ATTEMPTS):
        prompt = (await ask(attempt)).strip()
        if prompt and prompt != last.strip():
            return prompt
    return ""


async def _pictures_to_show(state: State, work: NodeContext) -> list[Picture]:
    """Return an edited original, then all images for the paper, else the newest after a better one."""
    rounds = state["rounds"]
    newest, best = rounds[-1], best_round(rounds)
    shown = [(turn, turn["candidates"][turn["best"]]["image"]) for turn in rounds]
    if work.profile != "paper":
        parent = (state.get("step") or REDRAW)["parent"]
        if changed := find_image(rounds, parent):
            # Only what is built upon is changed.
            shown = [(changed[0], parent)]
        else:
            shown = [shown[rounds.index(best)], shown[-1]] if best["score"] > newest["score"] else shown[-1:]
    pictures = [await work.picture(work.source, "reflector", ORIGINAL)] if work.is_editing else []
    for turn, image in shown:
        label = f"Image of round {turn['number']}, which meets {turn['score']:.0%} of the requirements:"
        pictures.append(await work.picture(image, "reflector", label))
    return pictures


def round_slots(state: State) -> dict[str, str]:
    """Return the texts that describe the newest round to the reflector, by tag."""
    rounds, requirements = state["rounds"], state["requirements"]
    turn, best = rounds[-1], best_round(rounds)
    experiences = [f"Round {e['round']}: {e['text']}" for e in state.get("experiences") or []]
    if (number := best["number"]) != turn["number"]:
        experiences.append(f"Best so far: round {number} ({best['score']:.0%}) from: {best['prompt']}")
    return {
        "user_prompt": state["prompt"],
        "drawn_prompt": _last_prompt(state),
        "passed": numbered(_questions_with(turn, requirements, "yes")),
        "failed": numbered(failed_questions(turn, requirements)),
        "thought": state.get("judge_reasoning") or "",
        "experiences": "\n".join(experiences[-_HISTORY:]),
        "lessons": "",
    }


def failed_questions(turn: Round, requirements: Sequence[Requirement]) -> list[str]:
    """Return the failed requirements of the round's best image with evidence; unknown ones are left out."""
    return _questions_with(turn, requirements, "no", with_evidence=True)


def _questions_with(
    turn: Round, requirements: Sequence[Requirement], wanted: str, *, with_evidence: bool = False
) -> list[str]:
    answers = answers_of(turn)
    found = [(item["question"], answers[item["id"]]) for item in requirements]
    return [
        f"{question} - {answer['evidence']}" if with_evidence and answer["evidence"] else question
        for question, answer in found
        if answer["answer"] == wanted
    ]


def append_questions(turn: Round, requirements: Sequence[Requirement]) -> str:
    """Return the round's prompt with the failed requirements instead of those of earlier rounds appended."""
    # On one line, so that it can be removed later; a question about the whole prompt may span several.
    failed = " ".join(" ".join(_questions_with(turn, requirements, "no")).split())
    return f"{_EARLIER_QUESTIONS.sub('', turn['prompt'])}\n{QUESTIONS_PREFIX} {failed}"
