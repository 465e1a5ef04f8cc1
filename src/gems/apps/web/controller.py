"""What can be done on the page, without a word about how it looks: the page's one way to the service."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from gems.apps.run_view import Story
from gems.apps.server.auth import Caller, UnknownKeyError
from gems.apps.server.dependencies import Service
from gems.apps.serving.beginning import most_images
from gems.apps.serving.keys import KeyFile
from gems.apps.web.asking import Form
from gems.apps.web.links import Links
from gems.apps.web.rendering import Places, gallery_html, run_html
from gems.errors import GemsError, OptionError, PromptError
from gems.events import Judged, Reflected, Stopped
from gems.memory.run_filter import RunFilter
from gems.options import MAX_ROUNDS

SHOWN = 48
"""Most runs in the gallery."""


class Desk:
    """Acts for whoever is signed in.

    Args:
        service: The opened service; asked for with each action, since it opens after the page is made.
        keys: The server's keys.
        links: Makes addresses of images and reports.
    """

    def __init__(self, service: Callable[[], Service], keys: KeyFile, links: Links) -> None:
        self._service, self._keys, self.links = service, keys, links

    @property
    def service(self) -> Service:
        """The opened service."""
        return self._service()

    def caller(self, name: str | None) -> Caller:
        """Who is signed in by this name; whoever it is where there are no keys.

        Raises:
            UnknownKeyError: nobody, or their key was revoked.
        """
        if not self.service.access.needs_key:
            return Caller()
        key = next((key for key in self._keys.all() if key.name == name), None)
        if key is None:
            raise UnknownKeyError("You are not signed in.", hint="Reload the page.")
        return Caller(key)

    async def begin(self, caller: Caller, prompt: str, form: Form) -> str:
        """Begin a run.

        Returns:
            Its id.

        Raises:
            GemsError: see `RunHub.start` and `Access.beginning`.
        """
        arguments = form.arguments()
        arguments["owner"] = caller.owner
        async with self.service.access.beginning(caller, most_images(arguments)):
            return await self.service.hub.start(prompt, **arguments)

    async def go_on(self, caller: Caller, run_id: str, number: int | None, feedback: str, rounds: int) -> str:
        """Begin a run that goes on from a round of another one, with feedback in words.

        Args:
            caller: Who gives it.
            run_id: The other run.
            number: The round; its best one where there is none.
            feedback: Added to the prompt of that round.
            rounds: Most rounds that follow.

        Raises:
            GemsError: see `RunHub.fork` and `Access.beginning`.
        """
        if not feedback.strip():
            raise PromptError("There is no feedback.", hint="Say what should be different.")
        story = await self.story(caller, run_id)
        turn = story.turns.get(number) if number else story.best
        if turn is None or turn.score is None:
            raise OptionError("There is no such round to go on from.", hint="Wait until one is judged.")
        prompt = f"{turn.prompt.rstrip().rstrip('.')}. {feedback.strip()}"
        most = min(MAX_ROUNDS, turn.number + max(1, rounds))
        options = story.result.options if story.result else None
        candidates = options["candidates"] if options else 1
        async with self.service.access.beginning(caller, (most - turn.number) * candidates):
            return await self.service.hub.fork(run_id, turn.number, prompt, max_rounds=most)

    async def cancel(self, caller: Caller, run_id: str) -> None:
        """End a run with its best image so far."""
        await self.service.access.row(caller, run_id)
        await self.service.hub.cancel(run_id)

    async def story(self, caller: Caller, run_id: str) -> Story:
        """A run as far as it came.

        Raises:
            RunNotFoundError: there is none, or it is somebody else's.
        """
        await self.service.access.row(caller, run_id)
        return Story.of(await self.service.gems.show(run_id))

    async def follow(self, caller: Caller, run_id: str) -> AsyncGenerator[Story]:
        """A run as far as it came, and again whenever it tells something; whoever leaves may come back.

        Raises:
            RunNotFoundError: see `story`.
            GemsError: the run ended with it, and without an image.
        """
        story = await self.story(caller, run_id)
        yield story
        if not self.service.hub.is_working(run_id):
            if story.status == "failed" and not story.turns:
                # Raises what the run failed with, as far as this process knows it.
                await self.service.hub.result(run_id)
            return
        try:
            async with aclosing(self._told(run_id, story)) as stories:
                async for told in stories:
                    yield told
        except GemsError:
            yield await self.story(caller, run_id)
            raise

    async def _told(self, run_id: str, story: Story) -> AsyncGenerator[Story]:
        async with aclosing(self.service.hub.watch(run_id)) as events:
            async for event in events:
                story.take(event)
                if isinstance(event, Judged | Reflected | Stopped):
                    # Events do not tell what was paid; the checkpoints do.
                    story.usage = (await self.service.gems.show(run_id)).usage or story.usage
                yield story

    async def gallery(self, caller: Caller, text: str = "") -> str:
        """Past runs with these words in their prompts, newest first."""
        owner = caller.owner if caller.key is not None else None
        wanted = RunFilter(owner=owner, text=text.strip() or None)
        gems = self.service.gems
        rows = await gems.runs(SHOWN, wanted)
        covers = {row["run_id"]: (await gems.show(row["run_id"])).image_id or "" for row in rows}
        return gallery_html(rows, covers, self.places(caller), text)

    def html(self, caller: Caller, story: Story, chosen: int | None = None) -> str:
        """A run as HTML for whoever is signed in."""
        return run_html(story, self.places(caller), chosen)

    def places(self, caller: Caller) -> Places:
        """Addresses that open for a caller."""
        return Places(
            image=lambda image: self.links.to("image", image, caller.owner),
            report=lambda run_id: self.links.to("report", run_id, caller.owner),
        )
