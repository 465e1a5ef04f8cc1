"""A run in words, for people who chat."""

from __future__ import annotations

from gems.events import Event
from gems.results import RunResult
from gems.types import Verdict

_ALT = 120


class Teller:
    """Tells of one run."""

    def __init__(self) -> None:
        self._questions: dict[str, str] = {}

    def line(self, event: Event) -> str:
        """What an event is worth telling, or nothing."""
        match event.type:
            case "planned" if event.plan["skills"]:
                return f"Skills: {', '.join(event.plan['skills'])}."
            case "requirements":
                self._questions = {need["id"]: need["question"] for need in event.requirements}
                return f"{len(self._questions)} requirements will be checked."
            case "verdicts":
                return self._judged(event.round, event.verdicts[event.best])
            case "lessons" if event.recall["lessons"]:
                return f"Lessons of earlier runs: {len(event.recall['lessons'])}."
            case "warning":
                return f"Warning: {event.message}"
            case _:
                return ""

    def end(self, result: RunResult) -> str:
        """How the run ended."""
        met = sum(item.answer == "yes" for item in result.requirements)
        reason = f" ({result.stop_reason})" if result.stop_reason else ""
        return f"Round {result.best_round} is best: {met} of {len(result.requirements)} met{reason}."

    def _judged(self, number: int, verdict: Verdict) -> str:
        open_ones = [answer for answer in verdict["answers"] if answer["answer"] != "yes"]
        met = f"Round {number}: {len(verdict['answers']) - len(open_ones)} of {len(verdict['answers'])} met."
        asked = [self._questions.get(answer["requirement"], "") for answer in open_ones]
        lacking = " ".join(question for question in asked[:3] if question)
        return f"{met} Not yet: {lacking}" if lacking else met


def markdown(result: RunResult, image: str) -> str:
    """The image, in base64, as Markdown."""
    words = "".join(" " if letter in "[]()!\\`<>\r\n" else letter for letter in result.prompt)
    return f"![{' '.join(words.split())[:_ALT]}](data:image/png;base64,{image})"
