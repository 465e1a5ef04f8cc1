"""Runs as HTML: pure functions of what is known, with everything that people and models wrote as data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files

from jinja2 import Environment
from markupsafe import Markup, escape

from gems.apps.run_view import Story, Turn
from gems.errors import GemsError
from gems.memory.ledger import RunRow
from gems.models.usage import NOTHING, added
from gems.reporting.templates import Piece, diff_prompts
from gems.reporting.templating import environment, percent
from gems.types import Answer, Usage

_SIGNS = {"yes": "✓", "no": "✗", "unknown": "?"}
_WORDS = {"yes": "met", "no": "not met", "unknown": "unknown"}
# Gradio expands templates in the browser: signs that mean something to one never reach it as such.
_NEUTRAL = str.maketrans({"{": "&#123;", "}": "&#125;", "$": "&#36;", "`": "&#96;"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Addresses that a page refers to.

    Attributes:
        image: Of the image with an id.
        report: Of the report of the run with an id.
    """

    image: Callable[[str], str]
    report: Callable[[str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One requirement as a round's checklist shows it."""

    question: str
    state: str
    sign: str
    word: str
    evidence: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One round as the page shows it."""

    turn: Turn
    checks: list[Check]
    since: str
    """What the prompt is compared with."""
    pieces: list[Piece]
    next_pieces: list[Piece]


def run_html(story: Story, places: Places, chosen: int | None = None) -> str:
    """A run as far as it is known.

    Args:
        story: The run.
        places: Where its images are.
        chosen: The round whose image somebody picked as the result; the best one where there is none.
    """
    turns = [story.turns[number] for number in sorted(story.turns)]
    shown = story.turns.get(chosen) if chosen else None
    return _rendered(
        "run.html.jinja",
        story=story,
        cards=_cards(story, turns),
        shown=shown or story.best or (turns[-1] if turns else None),
        picked=shown is not None,
        total=total(story.usage),
        places=places,
    )


def status_text(story: Story) -> str:
    """What goes on, in one sentence that is read aloud; escaped."""
    best = story.best
    met = f" Best so far: {percent(best.score or 0.0)} in round {best.number}." if best else ""
    said = met if story.is_working else met.replace("so far", "image")
    return str(escape(f"{story.doing}.{said}")).translate(_NEUTRAL)


def gallery_html(rows: Sequence[RunRow], covers: dict[str, str], places: Places, text: str = "") -> str:
    """Past runs as a gallery.

    Args:
        rows: The runs, in order.
        covers: Image ids by run id, where there is one.
        places: Where images are.
        text: What was searched for.
    """
    begun = {row["run_id"]: datetime.fromisoformat(row["created"]) for row in rows}
    return _rendered(
        "gallery.html.jinja", rows=rows, covers=covers, places=places, text=text.strip(), begun=begun
    )


def problem_html(error: GemsError) -> str:
    """What went wrong, and what to do about it."""
    return _rendered("problem.html.jinja", error=error)


def heading_html(name: str) -> str:
    """The top of the page.

    Args:
        name: Whoever signed in; empty for nobody.
    """
    return _rendered("heading.html.jinja", name=name)


def sign_in_html(run: str, name: str = "", *, is_refused: bool = False) -> str:
    """The page to sign in.

    Args:
        run: The run that is shown afterwards.
        name: What was given before.
        is_refused: Whether that, with its key, was wrong.
    """
    template = _environment().get_template("sign_in.html.jinja")
    return template.render(run=run, name=name, is_refused=is_refused, style=Markup(style()))  # noqa: S704


def total(usage: dict[str, Usage]) -> Usage:
    """What all roles consumed together."""
    summed = NOTHING
    for used in usage.values():
        summed = added(summed, used)
    return summed


@cache
def style() -> str:
    """The page's CSS."""
    return (files("gems.apps.web") / "web.css").read_text(encoding="utf-8")


def _cards(story: Story, turns: Sequence[Turn]) -> list[Card]:
    cards = []
    before, since = story.prompt, "your prompt"
    for turn in turns:
        cards.append(
            Card(
                turn=turn,
                checks=[
                    _check(question, turn.answers[name])
                    for name, question in story.questions.items()
                    if name in turn.answers
                ],
                since=since,
                pieces=diff_prompts(before, turn.prompt) if turn.prompt else [],
                next_pieces=diff_prompts(turn.prompt, turn.next_prompt) if turn.next_prompt else [],
            )
        )
        before, since = turn.prompt or before, f"round {turn.number}"
    return cards


def _check(question: str, answer: Answer) -> Check:
    state = answer["answer"]
    return Check(
        question=question,
        state=state,
        sign=_SIGNS[state],
        word=_WORDS[state],
        evidence=answer["evidence"],
        source=answer["source"],
    )


def _rendered(template: str, /, **values: object) -> str:
    return _environment().get_template(template).render(**values).translate(_NEUTRAL)


@cache
def _environment() -> Environment:
    return environment("gems.apps.web")
