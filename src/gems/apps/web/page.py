"""Gradio page."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.routing import Mount

from gems.apps.web.controller import Controller, parse_field
from gems.apps.web.form import DecisionForm, Form, fitting_size, size_presets
from gems.apps.web.rendering import heading_html, problem_html, progress_html, script, status_text, style
from gems.errors import GemsError, NotOfferedError
from gems.generation import COMMON_SEEDS
from gems.nodes.person import read_decision
from gems.options import OPTIONS, options_of

# Puts the run into the URL, so that a reload or another tab shows it again.
_SET_URL = """(run) => {
  if (run) { const here = new URL(location.href); here.hash = "";
             here.search = "?run=" + encodeURIComponent(run); history.replaceState(null, "", here); }
  return run;
}"""
_READ_URL = """() => { const asked = new URL(location.href).searchParams;
  return [asked.get("run") || "", asked.get("round") || ""]; }"""
_CHOSEN = """(run, round, ...rest) =>
  [run, document.querySelector("[data-show][aria-current]")?.dataset.show || round, ...rest]"""
_DECIDED = """(run, round, words, rounds) =>
  [run, document.querySelector("[data-show][aria-current]")?.dataset.show || round, words, rounds, "%s", gemsMask()]"""
# Set once on a permanent element, since screen readers announce only changes within known elements.
_ANNOUNCE = "element.setAttribute('role', 'status'); element.setAttribute('aria-live', 'polite');"
_HIDDEN: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
# Not queued: Gradio closes the stream of an empty queue and may lose responses just then.
_UNQUEUED = _HIDDEN | {"queue": False}
# Many clients watch at the same time.
_UNLIMITED = _HIDDEN | {"concurrency_limit": None}


# An extra with types in some versions only. Gradio injects the request by its annotation.
gr: Any = import_module("gradio")
if TYPE_CHECKING:
    Request = Any
else:
    Request = gr.Request


def add_page(app: FastAPI, controller: Controller, path: str, name_of: Callable[[Any], str]) -> Mount:
    """Mount the page at a path; `name_of` returns the user of a request, empty for nobody."""
    blocks = _Page(controller).blocks
    gr.mount_gradio_app(
        app,
        blocks,
        path=path,
        auth_dependency=name_of,
        # Not as `css`: Gradio rewrites its rules, and breaks those with commas within :is().
        head=f"<style>{style()}</style><script>{script()}</script>",
        theme=create_theme(gr),
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        enable_monitoring=False,
        show_error=False,
        max_file_size=1,
    )
    # Saves one of the six connections that a browser opens to a server.
    blocks.config["connect_heartbeat"] = False
    return next(route for route in app.routes if isinstance(route, Mount) and route.path == path)


def _html(value: str = "", **more: Any) -> Any:
    """Create an HTML block without Gradio's style and scripts."""
    return gr.HTML(value, **{"js_on_load": None, "apply_default_css": False} | more)


