"""Actions of the page."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any, cast

from gems.apps.run_view import RoundView, RunView
from gems.apps.server.auth import Caller, KeyFile, UnknownKeyError, max_images
from gems.apps.server.dependencies import Service
from gems.apps.web.auth import Links
from gems.apps.web.rendering import PageUrls, gallery_html, model_name, run_html
from gems.errors import AnswerNeededError, GemsError, OptionError, PromptError
from gems.events import Judged, Reflected, Stopped
from gems.memory.run_filter import RunFilter
from gems.options import MAX_ROUNDS, NO_OPTIONS, Option, RunArguments, options_of
from gems.types import Decision, DecisionRequest

_WHOLE = re.compile(r"-?[0-9]{1,19}")
SHOWN = 48
"""Maximum number of runs in the gallery."""


def has_slider(option: Option) -> bool:
    """Return whether a field is a slider; larger numbers are text, since browsers round them."""
    return option.type is int and option.maximum is not None and option.maximum <= MAX_ROUNDS


def parse_form(fields: Mapping[str, Any]) -> RunArguments:
    """Return run options from fields of the page, or raise OptionError; missing ones have their defaults."""
    values = {name: parse_field(option, fields.get(name, option.default)) for name, option in options_of("web").items()}
    return cast("RunArguments", values)


def parse_field(option: Option, value: Any) -> Any:
    """Return a value as sent by a browser: integers may be floats or text, and empty text means None."""
    if isinstance(value, str):
        value = value.strip()
        if option.type is int and _WHOLE.fullmatch(value):
            value = int(value)
    elif isinstance(value, float) and value.is_integer():
        value = int(value)
    if value in (None, "") and not has_slider(option):
        return None
    return option.check("" if value is None else value, option.label)


def _base_round(run: RunView, number: int | None) -> RoundView:
    """Return the round of a number, the best by default; raise OptionError until it has been judged."""
    base = run.rounds.get(number) if number else run.best
    if base is None or base.score is None:
        raise OptionError("This round cannot be continued.", hint="Wait until it has been judged.")
    return base


class Controller:
    """Executes actions for a signed-in user; `service`, called for each, opens after the page is made."""

    def __init__(self, service: Callable[[], Service], keys: KeyFile, links: Links) -> None:
        self._service, self._keys, self.links = service, keys, links

    @property
    def service(self) -> Service:
        """The open service."""
        return self._service()

    def caller(self, name: str | None) -> Caller:
        """Return the caller of a name; raise UnknownKeyError if a required key is missing or was revoked."""
        if not self.service.access.needs_key:
            return Caller()
        key = next((key for key in self._keys.all() if key.name == name), None)
        if key is None:
            raise UnknownKeyError("You are not signed in.", hint="Reload the page.")
        return Caller(key)

    async def begin(self, caller: Caller, prompt: str, form: Mapping[str, Any]) -> str:
        """Start a run and return its id."""
        arguments = parse_form(form)
        arguments["owner"] = caller.owner
        async with self.service.access.beginning(caller, max_images(arguments), options=arguments):
            return await self.service.manager.start(prompt, **arguments)

    async def go_on(self, caller: Caller, run_id: str, number: int | None, feedback: str, rounds: int) -> str:
        """Fork a run with feedback appended to the prompt of a round, the best by default; return its id."""
        if not feedback.strip():
            raise PromptError("The feedback is empty.", hint="Describe what should change.")
        run = await self.view(caller, run_id)
        if run.question is not None:
            return await self.decide(
                caller, run_id, number, {"action": "redraw", "instruction": feedback.strip()}, rounds
            )
        base = _base_round(run, number)
        prompt = f"{base.prompt.rstrip().rstrip('.')}. {feedback.strip()}"
        most = min(MAX_ROUNDS, base.number + max(1, rounds))
        options = run.result.options if run.result else NO_OPTIONS
        images = (most - base.number) * options.get("candidates", 1)
        async with self.service.access.beginning(caller, images, options=options):
            return await self.service.manager.fork(run_id, base.number, prompt, max_rounds=most)

    async def decide(self, caller: Caller, run_id: str, number: int | None, decision: Decision, rounds: int) -> str:
        """Carry out a decision about the image of a round, the best by default: in the run if it asks, else in a fork.

        The fork shares all rounds, so that each of their images can be changed, and asks after each of its own.
        """
        run = await self.view(caller, run_id)
        base = _base_round(run, number)
        if decision["action"] in ("edit", "accept"):
            decision["parent"] = base.image
        options = run.result.options if run.result else NO_OPTIONS
        candidates = options.get("candidates", 1)
        if run.question is not None:
            async with self.service.access.beginning(caller, candidates, options=options):
                return await self.service.manager.resume(run_id, decision)
        newest = max(known for known, view in run.rounds.items() if view.score is not None)
        most = min(MAX_ROUNDS, newest + max(1, rounds))
        async with self.service.access.beginning(caller, (most - newest) * candidates, options=options):
            return await self.service.manager.fork(run_id, newest, decision=decision, max_rounds=most, ask=True)

    async def cancel(self, caller: Caller, run_id: str) -> None:
        """Cancel a run, keeping its best image."""
        await self.service.access.row(caller, run_id)
        await self.service.manager.cancel(run_id)

    async def view(self, caller: Caller, run_id: str) -> RunView:
        """Return the view of a run; raise RunNotFoundError if the caller may not see it."""
        await self.service.access.row(caller, run_id)
        run = RunView.of(await self.service.gems.show(run_id))
        if not self.service.manager.is_working(run_id):
            asked = await self.service.gems.question(run_id)
            if isinstance(asked, dict) and "choices" in asked:
                run.ask(cast("DecisionRequest", asked))
        return run

    async def follow(self, caller: Caller, run_id: str) -> AsyncGenerator[RunView]:
        """Yield the view of a run now and after each event; raise the error of a run without an image."""
        is_working = self.service.manager.is_working(run_id)
        run = await self.view(caller, run_id)
        yield run
        if not self.service.manager.is_working(run_id):
            if is_working:
                # It ended meanwhile.
                run = await self.view(caller, run_id)
                yield run
            if run.status == "failed" and not run.rounds:
                # Raises the error of the run if this process knows it.
                await self.service.manager.result(run_id)
            return
        try:
            async with aclosing(self.service.manager.watch(run_id)) as events:
                async for event in events:
                    run.take(event)
                    if isinstance(event, Judged | Reflected | Stopped):
                        # Events do not contain the usage; checkpoints do.
                        run.usage = (await self.service.gems.show(run_id)).usage or run.usage
                    yield run
        except GemsError as error:
            run = await self.view(caller, run_id)
            yield run
            if not (isinstance(error, AnswerNeededError) and run.question):
                raise

    async def gallery(self, caller: Caller, text: str = "") -> str:
        """Render past runs whose prompts contain a text, newest first."""
        owner = caller.owner if caller.key is not None else None
        run_filter = RunFilter(owner=owner, text=text.strip() or None)
        gems = self.service.gems
        rows = await gems.runs(SHOWN, run_filter)
        covers = {row["run_id"]: (await gems.show(row["run_id"])).image_id or "" for row in rows}
        return gallery_html(rows, covers, self.urls(caller), text)

    def html(self, caller: Caller, run: RunView, chosen: int | None = None) -> str:
        """Render a run for a caller."""
        return run_html(run, self.urls(caller), chosen, can_edit=self.can_edit(run))

    def can_edit(self, run: RunView) -> bool:
        """Return whether the generator of a run edits images; false if it is not on offer any more."""
        found = self.service.gems.resources.find_generator(run.result.options if run.result else NO_OPTIONS)
        return found is not None and found.capabilities.editing

    def models(self) -> dict[str, list[tuple[str, str]]]:
        """Return labels and names of the generators and judges that a run may choose, the default with an empty one."""
        resources = self.service.gems.resources
        generators = {"": resources.generator, **resources.generators}
        judges = {"": resources.chats["judge"], **resources.judges}
        models = {
            "generator": {name: generator.capabilities.model for name, generator in generators.items()},
            "judge": {name: client.name for name, client in judges.items()},
        }
        return {
            kind: [(f"{name or 'Default'}: {model_name(model)}", name) for name, model in named.items()]
            for kind, named in models.items()
        }

    def urls(self, caller: Caller) -> PageUrls:
        """Return functions that create links for a caller."""
        return PageUrls(
            image=lambda image: self.links.to("image", image, caller.owner),
            report=lambda run_id: self.links.to("report", run_id, caller.owner),
        )
