"""The simulated chat model, as the questions of the real nodes reach it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.simulation.world import Editor, Errors, Painting, said
from gems.models.chat.schemas import Task, extract_tag

REQUIREMENT = re.compile(r"requirement (\d+)")


BOX = [400, 400, 500, 500]
"""Place of every fault: how good places are is the editor's matter."""


@dataclass(slots=True)
class Mind:
    """Answers the loop's questions about one prompt.

    Attributes:
        painting: The prompt.
        errors: How it errs as a judge.
        editor: How images are changed, if they are.
        calls: How often it was asked, by task.
        asked: How often it was asked about a requirement of an image.
    """

    painting: Painting
    errors: Errors
    editor: Editor | None = None
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
                return json.dumps({"requirements": [{"question": q} for q in self.painting.asked]})
            case "complete":
                missing = sorted(set(self.painting.questions) - set(self.painting.asked))
                return json.dumps({"requirements": [{"question": q} for q in missing]})
            case "verify":
                return "Yes." if self._judged(images[-1], _numbers(extract_tag("question", text))[0]) else "No."
            case "checklist":
                answers = [
                    {"number": number, "answer": "yes" if self._judged(images[-1], index) else "no", "box": BOX}
                    for number, index in enumerate(_numbers(extract_tag("questions", text)), 1)
                ]
                return json.dumps({"answers": answers})
            case "summarise":
                return '{"experience": "It lacks something."}'
            case "refine" | "reflect" | "mend":
                failed = _numbers(extract_tag("failed", text))
                prompt = self.painting.refined(extract_tag("drawn_prompt", text) or "", failed)
                written = {"experience": "It lacks something.", "prompt": prompt}
                fault = extract_tag("fault", text)
                return json.dumps(written | ({"instruction": f"Mend {fault}"} if fault else {}))
        raise ValueError(f"Nothing is known about the task {task}.")

    def _judged(self, image: str, index: int) -> bool:
        call = self.asked[image, index]
        self.asked[image, index] += 1
        met = self.painting.shown(image, self.editor)[index]
        return said(met, self.errors, image, index, call)


def _numbers(text: str | None) -> list[int]:
    return [int(number) for number in REQUIREMENT.findall(text or "")]
