"""The simulated chat model, as the questions of the real nodes reach it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.simulation.world import Errors, Painting, said
from gems.models.chat.schemas import Task, extract_tag

_REQUIREMENT = re.compile(r"requirement (\d+)")


@dataclass(slots=True)
class Mind:
    """Answers the loop's questions about one prompt.

    Attributes:
        painting: The prompt.
        errors: How it errs as a judge.
        calls: How often it was asked, by task.
        asked: How often it was asked about a requirement of an image.
    """

    painting: Painting
    errors: Errors
    calls: Counter[str] = field(default_factory=Counter)
    asked: Counter[tuple[str, int]] = field(default_factory=Counter)

    def reply(self, task: Task, text: str, images: Sequence[str]) -> str:
        """The answer to a question.

        Args:
            task: What is asked.
            text: The question's tagged text.
            images: What is shown: `prompt|seed` of each image.
        """
        self.calls[task] += 1
        match task:
            case "route":
                return '{"skills": [], "why": "It is plain."}'
            case "decompose":
                return json.dumps({"requirements": [{"question": q} for q in self.painting.questions]})
            case "complete":
                return '{"requirements": []}'
            case "verify":
                return "Yes." if self._judged(images[-1], _numbers(extract_tag("question", text))[0]) else "No."
            case "checklist":
                answers = [
                    {"number": number, "answer": "yes" if self._judged(images[-1], index) else "no"}
                    for number, index in enumerate(_numbers(extract_tag("questions", text)), 1)
                ]
                return json.dumps({"answers": answers})
            case "summarise":
                return '{"experience": "It lacks something."}'
            case "refine" | "reflect":
                failed = _numbers(extract_tag("failed", text))
                prompt = self.painting.refined(extract_tag("drawn_prompt", text) or "", failed)
                return json.dumps({"experience": "It lacks something.", "prompt": prompt})
        raise ValueError(f"Nothing is known about the task {task}.")

    def _judged(self, image: str, index: int) -> bool:
        prompt, _, seed = image.rpartition("|")
        call = self.asked[image, index]
        self.asked[image, index] += 1
        met = self.painting.truth(prompt, int(seed))[index]
        return said(met, self.errors, image, index, call)


def _numbers(text: str | None) -> list[int]:
    return [int(number) for number in _REQUIREMENT.findall(text or "")]
