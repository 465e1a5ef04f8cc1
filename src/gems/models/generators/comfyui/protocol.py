"""A ComfyUI server: upload images, run workflows, fetch what they drew."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlsplit

from gems.errors import (
    ConfigurationError,
    GemsError,
    ModelUnavailableError,
    OutOfMemoryError,
    ProviderTimeoutError,
    RejectedRequestError,
    ServerError,
    UnreadableReplyError,
)
from gems.generation import Progress
from gems.models.generators.comfyui.workflow import Nodes, describe_node
from gems.models.http import MAX_IMAGE_BYTES, error_from_response, make_client_options
from gems.observability.redaction import redact, shorten

if TYPE_CHECKING:
    from ssl import SSLContext

    import httpx
    from websockets.asyncio.client import ClientConnection

_LOG = logging.getLogger(__name__)
_POLL_S = 1.0
"""Seconds between two questions for the state of a job while the websocket tells nothing."""
_WITHDRAW_S = 10.0
"""Most seconds for withdrawing a job that nobody waits for."""
_FOLDER = "gems"
"""Where uploads lie in the server's folder of inputs."""
_MAX_MESSAGE = 64 * 2**20
"""Longest message of the websocket, in bytes: previews of large images come by it."""
_LOCAL = ("localhost", "127.0.0.1", "::1")
_MEMORY_WORDS = ("outofmemory", "out of memory", "allocation on device")
_MEMORY_HINT = "Use a smaller size, or start ComfyUI with --lowvram or --novram."
_URL_HINT = "Check the URL of the spec: ComfyUI listens on port 8188 unless told otherwise."
_MODELS_HINT = "Put the file into the server's folder of models, or choose another one in the workflow."
_NODES_HINT = "Install the missing nodes there (ComfyUI Manager > Install Missing Custom Nodes), or update ComfyUI."
_QUEUE_HINT = "Wait until its queue is shorter, or raise GEMS_GENERATOR__TIMEOUT_S."


