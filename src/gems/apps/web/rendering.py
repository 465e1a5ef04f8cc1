"""Render runs as HTML. All text of users and models is escaped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files

from jinja2 import Environment
from markupsafe import Markup, escape

from gems.apps.run_view import RoundView, RunView
from gems.errors import GemsError
from gems.reporting.templates import Piece, diff_prompts, environment, percent
from gems.types import Answer, RunRow, total_usage

_MARKS = {"yes": ("✓", "met"), "no": ("✗", "not met"), "unknown": ("?", "unknown")}
"""Sign and word of each answer."""
_ACTIONS = {
    None: "Image",
    "draw": "Image",
    "redraw": "New image",
    "edit": "Edit",
    "inpaint": "Inpaint",
    "given": "Given image",
}
"""Name of what each action makes."""
# Gradio expands templates in the browser, so their special characters are escaped.
_NEUTRAL = str.maketrans({"{": "&#123;", "}": "&#125;", "$": "&#36;", "`": "&#96;"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PageUrls:
    """Functions that return the URL of an image id and of the report of a run id."""

    image: Callable[[str], str]
    report: Callable[[str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A round on the page."""

    round: RoundView
    checks: list[tuple[str, Answer]]
    """Requirements with their answers."""
    since: str
    """Name of the prompt that this one is compared with."""
    pieces: list[Piece]
    next_pieces: list[Piece]
    model: str
    """Name of the generator."""
    parent: int | None
    """The round whose image was changed."""
    lane: int
    """Row of the film strip, from 0: new images are in the first, changes of older images below these."""
    follows: int | None
    """Column, from 1, of the card that a line leads from; None for the first."""
    branches: bool
    """Whether that line leads to the next lane."""


def run_html(run: RunView, urls: PageUrls, chosen: int | None = None, *, can_edit: bool = False) -> str:
    """Render a run; `chosen` is the round that the user looks at instead of the newest or, at the end, the best.

    `can_edit` tells whether the generator edits images.
    """
    rounds = [run.rounds[number] for number in sorted(run.rounds)]
    picked = run.rounds.get(chosen) if chosen else None
    newest = next((view for view in reversed(rounds) if view.image), rounds[-1] if rounds else None)
    models = run.result.models if run.result else {}
    return _render(
        "run.html.jinja",
        run=run,
        marks=_MARKS,
        actions=_ACTIONS,
        cards=_cards(run, rounds),
        shown=picked or (newest if run.is_working or run.question else run.best or newest),
        can_change=can_edit and not run.is_working,
        picked=picked is not None,
        models=[(role.capitalize(), model_name(name)) for role, name in models.items()],
        total=total_usage(run.usage),
        urls=urls,
    )


def model_name(name: str) -> str:
    """Return the name of a model for people."""
    return "built-in world" if name.partition(":")[0] == "blocks" else name


def status_text(run: RunView) -> str:
    """Format the status for screen readers; escaped."""
    doing = "Waiting for you" if run.question else run.doing[:1].upper() + run.doing[1:]
    if run.step is not None and run.doing.startswith("drawing"):
        done, of_all = run.step
        doing += f": step {done} of {of_all}"
    best = run.best
    met = f" Best so far: {percent(best.score or 0.0)} in round {best.number}." if best else ""
    if not run.is_working:
        met = met.replace("so far", "image")
    return str(escape(f"{doing}.{met}")).translate(_NEUTRAL)


def gallery_html(rows: Sequence[RunRow], covers: dict[str, str], urls: PageUrls, text: str = "") -> str:
    """Render past runs; `covers` maps run ids to image ids, and `text` is the search text."""
    begun = {row["run_id"]: datetime.fromisoformat(row["created"]) for row in rows}
    return _render("gallery.html.jinja", rows=rows, covers=covers, urls=urls, text=text.strip(), begun=begun)


def problem_html(error: GemsError) -> str:
    """Render an error with its hint."""
    return _render("problem.html.jinja", error=error)


def progress_html(run: RunView) -> str:
    """Render the inference steps of the image that is being drawn; empty if they are unknown."""
    return _render("progress.html.jinja", step=run.step) if run.step and run.is_working else ""


def heading_html(name: str, models: Mapping[str, str] | None = None) -> str:
    """Render the top of the page; `name` is the signed-in user, or empty, and `models` are those of the server."""
    roles = {"generator": "Generator", "judge": "Judge"}
    shown = [(label, model_name(models[role])) for role, label in roles.items()] if models else []
    return _render("heading.html.jinja", name=name, models=shown)


def sign_in_html(run: str, name: str = "", *, is_refused: bool = False) -> str:
    """Render the sign-in page; `run` is shown afterwards, `name` is the previous input."""
    template = _environment().get_template("sign_in.html.jinja")
    return template.render(run=run, name=name, is_refused=is_refused, style=Markup(style()))  # noqa: S704


@cache
def style() -> str:
    """Return the CSS of the page."""
    return (files("gems.apps.web") / "web.css").read_text(encoding="utf-8")


def _cards(run: RunView, rounds: Sequence[RoundView]) -> list[Card]:
    cards: list[Card] = []
    before, since = run.prompt, "your prompt"
    ends: dict[int, int] = {}
    """Column of the newest card of each lane."""
    for column, view in enumerate(rounds, start=1):
        asked = [(question, view.answers.get(name)) for name, question in run.questions.items()]
        parent = run.parent_of(view)
        follows, lane = ends.get(0), 0
        if parent is not None:
            follows = 1 + rounds.index(parent)
            lane = cards[follows - 1].lane
            # Only the newest image of a lane is continued in it.
            lane += ends[lane] != follows
        cards.append(
            Card(
                round=view,
                checks=[(question, answer) for question, answer in asked if answer is not None],
                since=since,
                pieces=diff_prompts(before, view.prompt) if view.prompt else [],
                next_pieces=diff_prompts(view.prompt, view.next_prompt) if view.next_prompt else [],
                model=model_name(view.model),
                parent=parent.number if parent else None,
                lane=lane,
                follows=follows,
                branches=follows is not None and cards[follows - 1].lane != lane,
            )
        )
        ends[lane] = column
        before, since = view.prompt or before, f"round {view.number}"
    return cards


def _render(template: str, /, **values: object) -> str:
    return _environment().get_template(template).render(**values).translate(_NEUTRAL)


@cache
def script() -> str:
    """Return the JavaScript of the page."""
    return (files("gems.apps.web") / "web.js").read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    return environment("gems.apps.web")
