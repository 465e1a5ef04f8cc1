"""How well the built-in world plays its part: `python benchmarks/blocks_world.py [--json] [--prompts N]`.

Over the shipped prompts it measures, by the scene that was really drawn and never by the judge alone:
how many prompts one image meets in full, how many a loop of at most five rounds meets (without and with
lessons of the runs before), and how often the judge, who sees a JPEG, agrees with the scene.
It takes half a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import HumanMessage, SystemMessage
from PIL import Image

from gems.models.blocks import BlocksChat, BlocksGenerator, BlocksPrompt, load_prompts, render, truth
from gems.models.tasks import ChecklistReply, ReflectionReply, RequirementsReply, Task, tagged
from gems.types import ImageRequest

ROUNDS = 5
SIDE = 512
JPEG_QUALITY = 90
LESSONS = 12


@dataclass
class Drawn:
    """One image of a loop and what the judge said about it."""

    prompt: str
    seed: int
    answers: list[str]


@dataclass
class Loop:
    """A finished loop: its questions, its images in order, and what it learnt."""

    questions: list[str]
    rounds: list[Drawn] = field(default_factory=list)
    experiences: list[str] = field(default_factory=list)

    @property
    def best(self) -> Drawn:
        """The image with the most yes; a tie keeps the earlier one."""
        return max(self.rounds, key=lambda drawn: drawn.answers.count("yes"))


async def ask(chat: BlocksChat, task: Task, image: bytes | None = None, **tags: str) -> str:
    """Send one task to the chat model."""
    parts: list[str | dict[str, Any]] = [
        {"type": "text", "text": "\n".join(tagged(tag, text) for tag, text in tags.items())}
    ]
    if image is not None:
        url = f"data:image/jpeg;base64,{base64.b64encode(image).decode()}"
        parts.append({"type": "image_url", "image_url": {"url": url}})
    reply = await chat.ainvoke([SystemMessage(f"Task: {task}"), HumanMessage(content=parts)])
    return str(reply.content)


async def run_loop(prompt: str, seed: int, lessons: Sequence[str]) -> Loop:
    """Decompose, then draw, judge and reflect until all answers are yes or the rounds are used up."""
    chat, generator = BlocksChat(), BlocksGenerator()
    plan = RequirementsReply.model_validate_json(await ask(chat, "decompose", user_prompt=prompt))
    loop, drawn_prompt = Loop([requirement.question for requirement in plan.requirements]), prompt
    listed = "\n".join(f"{number}. {question}" for number, question in enumerate(loop.questions, start=1))
    for number in range(ROUNDS):
        request = ImageRequest(prompt=drawn_prompt, seed=seed + number, width=SIDE, height=SIDE)
        image = await generator.generate(request)
        reply = ChecklistReply.model_validate_json(
            await ask(chat, "checklist", jpeg(image.data), questions=listed)
        )
        loop.rounds.append(Drawn(drawn_prompt, request.seed, [answer.answer for answer in reply.answers]))
        if set(loop.rounds[-1].answers) == {"yes"} or number == ROUNDS - 1:
            break
        drawn_prompt = await reflect(chat, loop, prompt, reply, lessons)
    return loop


async def reflect(
    chat: BlocksChat, loop: Loop, prompt: str, reply: ChecklistReply, lessons: Sequence[str]
) -> str:
    """Ask for the next prompt and keep the experience."""
    judged = list(zip(loop.questions, reply.answers, strict=True))
    passed = [question for question, answer in judged if answer.answer == "yes"]
    failed = [f"{question} - {answer.evidence}" for question, answer in judged if answer.answer == "no"]
    told = await ask(
        chat,
        "reflect",
        user_prompt=prompt,
        drawn_prompt=loop.rounds[-1].prompt,
        passed="\n".join(f"{n}. {line}" for n, line in enumerate(passed, start=1)),
        failed="\n".join(f"{n}. {line}" for n, line in enumerate(failed, start=1)),
        thought="",
        experiences="\n".join(f"Round {n}: {text}" for n, text in enumerate(loop.experiences, start=1)),
        lessons="\n".join(lessons[-LESSONS:]),
    )
    reflection = ReflectionReply.model_validate_json(told)
    loop.experiences.append(reflection.experience)
    return reflection.prompt


def jpeg(png: bytes) -> bytes:
    """As the judge is sent it."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(png)) as picture:
        picture.convert("RGB").save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def met(drawn: Drawn, questions: Sequence[str]) -> list[bool]:
    """Which requirements the scene that was really drawn meets."""
    scene = render(drawn.prompt, drawn.seed, SIDE, SIDE).scene
    return [truth(scene, question) == "yes" for question in questions]