class ComfyUIServer:
    """A client of one ComfyUI server, for one event loop.

    Args:
        url: The server's address, without a trailing slash.
        endpoint: Its name in messages.
        api_key: Sent as a bearer token.
        timeout_s: Seconds that a job may be executed, and may wait without coming closer in the queue.
        extra: Further fields of `POST /prompt`, e.g. `extra_data`.
        secrets: Kept out of messages, besides the key.
    """

    def __init__(
        self,
        url: str,
        *,
        endpoint: str,
        api_key: str | None,
        timeout_s: float,
        extra: Mapping[str, Any] | None = None,
        secrets: tuple[str, ...] = (),
    ) -> None:
        import httpx  # noqa: PLC0415 - loaded with the first request

        self._url = url
        self.endpoint = endpoint
        self._timeout_s = timeout_s
        self._extra = dict(extra or {})
        self._secrets = secrets
        self._authorization = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        options = make_client_options(httpx.Limits, timeout_s, MAX_IMAGE_BYTES)
        self._client = httpx.AsyncClient(**options | {"headers": options["headers"] | self._authorization})
        # httpx offers HTTP/2 on its own context, which websockets cannot speak.
        self._tls: SSLContext | None = httpx.create_ssl_context() if url.startswith("https:") else None
        self._optional: dict[str, frozenset[str]] = {}
        self._withdrawals: set[asyncio.Task[None]] = set()

    async def aclose(self) -> None:
        """Withdraw what nobody waits for, and close the connections."""
        await asyncio.gather(*self._withdrawals)
        await self._client.aclose()

    async def upload(self, data: bytes, name: str, *, original: str = "") -> str:
        """Upload a PNG, and return its name for nodes that load images.

        With the name of an uploaded image as `original`, `data` is a mask: its transparency becomes that of the image.
        """
        fields = {"type": "input", "subfolder": _FOLDER, "overwrite": "true"}
        if original:
            folder, _, file = original.rpartition("/")
            fields["original_ref"] = json.dumps({"filename": file, "subfolder": folder, "type": "input"})
        files = {"image": (name, data, "image/png")}
        path = "/upload/mask" if original else "/upload/image"
        answer = self._read(await self._client.post(self._url + path, data=fields, files=files))
        if not isinstance(answer, dict) or not isinstance(answer.get("name"), str):
            raise UnreadableReplyError(f"{self.endpoint} did not say under which name it stored an image.")
        stored: str = answer["name"]
        return f"{answer['subfolder']}/{stored}" if answer.get("subfolder") else stored

    async def load_optional_inputs(self, classes: set[str]) -> Mapping[str, frozenset[str]]:
        """Return the names of the optional inputs of node classes."""

        async def load(each: str) -> None:
            info = (await self._describe(each)).get("input", {}).get("optional") or {}
            self._optional[each] = frozenset(info)

        await asyncio.gather(*(load(each) for each in sorted(classes) if each not in self._optional))
        return self._optional

    async def find_missing(self, nodes: Nodes) -> list[str]:
        """Return what the server lacks for a workflow: node classes, and choices such as models' files."""
        classes = sorted({node["class_type"] for node in nodes.values()})
        known = dict(zip(classes, await asyncio.gather(*map(self._describe, classes)), strict=True))
        missing = [f"the node {each}" for each in classes if not known[each]]
        for key, node in nodes.items():
            inputs = known[node["class_type"]].get("input", {})
            declared = {**(inputs.get("required") or {}), **(inputs.get("optional") or {})}
            for name, value in node["inputs"].items():
                choices = _choices(declared.get(name))
                if isinstance(value, str) and choices is not None and value not in choices:
                    missing.append(f"{value!r} for {describe_node(nodes, key)} {name}")
        return missing

    async def run(
        self, nodes: Nodes, output: str, on_progress: Progress | None, sampler: str | None
    ) -> Mapping[str, Any] | None:
        """Run a workflow, and return the first image of `output` as the server names it; None if it names none.

        Reports the steps of `sampler`, or of all nodes if it is None. Withdraws the job if the call is cancelled.

        Raises:
            ConfigurationError: the server lacks nodes or models of the workflow.
            ProviderTimeoutError: neither done nor closer in the queue within the time limit.
            OutOfMemoryError: a node ran out of memory.
            RejectedRequestError: a node failed, or somebody interrupted the job.
        """
        job = _Job(str(uuid.uuid4()), nodes, on_progress, sampler)
        async with self._listen(job.id) as socket:
            # Not cancelled with this call: only once it is answered, the job can be withdrawn for certain.
            submission = asyncio.create_task(self._submit(job))
            try:
                await asyncio.shield(submission)
                entry = await self._follow(job, socket)
            except BaseException:
                if not job.has_ended and not _was_unreachable(submission):
                    await self._withdraw(submission, job)
                raise
        images = (entry.get("outputs") or {}).get(output, {}).get("images") or []
        return next((image for image in images if isinstance(image, dict) and image.get("filename")), None)

    async def fetch(self, image: Mapping[str, Any]) -> bytes | None:
        """Return the bytes of an image that `run` returned; None if its file is gone."""
        asked = {name: str(image.get(name, "")) for name in ("filename", "subfolder", "type")}
        response = await self._client.get(f"{self._url}/view", params=asked)
        if response.status_code == 404:
            return None
        if not response.is_success:
            raise error_from_response(response, self.endpoint, *self._secrets)
        return response.content

    async def _submit(self, job: _Job) -> None:
        body = {**self._extra, "prompt": job.nodes, "client_id": job.id, "prompt_id": job.id}
        response = await self._client.post(f"{self._url}/prompt", json=body)
        if response.status_code == 400:
            job.has_ended = True
            raise await self._explain_refusal(response, job.nodes)
        answer = self._read(response)
        if not isinstance(answer, dict) or not isinstance(answer.get("prompt_id"), str):
            raise UnreadableReplyError(f"{self.endpoint} did not answer the id of the job. {_URL_HINT}")
        # Older servers choose it themselves.
        job.prompt_id = answer["prompt_id"]

    @asynccontextmanager
    async def _listen(self, client_id: str) -> AsyncIterator[ClientConnection | None]:
        """Open the websocket that tells of the jobs of a client; None if there is none, and jobs are asked for."""
        from websockets.asyncio.client import connect  # noqa: PLC0415 - loaded with the first request
        from websockets.exceptions import InvalidHandshake, InvalidURI  # noqa: PLC0415

        parts = urlsplit(self._url)
        proxy: Literal[True] | None = None if parts.hostname in _LOCAL else True
        url = f"ws{self._url.removeprefix('http')}/ws?clientId={client_id}"
        connecting = connect(
            url, additional_headers=self._authorization, ssl=self._tls, proxy=proxy, max_size=_MAX_MESSAGE
        )
        try:
            socket = await connecting
        except (OSError, TimeoutError, InvalidHandshake, InvalidURI, EOFError) as error:
            _LOG.info("%s refuses the websocket (%s); its history is asked instead.", self.endpoint, _name(error))
            yield None
            return
        try:
            yield socket
        finally:
            # Without a closing handshake, for which a broken connection would be waited for.
            socket.transport.abort()

    async def _follow(self, job: _Job, socket: ClientConnection | None) -> Mapping[str, Any]:
        """Wait until a job has ended, and return its entry in the history."""
        while True:
            left = job.moved + self._timeout_s - time.monotonic()
            if left <= 0:
                raise self._time_out(job)
            wait = min(left, 0.05 if job.has_ended else _POLL_S)
            event: Mapping[str, Any] | None = None
            if socket is None or job.has_ended:
                await asyncio.sleep(wait)
            else:
                event, socket = await self._receive(socket, wait)
            if event is not None:
                self._handle(job, event)
            if (event is None or job.has_ended or job.is_due(_POLL_S)) and (entry := await self._look(job)):
                return entry

    async def _receive(
        self, socket: ClientConnection, wait: float
    ) -> tuple[Mapping[str, Any] | None, ClientConnection | None]:
        """Return the next event, if there is one in time, and the websocket unless it broke."""
        from websockets.exceptions import ConnectionClosed  # noqa: PLC0415 - loaded by `_listen`

        try:
            async with asyncio.timeout(wait):
                message = await socket.recv()
        except TimeoutError:
            return None, socket
        except ConnectionClosed as error:
            _LOG.info("The websocket of %s broke (%s); its history is asked instead.", self.endpoint, _name(error))
            return None, None
        if isinstance(message, bytes):
            # A preview.
            return {}, socket
        try:
            event = json.loads(message)
        except ValueError:
            event = {}
        return (event if isinstance(event, dict) else {}), socket

    def _handle(self, job: _Job, event: Mapping[str, Any]) -> None:
        data = event.get("data")
        if not isinstance(data, dict) or data.get("prompt_id", job.prompt_id) != job.prompt_id:
            return
        kind = event.get("type")
        if kind in ("execution_start", "executing", "progress"):
            job.begin()
        if kind == "progress":
            job.report(data)
        if kind == "execution_success" or (kind == "executing" and data.get("node") is None):
            job.has_ended = True
        if kind in ("execution_error", "execution_interrupted"):
            job.has_ended = True
            raise self._explain_failure(kind, data, job.nodes)

    async def _look(self, job: _Job) -> Mapping[str, Any] | None:
        """Return the entry of a job in the history; None if it has not ended, and its place is noted."""
        history = self._read(await self._client.get(f"{self._url}/history/{quote(job.prompt_id)}"))
        entry = history.get(job.prompt_id) if isinstance(history, dict) else None
        if isinstance(entry, dict):
            job.has_ended = True
            for kind, data in _messages_of(entry):
                if kind in ("execution_error", "execution_interrupted"):
                    raise self._explain_failure(kind, data, job.nodes)
            return entry
        if job.has_ended:
            return None
        queue = self._read(await self._client.get(f"{self._url}/queue"))
        position = _find_position(queue, job.prompt_id)
        if position is None:
            if job.was_missed:
                what = f"{self.endpoint} no longer knows a job that it accepted."
                raise ServerError(what, hint="It was restarted, or somebody deleted the job from its queue.")
            # It may have ended between the two questions.
            job.was_missed = True
            return None
        job.was_missed = False
        if position == 0:
            job.begin()
        elif job.come_to(position):
            _LOG.info("A job waits in the queue of %s; ahead of it: %d", self.endpoint, position)
        return None

    def _time_out(self, job: _Job) -> GemsError:
        if job.position:
            jobs = "another job" if job.position == 1 else f"{job.position} other jobs"
            what = f"{self.endpoint} did not begin within {self._timeout_s:g} s: {jobs} came first in its queue."
            return ProviderTimeoutError(what, hint=_QUEUE_HINT)
        what = f"{self.endpoint} did not finish the workflow within {self._timeout_s:g} s."
        return ProviderTimeoutError(what, hint="If it is only slow, raise GEMS_GENERATOR__TIMEOUT_S.")

    async def _withdraw(self, submission: asyncio.Task[None], job: _Job) -> None:
        """Delete a job from the queue, or interrupt it if it is the one that is executed."""

        async def withdraw() -> None:
            try:
                async with asyncio.timeout(_WITHDRAW_S):
                    await asyncio.wait([submission])
                    await self._client.post(f"{self._url}/queue", json={"delete": [job.prompt_id]})
                    queue = self._read(await self._client.get(f"{self._url}/queue"))
                    # Older servers interrupt whatever they execute, which may be somebody else's.
                    if _find_position(queue, job.prompt_id) == 0:
                        await self._client.post(f"{self._url}/interrupt", json={"prompt_id": job.prompt_id})
            except Exception as error:  # noqa: BLE001 - the call ends for another reason, which is told
                _LOG.warning("A job could not be withdrawn from %s: %s", self.endpoint, _name(error))
            if submission.done() and not submission.cancelled():
                # Known by now, or of no interest any more.
                submission.exception()

        task = asyncio.create_task(withdraw())
        self._withdrawals.add(task)
        task.add_done_callback(self._withdrawals.discard)
        await asyncio.shield(task)

    async def _explain_refusal(self, response: httpx.Response, nodes: Nodes) -> GemsError:
        """Return the error for a workflow that the server does not accept."""
        try:
            answer = response.json()
            error, by_node = answer["error"], answer.get("node_errors") or {}
            words = error if isinstance(error, str) else f"{error.get('message', '')} {error.get('details', '')}"
        except (ValueError, LookupError, TypeError, AttributeError):
            return error_from_response(response, self.endpoint, *self._secrets)
        missing = await self.find_missing(nodes)
        if missing:
            hint = _NODES_HINT if any(each.startswith("the node ") for each in missing) else _MODELS_HINT
            return ModelUnavailableError(self._tell(f"lacks {', '.join(missing)}"), hint=hint)
        found = [
            f"{describe_node(nodes, key)} {_input_of(each)}: {each.get('message')} ({each.get('details')})"
            for key, node in by_node.items()
            for each in node.get("errors", ())
        ]
        hint = "Correct the workflow in ComfyUI, and export it again."
        return RejectedRequestError(self._tell(f"rejects the workflow: {'; '.join(found) or words}"), hint=hint)

    def _explain_failure(self, kind: str, data: Mapping[str, Any], nodes: Nodes) -> GemsError:
        """Return the error for a workflow that ended in a node."""
        where = describe_node(nodes, str(data.get("node_id")))
        if kind == "execution_interrupted":
            hint = "Somebody interrupted it there. Continue with `gems resume`."
            return RejectedRequestError(f"{self.endpoint} was interrupted in {where}.", hint=hint)
        name, message = str(data.get("exception_type", "")), str(data.get("exception_message", ""))
        words = self._tell(f"failed in {where}: {name.rpartition('.')[2]}: {message}")
        if any(word in f"{name} {message}".lower() for word in _MEMORY_WORDS):
            return OutOfMemoryError(words, hint=_MEMORY_HINT)
        return RejectedRequestError(words, hint="Look at the server's log, or run the workflow in ComfyUI itself.")

    def _tell(self, words: str) -> str:
        return f"{self.endpoint} {shorten(redact(words, *self._secrets), 600).rstrip('. ')}."

    async def _describe(self, node_class: str) -> Mapping[str, Any]:
        """Return what the server says of a node class; empty if it lacks it."""
        answer = self._read(await self._client.get(f"{self._url}/object_info/{quote(node_class, safe='')}"))
        found = answer.get(node_class) if isinstance(answer, dict) else None
        return found if isinstance(found, dict) else {}

    def _read(self, response: httpx.Response) -> Any:
        if response.status_code == 404:
            raise ConfigurationError(f"{self.endpoint} has no ComfyUI: it answered 404.", hint=_URL_HINT)
        if not response.is_success:
            raise error_from_response(response, self.endpoint, *self._secrets)
        try:
            return response.json()
        except ValueError as error:
            what = f"{self.endpoint} sent {len(response.content)} bytes that are not JSON."
            raise UnreadableReplyError(what, hint=_URL_HINT) from error


