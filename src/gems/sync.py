"""Blocking functions: the service runs on a loop in a thread, and models stay loaded between calls."""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from langchain_core.language_models import BaseChatModel
from typing_extensions import Unpack

from gems.models.base import ImageGenerator
from gems.options import RunArguments, RunOptions
from gems.results import RunResult
from gems.service import Gems
from gems.settings import Settings, load_settings, with_models

T = TypeVar("T")


class _Background:
    """An event loop in a daemon thread, and the services that were opened on it."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._services: dict[Any, Gems] = {}
        self._lock = threading.Lock()
        self._opening = asyncio.Lock()

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """Await a coroutine on the loop; an interrupt here cancels it there."""
        with self._lock:
            if self._loop is None:
                self._loop, self._opening = asyncio.new_event_loop(), asyncio.Lock()
                self._thread = threading.Thread(target=self._loop.run_forever, name="gems", daemon=True)
                self._thread.start()
                atexit.register(self.close)
        future = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise

    async def service(self, settings: Settings, chat: BaseChatModel | None, generator: ImageGenerator | None) -> Gems:
        """Return the service for these settings and models, opened once."""
        key = (settings.identity(), id(chat), id(generator))
        async with self._opening:
            if key not in self._services:
                opened = Gems(settings, chat=chat, generator=generator)
                self._services[key] = await opened.__aenter__()
            return self._services[key]

    def close(self) -> None:
        """Close everything and end the thread."""
        loop, thread, services = self._loop, self._thread, list(self._services.values())
        if loop is None or thread is None:
            return
        self._services.clear()
        for service in services:
            asyncio.run_coroutine_threadsafe(service.__aexit__(), loop).result(timeout=10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)
        if not thread.is_alive():
            loop.close()
        self._loop = self._thread = None


_background = _Background()


# `judge` and `generator` take more than the options of these names do.
def generate(  # type: ignore[misc]
    prompt: str,
    *,
    chat: str | BaseChatModel | None = None,
    judge: str | None = None,
    generator: str | ImageGenerator | None = None,
    out: str | Path | None = None,
    metadata: bool = True,
    **options: Unpack[RunOptions],
) -> RunResult:
    """Generate an image, check it, and repeat until it is right; blocks until then.

        result = generate("three red circles above a blue striped square", seed=7)
        result.image.show()

    Args:
        prompt: What to generate, 1 to 20,000 characters.
        chat: Model spec or LangChain chat model; the settings' by default.
        judge: Model spec of another judge, or the name of one on offer.
        generator: Model spec, name of one on offer, or generator; the settings' by default.
        out: A `.png` file or a folder for the result.
        metadata: Whether the PNG contains metadata of the run.
        **options: `max_rounds`, `candidates`, `size`, `seed` and so on; see `gems.state.Input`.

    Raises:
        GemsError: there is no image to return.
    """

    async def call() -> RunResult:
        service = await _open_service(chat, judge, generator)
        return await service.run(prompt, out=out, metadata=metadata, **options)

    return _background.run(call())


# `judge` and `generator` take more than the options of these names do.
def repair(  # type: ignore[misc]
    image: bytes | Path,
    prompt: str,
    *,
    chat: str | BaseChatModel | None = None,
    judge: str | None = None,
    generator: str | ImageGenerator | None = None,
    **arguments: Unpack[RunArguments],
) -> RunResult:
    """Judge an image of yours, and mend what it lacks; see `Gems.repair`. Blocks until then.

        result = repair(Path("photo.jpg"), "a cat on a red chair", mask=Path("chair.png"))

    Args:
        image: A file or its bytes.
        prompt: What the image should show, 1 to 20,000 characters.
        chat: Model spec or LangChain chat model; the settings' by default.
        judge: Model spec of another judge, or the name of one on offer.
        generator: Model spec, name of one on offer, or generator; the settings' by default.
        **arguments: `mask`, `instruction`, `out`, `max_rounds` and so on; see `Gems.repair`.

    Raises:
        GemsError: there is no image to return.
    """

    async def call() -> RunResult:
        service = await _open_service(chat, judge, generator)
        return await service.repair(image, prompt, **arguments)

    return _background.run(call())


def resume(
    run_id: str,
    *,
    chat: str | BaseChatModel | None = None,
    judge: str | None = None,
    generator: str | ImageGenerator | None = None,
    out: str | Path | None = None,
    metadata: bool = True,
    answer: str | None = None,
) -> RunResult:
    """Continue a run; see `Gems.resume`. Use the same models as when it was started.

    Arguments are those of `generate`, and the `answer` to a skill's question. Raises GemsError if no run has
    this id, it is being worked on, or there is no image to return.
    """

    async def call() -> RunResult:
        service = await _open_service(chat, judge, generator)
        return await service.resume(run_id, answer, out=out, metadata=metadata)

    return _background.run(call())


async def _open_service(
    chat: str | BaseChatModel | None, judge: str | None, generator: str | ImageGenerator | None
) -> Gems:
    """Return the service with the models of a call, given as specs or as objects."""
    chat_spec, own_chat = (chat, None) if isinstance(chat, str) else (None, chat)
    generator_spec, own_generator = (generator, None) if isinstance(generator, str) else (None, generator)
    settings = with_models(load_settings(), chat=chat_spec, judge=judge, generator=generator_spec)
    return await _background.service(settings, own_chat, own_generator)