@dataclass
class Tally:
    """Sums over all prompts of one kind of loop."""

    prompts: int = 0
    first: int = 0
    final: int = 0
    images: int = 0
    asked: int = 0
    agreed: int = 0
    by_difficulty: dict[str, list[int]] = field(default_factory=dict)

    def add(self, case: BlocksPrompt, loop: Loop) -> None:
        """Count one loop."""
        truths = [met(drawn, loop.questions) for drawn in loop.rounds]
        self.prompts += 1
        self.first += all(truths[0])
        final = all(truths[loop.rounds.index(loop.best)])
        self.final += final
        self.images += len(loop.rounds)
        for drawn, right in zip(loop.rounds, truths, strict=True):
            self.asked += len(right)
            self.agreed += sum(
                (answer == "yes") == yes for answer, yes in zip(drawn.answers, right, strict=True)
            )
        counts = self.by_difficulty.setdefault(case.difficulty, [0, 0, 0])
        for index, value in enumerate((1, all(truths[0]), final)):
            counts[index] += value

    def report(self) -> dict[str, Any]:
        """Shares in [0, 1]."""
        return {
            "prompts": self.prompts,
            "single_shot": self.first / self.prompts,
            "loop": self.final / self.prompts,
            "images_per_prompt": self.images / self.prompts,
            "judge_agreement": self.agreed / self.asked,
            "judge_questions": self.asked,
            "by_difficulty": {
                name: {"prompts": total, "single_shot": first / total, "loop": final / total}
                for name, (total, first, final) in self.by_difficulty.items()
            },
        }


async def measure(cases: Sequence[BlocksPrompt], *, seed_offset: int, remember: bool) -> dict[str, Any]:
    """Run all loops one after another; with `remember`, each is told the lessons of those before it."""
    tally, lessons = Tally(), list[str]()
    started = time.perf_counter()
    for case in cases:
        loop = await run_loop(case.prompt, case.seed + seed_offset, lessons if remember else [])
        lessons.extend(loop.experiences)
        tally.add(case, loop)
    return {**tally.report(), "seconds": round(time.perf_counter() - started, 1)}


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--prompts", type=int, default=None, help="only the first N prompts")
    parser.add_argument("--seed-offset", type=int, default=0, help="added to every seed")
    options = parser.parse_args()
    cases = load_prompts()[: options.prompts]
    results = {
        name: asyncio.run(measure(cases, seed_offset=options.seed_offset, remember=remember))
        for name, remember in (("loop alone", False), ("loop with lessons", True))
    }
    if options.json:
        print(json.dumps(results, indent=2))
        return
    print(f"{'':20}{'prompts':>8}{'one image':>11}{'loop':>8}{'images':>8}{'judge agrees':>14}{'seconds':>9}")
    for name, result in results.items():
        print(row(name, result) + f"{result['judge_agreement']:>13.1%}{result['seconds']:>10.1f}")
        for level, part in result["by_difficulty"].items():
            print(row(f"  {level}", part))


def row(name: str, result: dict[str, Any]) -> str:
    """The part of a line that all lines have."""
    images = f"{result['images_per_prompt']:.2f}" if "images_per_prompt" in result else ""
    return f"{name:20}{result['prompts']:>8}{result['single_shot']:>11.1%}{result['loop']:>8.1%}{images:>8}"


if __name__ == "__main__":
    main()
