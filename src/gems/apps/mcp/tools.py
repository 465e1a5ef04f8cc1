"""The tools that draw."""

from __future__ import annotations

from typing import Annotated, Any

from mcp.server.mcpserver import Context
from mcp_types import CallToolResult
from pydantic import Field

from gems.apps.mcp.desk import Desk
from gems.apps.mcp.following import followed
from gems.apps.mcp.results import RunReport, run_answer
from gems.apps.serving.beginning import most_images
from gems.arguments import RunArguments
from gems.types import Profile

Rounds = Annotated[int | None, Field(description="Most rounds, 1 to 50; 5 by default.")]
Seed = Annotated[int | None, Field(description="Where chance begins; random by default.")]
Negative = Annotated[str | None, Field(description="What to avoid.")]
Skills = Annotated[str | None, Field(description="auto, none, or names separated by commas.")]
Candidates = Annotated[int | None, Field(description="Images per round, 1 to 16; 1 by default.")]
Budget = Annotated[float | None, Field(description="Begin nothing new once so much is spent.")]
Deadline = Annotated[
    float | None, Field(description="Stop after so many seconds with the best image so far.")
]
Out = Annotated[str | None, Field(description="A .png file or a folder for the image; not over HTTP.")]
RunId = Annotated[str, Field(description="The id of a run, as generate_image answers it.")]
Link = Annotated[bool, Field(description="Also link the image in its full size as a resource.")]
Wait = Annotated[bool, Field(description="false: answer at once; get_run tells how the run goes.")]
Answer = Annotated[CallToolResult, RunReport]


class DrawingTools:
    """The methods are tools; their docstrings and arguments are what clients see.

    Args:
        desk: What all tools share.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def generate_image(  # noqa: PLR0913, PLR0917 - the tool's arguments
        self,
        context: Context[Any, Any],
        prompt: Annotated[str, Field(description="What to draw, in as much detail as wanted.")],
        max_rounds: Rounds = None,
        size: Annotated[str | None, Field(description="WIDTHxHEIGHT in pixels.")] = None,
        seed: Seed = None,
        negative_prompt: Negative = None,
        skills: Skills = None,
        profile: Annotated[Profile | None, Field(description="balanced by default.")] = None,
        candidates: Candidates = None,
        budget_usd: Budget = None,
        deadline_s: Deadline = None,
        out: Out = None,
        link: Link = False,
        wait: Wait = True,
    ) -> Answer:
        """Draw a prompt, check the image against each of its requirements, and go on until it is right.

        Answers with the best image, its path, score and checklist. Takes seconds to minutes; progress is
        reported. Cancelling the call ends the run with its best image.
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
            "out": self._desk.target(out),
        }
        return await self._drawn(context, prompt, arguments, link=link, wait=wait)

    async def resume_run(
        self,
        context: Context[Any, Any],
        run_id: RunId,
        answer: Annotated[str | None, Field(description="The answer to what a skill has asked.")] = None,
        link: Link = False,
        wait: Wait = True,
    ) -> Answer:
        """Go on with a run that was interrupted, cancelled, failed, or waits for an answer.

        Nothing that was drawn is paid for again.
        """
        desk, caller = self._desk, self._desk.caller(context)
        row = await desk.access.row(caller, run_id)
        if not desk.hub.is_working(run_id):
            options, known = row["options"], await desk.hub.gems.show(run_id)
            most = (options["max_rounds"] - len(known.rounds)) * options["candidates"]
            await desk.begun(caller, most, desk.hub.resume(run_id, answer))
        return await self._answer(run_id, context, link=link, wait=wait)

    async def edit_image(  # noqa: PLR0913, PLR0917 - the tool's arguments
        self,
        context: Context[Any, Any],
        prompt: Annotated[str, Field(description="What to change; the rest is to stay as it is.")],
        path: Annotated[str | None, Field(description="A PNG, JPEG or WebP file; not over HTTP.")] = None,
        image: Annotated[str | None, Field(description="In place of a path: the picture as base64.")] = None,
        max_rounds: Rounds = None,
        size: Annotated[str | None, Field(description="WIDTHxHEIGHT; the picture's own by default.")] = None,
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
        """Change a picture, check the result against what was asked for, and go on until it is right.

        Every round changes the picture that was given, never the last result. Answers as generate_image does.
        """
        arguments: RunArguments = {
            "source": self._desk.picture(path, image),
            "max_rounds": max_rounds,
            "size": size,
            "seed": seed,
            "negative_prompt": negative_prompt,
            "skills": skills,
            "candidates": candidates,
            "budget_usd": budget_usd,
            "deadline_s": deadline_s,
            "out": self._desk.target(out),
        }
        return await self._drawn(context, prompt, arguments, link=link, wait=wait)

    async def _drawn(
        self, context: Context[Any, Any], prompt: str, arguments: RunArguments, *, link: bool, wait: bool
    ) -> Answer:
        desk, caller = self._desk, self._desk.caller(context)
        starting = desk.hub.start(prompt, **arguments | {"owner": caller.owner})
        run_id = await desk.begun(caller, most_images(arguments), starting)
        return await self._answer(run_id, context, link=link, wait=wait)

    async def _answer(self, run_id: str, context: Context[Any, Any], *, link: bool, wait: bool) -> Answer:
        desk = self._desk
        result = await followed(desk.hub, run_id, context) if wait else await desk.hub.gems.show(run_id)
        return await run_answer(result, desk.hub.gems.resources.images, local=desk.local, link=link)