class _Job:
    """A workflow on a server: where it is, and when it last came further."""

    def __init__(self, job_id: str, nodes: Nodes, on_progress: Progress | None, sampler: str | None) -> None:
        self.id = self.prompt_id = job_id
        self.nodes = nodes
        self._on_progress = on_progress
        self._sampler = sampler
        self.position: int | None = None
        """Jobs that come first; 0 while it is executed, None before it is known."""
        self.moved = self._looked = time.monotonic()
        self.has_ended = False
        self.was_missed = False

    def begin(self) -> None:
        """Note that it is executed."""
        if self.position != 0:
            self.position, self.moved = 0, time.monotonic()

    def come_to(self, position: int) -> bool:
        """Note its place in the queue, and return whether that is another one."""
        if self.position is not None and position >= self.position:
            return False
        self.position, self.moved = position, time.monotonic()
        return True

    def is_due(self, seconds: float) -> bool:
        """Return whether it was not asked for since so many seconds."""
        now = time.monotonic()
        if now - self._looked < seconds:
            return False
        self._looked = now
        return True

    def report(self, data: Mapping[str, Any]) -> None:
        """Report a step."""
        done, total, node = data.get("value"), data.get("max"), data.get("node")
        if self._sampler is not None and node is not None and str(node) != self._sampler:
            return
        if self._on_progress is not None and isinstance(done, int) and isinstance(total, int) and 0 < done <= total:
            self._on_progress(done, total)


