"""Where GEMS works for the nodes: behind `gems serve`, or in ComfyUI's own process."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import queue
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import closing
from functools import cache, partial
from typing import Any, Protocol
from urllib.parse import urlsplit

Event = Mapping[str, Any]
CheckInterrupted = Callable[[], None]
"""Raises an exception if the user cancelled the workflow."""

_ANSWER_S = 900
"""Most seconds of silence of the server: a checklist may take its chat model minutes."""
_LOOK_S = 0.25
"""Seconds between two looks whether the user cancelled the workflow."""
_LOCAL = ("localhost", "127.0.0.1", "::1")


class GemsNodeError(RuntimeError):
    """What went wrong, in the words that ComfyUI shows."""


class Backend(Protocol):
    """Answers for the nodes; each method blocks, and returns JSON as `gems ... --json` prints it."""

    def verify(self, png: bytes, prompt: str) -> Any:
        """Check an image against a prompt."""
        ...

    def decompose(self, prompt: str) -> Any:
        """List the requirements of a prompt."""
        ...

    def run(
        self, prompt: str, options: Mapping[str, Any], source: bytes | None, check: CheckInterrupted
    ) -> Iterator[Event]:
        """Yield the events of a run; if it is closed before the last one, the run is cancelled."""
        ...

    def repair(
        self, prompt: str, options: Mapping[str, Any], png: bytes, mask: bytes | None, check: CheckInterrupted
    ) -> Iterator[Event]:
        """Yield the events of a run that judges an image and mends it within a mask, as `run` does."""
        ...

    def image(self, image_id: str) -> bytes:
        """Return the PNG of a run's image."""
        ...


def open_backend(server: str, generator: str = "") -> Backend:
    """Return the server at a URL, or GEMS in this process if there is none; `generator` is a model spec for the latter.

    Raises:
        GemsNodeError: the URL is invalid, GEMS is not installed, or the server has a generator of its own.
    """
    server, generator = server.strip().rstrip("/"), generator.strip()
    if not server:
        return _open_in_process(generator)
    if generator:
        raise GemsNodeError(f"The generator of {server} is set where it runs. Leave `generator` or `server` empty.")
    parts = urlsplit(server)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise GemsNodeError(f"Invalid server: {server!r}. Use the address of `gems serve`, e.g. http://127.0.0.1:8765.")
    return Server(server)


class Server:
    """GEMS behind `gems serve`; the environment variable GEMS_SERVER_KEY is its key, if it demands one."""

    def __init__(self, url: str) -> None:
        self._url = url
        is_local = urlsplit(url).hostname in _LOCAL
        self._opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if is_local else []))

    def verify(self, png: bytes, prompt: str) -> Any:
        return self._ask("/verify", {"prompt": prompt, "image": base64.b64encode(png).decode()})

    def decompose(self, prompt: str) -> Any:
        return self._ask("/decompose", {"prompt": prompt})

    def run(
        self, prompt: str, options: Mapping[str, Any], source: bytes | None, check: CheckInterrupted
    ) -> Iterator[Event]:
        body = {"prompt": prompt, **options}
        if source is not None:
            body["source"] = base64.b64encode(source).decode()
        return self._follow("/runs", body, check)

    def repair(
        self, prompt: str, options: Mapping[str, Any], png: bytes, mask: bytes | None, check: CheckInterrupted
    ) -> Iterator[Event]:
        body = {"prompt": prompt, "image": base64.b64encode(png).decode(), **options}
        if mask is not None:
            body["mask"] = base64.b64encode(mask).decode()
        return self._follow("/runs/repair", body, check)

    def _follow(self, path: str, body: Mapping[str, Any], check: CheckInterrupted) -> Iterator[Event]:
        run_id = self._ask(path, body)["run_id"]
        has_ended = False
        events: queue.Queue[Event] = queue.Queue()
        reading: Future[None] = Future()
        # A thread of its own, since minutes may pass between two events. It ends with the run.
        read = partial(self._read_events, run_id, events, reading)
        threading.Thread(target=read, name="gems-events", daemon=True).start()
        try:
            for event in _take(events, reading.done, check):
                has_ended = "error" in event or event.get("type") == "finished"
                if "error" in event:
                    raise GemsNodeError(f"{event['error']['message']} {event['error']['hint']}".strip())
                yield event
            reading.result()
        finally:
            if not has_ended:
                self._ask(f"/runs/{run_id}/cancel", {})

    def _read_events(self, run_id: str, events: queue.Queue[Event], reading: Future[None]) -> None:
        try:
            with closing(self._open(f"/runs/{run_id}/events")) as response:
                for line in response:
                    if line.startswith(b"data:"):
                        events.put(json.loads(line[5:]))
            reading.set_result(None)
        except Exception as error:  # noqa: BLE001 - raised where the events are taken
            reading.set_exception(error)

    def image(self, image_id: str) -> bytes:
        with closing(self._open(f"/images/{image_id}.png")) as response:
            data: bytes = response.read()
            return data

    def _ask(self, path: str, body: Mapping[str, Any]) -> Any:
        with closing(self._open(path, json.dumps(body).encode())) as response:
            return json.loads(response.read())

    def _open(self, path: str, body: bytes | None = None) -> Any:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if key := os.environ.get("GEMS_SERVER_KEY"):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(self._url + path, data=body, headers=headers)  # noqa: S310 - HTTP, see `open_backend`
        try:
            return self._opener.open(request, timeout=_ANSWER_S)
        except urllib.error.HTTPError as error:
            raise GemsNodeError(self._explain(error)) from error
        except (OSError, ValueError) as error:
            what = f"GEMS cannot be reached at {self._url}: {getattr(error, 'reason', error)}."
            raise GemsNodeError(f"{what} Start it with `gems serve`, or correct `server`.") from error

    def _explain(self, error: urllib.error.HTTPError) -> str:
        try:
            told = json.loads(error.read())
            message = told["error"]["message"] if "error" in told else json.dumps(told.get("detail", told))
            hint = told["error"].get("hint") or "" if "error" in told else ""
        except (ValueError, LookupError, TypeError, AttributeError):
            message, hint = f"{self._url} answered {error.code}.", "Is it `gems serve`, and of this version?"
        if error.code == 401:
            hint = "Set the environment variable GEMS_SERVER_KEY where ComfyUI is started."
        return f"{message} {hint}".strip()


