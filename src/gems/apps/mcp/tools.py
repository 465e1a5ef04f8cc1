"""Tools that generate and edit images, and resume runs."""

from __future__ import annotations

from typing import Annotated, Any

from mcp.server.mcpserver import Context
from mcp_types import CallToolResult
from pydantic import Field

from gems.apps.mcp.desk import ToolState
from gems.apps.mcp.results import RunReport, run_answer
from gems.apps.run_view import followed
from gems.apps.serving.beginning import max_images
from gems.options import RunArguments
from gems.types import Profile

Rounds = Annotated[int | None, Field(description="Maximum number of rounds, 1 to 50. Default: 5.")]
Seed = Annotated[int | None, Field(description="Random seed. Chosen at random if omitted.")]
Negative = Annotated[str | None, Field(description="What to avoid.")]
Skills = Annotated[str | None, Field(description="auto, none, or names separated by commas.")]
Candidates = Annotated[int | None, Field(description="Images per round, 1 to 16. Default: 1.")]
Budget = Annotated[
    float | None, Field(description="Stop starting new work after spending this many US dollars.")
]
Deadline = Annotated[float | None, Field(description="Stop after this many seconds and keep the best image.")]
Out = Annotated[str | None, Field(description="PNG file or folder for the image; not over HTTP.")]
RunId = Annotated[str, Field(description="Run id, as returned by generate_image.")]
Link = Annotated[bool, Field(description="Also link the full-size image as a resource.")]
Wait = Annotated[bool, Field(description="If false, return at once; check the run with get_run.")]
Answer = Annotated[CallToolResult, RunReport]


class DrawingTools:
    """Methods are tools; clients see their docstrings and arguments."""

    def __init__(self, state: ToolState) -> None:
        self._state = state

    async def generate_image(  # noqa: PLR0913, PLR0917 - the tool's arguments
        self,
        context: Context[Any, Any],
        prompt: Annotated[str, Field(description="What to generate, in any detail.")],
        max_rounds: Rounds = None,
        size: Annotated[str | None, Field(description="WIDTHxHEIGHT in pixels.")] = None,
        seed: Seed = None,
        negative_prompt: Negative = None,
        skills: Skills = None,
        profile: Annotated[Profile | None, Field(description="balanced or paper. Default: balanced.")] = None,
        candidates: Candidates = None,
        budget_usd: Budget = None,
        deadline_s: Deadline = None,
        out: Out = None,
        link: Link = False,
        wait: Wait = True,
    ) -> Answer:
        """Generate an image, check it against each requirement of the prompt, and refine it until it matches.

        Returns the best image, its path, score and checklist. Takes seconds to minutes and reports progress.
        Cancelling the call cancels the run, keeping its best image.
        """
        arguments: RunArguments = {
            "max_rounds": max_rounds,
            "size": size,
            "seed": seed,
            "negative_prompt": negative_prompt,
            "skills": skills,
            "profile": profile,
            "candidates": candidates,
            "budget_usd": budget_usd,
            "deadline_s": deadline_s,
            "out": self._state.target(out),
        }
        return await self._run(context, prompt, arguments, link=link, wait=wait)

    async def resume_run(
        self,
        context: Context[Any, Any],
        run_id: RunId,
        answer: Annotated[str | None, Field(description="Answer to a question that a skill asked.")] = None,
        link: Link = False,
        wait: Wait = True,
    ) -> Answer:
        """Resume a run that was interrupted, cancelled, failed, or waits for an answer.

        Finished images are not paid for again.
        """
        state, caller = self._state, self._state.caller(context)
        row = await state.access.row(caller, run_id)
        if not state.manager.is_working(run_id):
            options, known = row["options"], await state.manager.gems.show(run_id)
            most = (options["max_rounds"] - len(known.rounds)) * options["candidates"]
            await state.start_run(caller, most, state.manager.resume(run_id, answer))
        return await self._answer(run_id, context, link=link, wait=wait)

    async def edit_image(  # noqa: PLR0913, PLR0917 - the tool's arguments
        self,
        context: Context[Any, Any],
        prompt: Annotated[str, Field(description="What to change; everything else should stay the same.")],
        path: Annotated[str | None, Field(description="PNG, JPEG or WebP file; not over HTTP.")] = None,
        image: Annotated[str | None, Field(description="The image as base64, instead of a path.")] = None,
        max_rounds: Rounds = None,
        size: Annotated[
            str | None, Field(description="WIDTHxHEIGHT in pixels. Default: that of the image.")
        ] = None,
        seed: Seed = None,
        negative_prompt: Negative = None,
        skills: Skills = None,
        candidates: Candidates = None,
        budget_usd: Budget = None,
        deadline_s: Deadline = None,
        out: Out = None,
        link: Link = False,
        wait: Wait = True,
    ) -> Answer:
        """Edit an image, check the result against the prompt, and retry until it matches.

        Every round edits the given image, never the last result. Returns the same as generate_image.
        """
        arguments: RunArguments = {
            "source": self._state.picture(path, image),
            "max_rounds": max_rounds,
            "size": size,
            "seed": seed,
            "negative_prompt": negative_prompt,
            "skills": skills,
            "candidates": candidates,
            "budget_usd": budget_usd,
            "deadline_s": deadline_s,
            "out": self._state.target(out),
        }
        return await self._run(context, prompt, arguments, link=link, wait=wait)

    async def _run(
        self, context: Context[Any, Any], prompt: str, arguments: RunArguments, *, link: bool, wait: bool
    ) -> Answer:
        state, caller = self._state, self._state.caller(context)
        starting = state.manager.start(prompt, **arguments | {"owner": caller.owner})
        run_id = await state.start_run(caller, max_images(arguments), starting)
        return await self._answer(run_id, context, link=link, wait=wait)

    async def _answer(self, run_id: str, context: Context[Any, Any], *, link: bool, wait: bool) -> Answer:
        state = self._state
        result = (
            await followed(state.manager, run_id, context) if wait else await state.manager.gems.show(run_id)
        )
        return await run_answer(result, state.manager.gems.resources.images, local=state.local, link=link)
