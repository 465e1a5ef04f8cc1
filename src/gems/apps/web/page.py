"""The page itself, made with Gradio: fields, buttons and where HTML goes. Importing this is slow."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.routing import Mount

from gems.apps.web.asking import Form, whole
from gems.apps.web.controller import Desk
from gems.apps.web.rendering import heading_html, problem_html, status_text, style
from gems.apps.web.theming import theme
from gems.errors import GemsError
from gems.options import DEFAULT_ROUNDS, MAX_CANDIDATES, MAX_ROUNDS

# An extra, whose types are there in some versions only. Gradio knows by the annotation what to hand over.
gr: Any = import_module("gradio")
if TYPE_CHECKING:
    Request = Any
else:
    Request = gr.Request

# The address names the run, so that a reload or another tab finds it again.
_REMEMBER = """(run) => {
  if (run) { const here = new URL(location.href); here.hash = "";
             here.search = "?run=" + encodeURIComponent(run); history.replaceState(null, "", here); }
  return run;
}"""
_ARRIVE = """() => { const asked = new URL(location.href).searchParams;
  return [asked.get("run") || "", asked.get("round") || ""]; }"""
# Set once on what stays, since readers of the screen hear only of changes within what they know.
_HEARD = "element.setAttribute('role', 'status'); element.setAttribute('aria-live', 'polite');"
_HIDDEN: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
# Answered at once. In the queue, whose one stream Gradio closes when it is empty, it may lose what comes
# just then.
_PRESSED = _HIDDEN | {"queue": False}
# Whoever watches is one of many.
_WATCHING = _HIDDEN | {"concurrency_limit": None}


def add_page(app: FastAPI, desk: Desk, path: str, name_of: Callable[[Any], str]) -> Mount:
    """Mount the page.

    Args:
        app: The server's app.
        desk: What the page acts through.
        path: Where it is.
        name_of: Who signed in, by a request; empty for nobody.

    Returns:
        Where Gradio's app is mounted.
    """
    blocks = _Page(desk).blocks
    gr.mount_gradio_app(
        app,
        blocks,
        path=path,
        auth_dependency=name_of,
        # Not as `css`, each rule of which Gradio would rewrite, those with commas within :is() wrongly.
        head=f"<style>{style()}</style>",
        theme=theme(),
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        enable_monitoring=False,
        show_error=False,
        max_file_size=1,
    )
    # One connection less for each tab, of the six that a browser opens to a server.
    blocks.config["connect_heartbeat"] = False
    return next(route for route in app.routes if isinstance(route, Mount) and route.path == path)


def _html(value: str = "", **more: Any) -> Any:
    """HTML with no style but the page's own, and no script."""
    return gr.HTML(value, **{"js_on_load": None, "apply_default_css": False} | more)