class InProcess:
    """GEMS in this process, on an event loop in a thread of its own; its models stay loaded between calls."""

    def __init__(self, generator: str) -> None:
        from gems.service import Gems
        from gems.settings import load_settings, with_models

        settings = with_models(load_settings(), generator=generator or None)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="gems", daemon=True)
        self._thread.start()
        try:
            self._gems = self._wait(Gems(settings).__aenter__())
        except BaseException:
            self._end_loop()
            raise

    def verify(self, png: bytes, prompt: str) -> Any:
        return self._wait(self._gems.verify(png, prompt)).model_dump(mode="json")

    def decompose(self, prompt: str) -> Any:
        return self._wait(self._gems.decompose(prompt)).model_dump(mode="json")

    def run(
        self, prompt: str, options: Mapping[str, Any], source: bytes | None, check: CheckInterrupted
    ) -> Iterator[Event]:
        return self._follow(self._gems.stream(prompt, **options, source=source), check)

    def repair(
        self, prompt: str, options: Mapping[str, Any], png: bytes, mask: bytes | None, check: CheckInterrupted
    ) -> Iterator[Event]:
        return self._follow(self._gems.stream_repair(png, prompt, **options, mask=mask), check)

    def _follow(self, stream: Any, check: CheckInterrupted) -> Iterator[Event]:
        events: queue.Queue[Event] = queue.Queue()

        async def follow() -> None:
            async for event in stream:
                events.put(event.model_dump(mode="json"))

        following = asyncio.run_coroutine_threadsafe(follow(), self._loop)
        try:
            yield from _take(events, following.done, check)
            self._result(following)
        finally:
            following.cancel()

    def image(self, image_id: str) -> bytes:
        data: bytes = self._wait(self._gems.resources.images.load(image_id))
        return data

    def close(self) -> None:
        """Close the models and end the thread."""
        self._wait(self._gems.__aexit__(None, None, None))
        self._end_loop()

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait(self, call: Any) -> Any:
        return self._result(asyncio.run_coroutine_threadsafe(call, self._loop))

    def _result(self, future: Any) -> Any:
        from gems.errors import GemsError

        try:
            return future.result()
        except GemsError as error:
            raise GemsNodeError(str(error)) from error


def _take(events: queue.Queue[Event], is_done: Callable[[], bool], check: CheckInterrupted) -> Iterator[Event]:
    """Yield events until there will be no more, looking meanwhile whether the user cancelled the workflow."""
    while not (is_done() and events.empty()):
        check()
        try:
            event = events.get(timeout=_LOOK_S)
        except queue.Empty:
            continue
        yield event


@cache
def _open_in_process(generator: str) -> InProcess:
    try:
        import gems  # noqa: F401
    except ModuleNotFoundError:
        what = "GEMS is not installed in ComfyUI's Python."
        raise GemsNodeError(
            f"{what} Set `server` to the address of `gems serve`, or run: pip install gems-agent"
        ) from None
    _check_is_another_server(generator)
    return InProcess(generator)


def _check_is_another_server(generator: str) -> None:
    """Raise an error if the images were to come from this very ComfyUI, which is busy with the node until then."""
    try:
        from server import PromptServer

        port = PromptServer.instance.port
    except (ImportError, AttributeError):
        return
    kind, _, url = generator.rpartition("@")
    parts = urlsplit(url)
    if kind.startswith("comfyui:") and parts.hostname in _LOCAL and (parts.port or 80) == port:
        raise GemsNodeError("This ComfyUI cannot draw for its own node: it is busy with it. Use another generator.")