def _find_position(queue: Any, prompt_id: str) -> int | None:
    """Return how many jobs come before one, 0 if it is executed; None if it is not in the queue."""
    running, pending = (
        [item for item in (queue.get(name) or []) if isinstance(item, list) and len(item) > 1]
        for name in ("queue_running", "queue_pending")
    )
    if any(item[1] == prompt_id for item in running):
        return 0
    ordered = [item[1] for item in sorted(pending, key=lambda item: item[0])]
    return len(running) + ordered.index(prompt_id) + (not running) if prompt_id in ordered else None


def _was_unreachable(submission: asyncio.Task[None]) -> bool:
    import httpx  # noqa: PLC0415 - loaded by the client

    return submission.done() and not submission.cancelled() and isinstance(submission.exception(), httpx.ConnectError)


def _messages_of(entry: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    messages = (entry.get("status") or {}).get("messages") or []
    return [(each[0], each[1]) for each in messages if len(each) == 2 and isinstance(each[1], dict)]


def _choices(declared: Any) -> list[Any] | None:
    """Return the values among which an input's must be; None if it is free."""
    if not isinstance(declared, list) or not declared:
        return None
    if isinstance(declared[0], list):
        # Images are uploaded, and listed only if they lie at the top of the folder.
        loads = len(declared) > 1 and isinstance(declared[1], dict) and declared[1].get("image_upload")
        return None if loads else declared[0]
    options = declared[1].get("options") if len(declared) > 1 and isinstance(declared[1], dict) else None
    loads = options is not None and declared[1].get("image_upload")
    return options if declared[0] == "COMBO" and isinstance(options, list) and not loads else None


def _input_of(error: Mapping[str, Any]) -> str:
    return str((error.get("extra_info") or {}).get("input_name", ""))


def _name(error: BaseException) -> str:
    return f"{type(error).__name__}: {shorten(str(error), 120)}"