class _Page:
    """Blocks of the page and their event handlers."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._newest: dict[str, object] = {}
        """Newest watch of each session; older ones stop."""
        with gr.Blocks(title="GEMS", analytics_enabled=False) as self.blocks:
            self._heading = _html(heading_html(""), elem_id="heading")
            # Fields instead of states, which JavaScript could not read.
            names = ("Run", "Round", "Action", "Mask")
            self._run, self._round, self._action, self._mask = (
                gr.Textbox("", visible="hidden", label=name) for name in names
            )
            self._form = Form(gr)
            with gr.Row(elem_id="doing"):
                self._status = _html(js_on_load=_ANNOUNCE, elem_id="status")
                self._progress = _html(elem_id="progress")
            # Errors of buttons and errors of runs are separate, so that neither clears the other.
            self._button_error, self._run_error = _html(), _html()
            self._shown = _html()
            self._decision = DecisionForm(gr)
            self._past()
            self._connect_events()

    def _past(self) -> None:
        with gr.Row(elem_id="past", equal_height=True):
            _html('<div class="gems"><h2>Past runs</h2></div>')
            self._search = gr.Textbox(
                label="Search past runs",
                placeholder="Search past runs",
                show_label=False,
                elem_id="search",
                max_lines=1,
            )
        self._gallery = _html(elem_id="gallery")

    def _connect_events(self) -> None:
        here = [self._run, self._round]
        form = self._form
        person = self._decision
        outputs = [self._status, self._run_error, self._shown, form.cancel]
        outputs += [person.box, person.asked, person.change, self._progress]
        watched: dict[str, Any] = {"fn": self._watch, "inputs": here, "outputs": outputs}
        searched: dict[str, Any] = {"fn": self._find, "inputs": [self._search], "outputs": [self._gallery]}
        self.blocks.load(None, None, here, js=_READ_URL, **_UNQUEUED).then(**watched, **_UNLIMITED)
        self.blocks.load(**searched, **_UNQUEUED)
        models = [*form.choices.values()]
        self.blocks.load(self._greet, None, [self._heading, form.size, form.models, *models], **_UNQUEUED)
        chosen = [field.change for field in models]
        gr.on(chosen, self._choose, [form.size, *models], [self._heading, form.size], **_UNQUEUED)
        form.lock.input(self._lock, [self._run, form.lock], [form.seed], **_UNQUEUED)
        self._search.submit(**searched, **_UNQUEUED)
        begun = [*here, self._button_error]
        decided = [*here, person.words, form.rounds, self._action, self._mask]
        starts: list[tuple[Any, Any, Any, str | None]] = [
            ([form.generate.click, form.prompt.submit], self._begin, [form.prompt, *form.options], None),
            ([person.go_on.click, person.words.submit], self._continue, decided[:4], _CHOSEN),
            ([person.change.click], self._decide, decided, _DECIDED % "edit"),
        ]
        starts += [
            ([button.click], self._decide, decided, _DECIDED % action) for action, button in person.decisions.items()
        ]
        for pressed, action, inputs, js in starts:
            remembered = gr.on(pressed, action, inputs, begun, js=js, **_UNQUEUED).success(
                None, [self._run], [self._run], js=_SET_URL, **_UNQUEUED
            )
            remembered.then(**watched, **_UNLIMITED).then(**searched, **_UNQUEUED)
        form.cancel.click(self._stop, [self._run], [self._button_error], **_UNQUEUED)

    async def _greet(self, request: Request) -> tuple[Any, ...]:
        offered = self._controller.models()
        fields = [gr.update(choices=found, value="", visible=len(found) > 1) for found in offered.values()]
        are_shown = gr.update(visible=any(len(found) > 1 for found in offered.values()))
        return (*await self._choose(request, "", "", ""), are_shown, *fields)

    async def _choose(
        self, request: Request, size: str | None, generator: str | None, judge: str | None
    ) -> tuple[Any, ...]:
        """Return the heading with the chosen models, and the sizes of the chosen generator."""
        resources, options = self._controller.service.gems.resources, {"generator": generator, "judge": judge}
        try:
            models, context = resources.models(options), resources.context(options)
        except NotOfferedError:
            # *Generate* tells it.
            return gr.skip(), gr.skip()
        able = context.generator.capabilities
        sizes = gr.update(choices=size_presets(able), value=fitting_size(size, able))
        return heading_html(request.username or "", models), sizes

    async def _lock(self, request: Request, run_id: str | None, is_locked: bool | None) -> str:
        """Return the seed of the shown run, or a new one without a run; none if it is unlocked."""
        if not is_locked:
            return ""
        if run_id:
            try:
                run = await self._controller.view(self._controller.caller(request.username), run_id)
            except GemsError:
                # The page tells it already.
                return str(secrets.randbelow(COMMON_SEEDS))
            if run.result:
                return str(run.result.options["seed"])
        return str(secrets.randbelow(COMMON_SEEDS))

    async def _watch(self, request: Request, run_id: str | None, number: str | None) -> AsyncGenerator[Any]:
        """Yield updates of status, error, run, Cancel, feedback, decisions, Change and progress."""
        token, session = object(), request.session_hash or ""
        self._newest[session] = token
        hidden, shown, before = gr.update(visible=False), gr.update(visible=True), ""
        if not run_id:
            yield "", "", "", hidden, hidden, hidden, hidden, ""
            return
        try:
            caller = self._controller.caller(request.username)
            async with aclosing(self._controller.follow(caller, run_id)) as views:
                async for run in views:
                    if self._newest.get(session) is not token:
                        return
                    html = self._controller.html(caller, run, _round(number))
                    feedback = shown if run.best and not run.is_working else hidden
                    # Unchanged HTML is not sent again: it would reset focus and scrolling.
                    fresh = html if html != before else gr.skip()
                    cancel = shown if run.is_working else hidden
                    asked = shown if run.question else hidden
                    change = gr.update(visible=self._controller.can_edit(run))
                    yield status_text(run), "", fresh, cancel, feedback, asked, change, progress_html(run)
                    before = html
        except GemsError as error:
            yield "", problem_html(error), gr.skip(), hidden, gr.skip(), gr.skip(), gr.skip(), ""
        finally:
            if self._newest.get(session) is token:
                del self._newest[session]

    async def _begin(self, request: Request, prompt: str | None, *options: Any) -> tuple[Any, ...]:
        form = dict(zip(options_of("web"), options, strict=True))

        async def begin() -> str:
            return await self._controller.begin(self._controller.caller(request.username), prompt or "", form)

        return await _start(begin())

    async def _continue(
        self, request: Request, run_id: str | None, number: str | None, words: str | None, rounds: float | None
    ) -> tuple[Any, ...]:
        async def go_on() -> str:
            most = parse_field(OPTIONS["max_rounds"], rounds)
            caller = self._controller.caller(request.username)
            return await self._controller.go_on(caller, run_id or "", _round(number), words or "", most)

        return await _start(go_on())

    async def _decide(
        self,
        request: Request,
        run_id: str | None,
        number: str | None,
        words: str | None,
        rounds: float | None,
        action: str | None,
        mask: str | None,
    ) -> tuple[Any, ...]:
        async def decide() -> str:
            most = parse_field(OPTIONS["max_rounds"], rounds)
            decision = read_decision({"action": action, "instruction": words, "mask": mask})
            caller = self._controller.caller(request.username)
            return await self._controller.decide(caller, run_id or "", _round(number), decision, most)

        return await _start(decide())

    async def _stop(self, request: Request, run_id: str | None) -> str:
        try:
            await self._controller.cancel(self._controller.caller(request.username), run_id or "")
        except GemsError as error:
            return problem_html(error)
        return ""

    async def _find(self, request: Request, text: str | None) -> str:
        try:
            return await self._controller.gallery(self._controller.caller(request.username), text or "")
        except GemsError as error:
            return problem_html(error)


async def _start(starting: Awaitable[str]) -> tuple[Any, ...]:
    """Return the new values of run, round and error."""
    try:
        return await starting, "", ""
    except GemsError as error:
        return gr.skip(), gr.skip(), problem_html(error)


def _round(text: str | None) -> int | None:
    """Parse the round in the URL; None if missing or invalid."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 4 else None