class _Page:
    """The blocks, and what happens when something is pressed."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._newest: dict[str, object] = {}
        """What each open page watches: an older watch leaves the page to it."""
        with gr.Blocks(title="GEMS", analytics_enabled=False) as self.blocks:
            self._who = _html(heading_html(""), elem_id="heading")
            # Fields rather than states, which the browser's side of the page could not read.
            self._run, self._round = (
                gr.Textbox("", visible="hidden", label=name) for name in ("Run", "Round")
            )
            self._fields()
            self._status = _html(js_on_load=_HEARD, elem_id="status")
            # What a button could not do, and what ended a run, stand apart: neither clears the other.
            self._problem, self._trouble = _html(), _html()
            self._shown = _html()
            self._feedback()
            self._past()
            self._wired()

    def _fields(self) -> None:
        self._prompt = gr.Textbox(
            label="Prompt", lines=2, max_lines=12, placeholder="What to draw", elem_id="prompt"
        )
        with gr.Accordion("Options", open=False, elem_id="options"):
            with gr.Row():
                rounds = gr.Slider(1, MAX_ROUNDS, DEFAULT_ROUNDS, step=1, label="Rounds", buttons=[])
                candidates = gr.Slider(1, MAX_CANDIDATES, 1, step=1, label="Images per round", buttons=[])
            with gr.Row():
                size = gr.Textbox(label="Size", info="WIDTHxHEIGHT in pixels", placeholder="the generator's")
                seed = gr.Textbox(label="Seed", info="The same one draws the same", placeholder="random")
                profile = gr.Dropdown(
                    ["balanced", "paper"], value="balanced", label="Profile", info="How rounds end"
                )
            with gr.Row():
                skills = gr.Textbox("auto", label="Skills", info="auto, none, or names with commas")
                negative = gr.Textbox(label="Negative prompt", info="What to avoid")
                memory = gr.Checkbox(True, label="Memory", info="Learn from other runs, and for them")
        self._rounds = rounds
        self._options = [rounds, candidates, size, seed, profile, skills, negative, memory]
        with gr.Row(elem_id="acts"):
            self._draw = gr.Button("Draw", variant="primary", elem_id="draw", scale=0, min_width=160)
            self._cancel = gr.Button("Cancel", visible=False, elem_id="cancel", scale=0, min_width=160)

    def _feedback(self) -> None:
        with gr.Column(visible=False, elem_id="feedback") as self._further:
            self._words = gr.Textbox(
                label="Feedback",
                info="What should be different? A new run goes on from the image at the top.",
                lines=2,
                elem_id="words",
            )
            self._go_on = gr.Button("Continue with feedback", elem_id="go-on", scale=0, min_width=200)

    def _past(self) -> None:
        _html('<div class="gems g-past"><h2>Past runs</h2></div>')
        self._search = gr.Textbox(
            label="Search past runs", placeholder="Words of the prompt", elem_id="search", max_lines=1
        )
        self._gallery = _html(elem_id="gallery")

    def _wired(self) -> None:
        told = [self._status, self._trouble, self._shown, self._cancel, self._further]
        watched: dict[str, Any] = {"fn": self._watch, "inputs": [self._run, self._round], "outputs": told}
        searched: dict[str, Any] = {"fn": self._find, "inputs": [self._search], "outputs": [self._gallery]}
        here = [self._run, self._round]
        self.blocks.load(None, None, here, js=_ARRIVE, **_PRESSED).then(**watched, **_WATCHING)
        self.blocks.load(**searched, **_PRESSED)
        self.blocks.load(self._greet, None, [self._who], **_PRESSED)
        self._search.submit(**searched, **_PRESSED)
        begun = [*here, self._problem]
        for pressed, action, inputs in (
            ([self._draw.click, self._prompt.submit], self._begin, [self._prompt, *self._options]),
            ([self._go_on.click, self._words.submit], self._continue, [*here, self._words, self._rounds]),
        ):
            remembered = gr.on(pressed, action, inputs, begun, **_PRESSED).success(
                None, [self._run], [self._run], js=_REMEMBER, **_PRESSED
            )
            remembered.then(**watched, **_WATCHING).then(**searched, **_PRESSED)
        self._cancel.click(self._stop, [self._run], [self._problem], **_PRESSED)

    async def _greet(self, request: Request) -> str:
        return heading_html(request.username or "")

    async def _watch(self, request: Request, run_id: str | None, number: str | None) -> AsyncGenerator[Any]:
        """What the outputs of `told` become: status, trouble, the run, Cancel, and feedback."""
        token, session = object(), request.session_hash or ""
        self._newest[session] = token
        hidden, shown, before = gr.update(visible=False), gr.update(visible=True), ""
        if not run_id:
            yield "", "", "", hidden, hidden
            return
        try:
            caller = self._desk.caller(request.username)
            async with aclosing(self._desk.follow(caller, run_id)) as stories:
                async for story in stories:
                    if self._newest.get(session) is not token:
                        return
                    html = self._desk.html(caller, story, _round(number))
                    further = shown if story.best and not story.is_working else hidden
                    # What stays is not sent: whoever reads it would be thrown out of it.
                    fresh = html if html != before else gr.skip()
                    yield status_text(story), "", fresh, shown if story.is_working else hidden, further
                    before = html
        except GemsError as error:
            yield "", problem_html(error), gr.skip(), hidden, gr.skip()
        finally:
            if self._newest.get(session) is token:
                del self._newest[session]

    async def _begin(self, request: Request, prompt: str | None, *options: Any) -> tuple[Any, ...]:
        names = ("rounds", "candidates", "size", "seed", "profile", "skills", "negative_prompt", "memory")
        try:
            form = Form(**dict(zip(names, options, strict=True)))
            return await self._desk.begin(self._desk.caller(request.username), prompt or "", form), "", ""
        except GemsError as error:
            return gr.skip(), gr.skip(), problem_html(error)

    async def _continue(
        self,
        request: Request,
        run_id: str | None,
        number: str | None,
        words: str | None,
        rounds: float | None,
    ) -> tuple[Any, ...]:
        try:
            most = whole("Rounds", rounds, MAX_ROUNDS)
            caller = self._desk.caller(request.username)
            return await self._desk.go_on(caller, run_id or "", _round(number), words or "", most), "", ""
        except GemsError as error:
            return gr.skip(), gr.skip(), problem_html(error)

    async def _stop(self, request: Request, run_id: str | None) -> str:
        try:
            await self._desk.cancel(self._desk.caller(request.username), run_id or "")
        except GemsError as error:
            return problem_html(error)
        return ""

    async def _find(self, request: Request, text: str | None) -> str:
        try:
            return await self._desk.gallery(self._desk.caller(request.username), text or "")
        except GemsError as error:
            return problem_html(error)


def _round(text: str | None) -> int | None:
    """The number of a round as the page's address says it; None where it says none."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 4 else None