def create_theme(gr: Any) -> Any:
    """Create the theme, light and dark, of the module `gr`."""
    # System fonts, so that none is fetched; colours as in web.css.
    base = gr.themes.Base(
        primary_hue="indigo",
        neutral_hue="slate",
        radius_size="lg",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
    colours = {
        "body_background_fill": ("#f5f5f8", "#101116"),
        "body_text_color_subdued": ("#5b5f6b", "#a3a8b6"),
        "block_background_fill": ("#ffffff", "#191b22"),
        "block_border_color": ("#e2e3e9", "#2d303b"),
        "block_label_text_color": ("#17181c", "#ecedf2"),
        "block_title_text_color": ("#17181c", "#ecedf2"),
        "block_info_text_color": ("#5b5f6b", "#a3a8b6"),
        "input_background_fill": ("#f0f1f6", "#22252e"),
        "input_border_color": ("#8a8f9e", "#6b7080"),
        "input_placeholder_color": ("#636876", "#9aa0ae"),
        "button_secondary_background_fill": ("#e6e7f0", "#2a2d38"),
        "button_primary_background_fill": ("#4b4ddb", "#4b4ddb"),
        "button_primary_background_fill_hover": ("#3a3cc0", "#5f61e6"),
    }
    light = {name: value for name, (value, _) in colours.items()}
    dark = {f"{name}_dark": value for name, (_, value) in colours.items()}
    sizes = {"block_border_width": "1px", "input_border_width": "1px", "block_radius": "16px"}
    return base.set(**light, **dark, **sizes)
