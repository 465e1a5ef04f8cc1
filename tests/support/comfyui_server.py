"""A server on loopback with the API of ComfyUI (server.py and execution.py of its versions 0.3.64 and 0.38)."""

from __future__ import annotations

import asyncio
import heapq
import io
import json
import re
import struct
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from fastapi import FastAPI
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from tests.support.comfyui_nodes import CLASSES, NodeClass
from tests.support.http_server import serving

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
Nodes = dict[str, dict[str, Any]]


class NodeError(Exception):
    """A node failed: its id, and the type and message of the exception."""

    def __init__(self, node: str, kind: str, message: str) -> None:
        super().__init__(message)
        self.node, self.kind, self.message = node, kind, message


class InterruptedNodeError(Exception):
    """Somebody interrupted the execution in a node."""

    def __init__(self, node: str) -> None:
        super().__init__(node)
        self.node = node


@dataclass
class ComfyUIServer:
    """What the server was asked, and how it behaves.

    Attributes:
        url: Its address, with `prefix`.
        requests: Method, path and body of every request.
        prompts: The workflows that it accepted.
        executed: The ids of the jobs that it began.
        key: The bearer token that it demands.
        prefix: The path below which it is reached.
        is_old: Whether it behaves as in 2023: it chooses the ids, says neither that a job succeeded nor what nodes that
            it did not execute again had put out, and interrupts whatever it executes.
        sockets_open: How many messages a websocket sends before it breaks; 0 refuses it, None never breaks.
        paused: Jobs are begun only while this is not set.
        held: A sampler stands still after its first step while this is set.
        failures: Exceptions of node classes: type and message.
        lacking: Node classes that are not installed.
        loses_jobs: Whether it forgets what it accepted, as after a restart.
    """

    url: str = ""
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    prompts: list[Nodes] = field(default_factory=list)
    executed: list[str] = field(default_factory=list)
    interrupted: list[str] = field(default_factory=list)
    key: str = ""
    prefix: str = ""
    is_old: bool = False
    sockets_open: int | None = None
    paused: threading.Event = field(default_factory=threading.Event)
    held: threading.Event = field(default_factory=threading.Event)
    failures: dict[str, tuple[str, str]] = field(default_factory=dict)
    lacking: set[str] = field(default_factory=set)
    loses_jobs: bool = False
    files: dict[tuple[str, str, str], bytes] = field(default_factory=dict)
    history: dict[str, Any] = field(default_factory=dict)
    queue: list[Any] = field(default_factory=list)
    running: list[Any] = field(default_factory=list)
    sockets: dict[str, WebSocket] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    cache: dict[str, Any] = field(default_factory=dict)
    interrupt: bool = False
    count: int = 0

    def calls(self, path: str) -> list[Any]:
        """The bodies of the requests to a path."""
        return [body for _, asked, body in self.requests if asked == path]

    def enqueue_for_others(self, number: int = 1) -> None:
        """Put jobs of somebody else into the queue."""
        nodes = {
            "1": {"class_type": "LoadImage", "inputs": {"image": "example.png"}},
            "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
        }
        for _ in range(number):
            self.count += 1
            heapq.heappush(self.queue, (self.count, str(uuid.uuid4()), nodes, {}, ["2"]))

    async def work(self) -> None:
        """Execute the jobs of the queue, one after the other."""
        while True:
            if self.paused.is_set() or not self.queue:
                await asyncio.sleep(0.005)
                continue
            job = heapq.heappop(self.queue)
            self.running.append(job)
            await self._execute(job)
            self.running.remove(job)

    async def _execute(self, job: Any) -> None:
        _, job_id, nodes, extra, outputs = job
        client = extra.get("client_id")
        self.interrupt = False
        self.executed.append(job_id)
        messages: list[Any] = []

        async def tell(kind: str, **data: Any) -> None:
            messages.append([kind, {**data, "prompt_id": job_id}])
            await self.send(client, kind, {**data, "prompt_id": job_id})

        await tell("execution_start")
        cached = [key for key in nodes if self._signature(nodes, key) in self.cache]
        await tell("execution_cached", nodes=cached)
        shown: dict[str, Any] = {}
        ok = False
        try:
            for node in outputs:
                await self._compute(nodes, node, job, shown)
            ok = True
            if not self.is_old:
                await tell("execution_success")
        except InterruptedNodeError as stop:
            self.interrupted.append(job_id)
            kind = nodes[stop.node]["class_type"]
            await tell("execution_interrupted", node_id=stop.node, node_type=kind, executed=[])
        except NodeError as error:
            kind = nodes[error.node]["class_type"]
            told = {"exception_message": error.message, "exception_type": error.kind, "traceback": []}
            await tell("execution_error", node_id=error.node, node_type=kind, executed=[], current_inputs={}, **told)
        status = {"status_str": "success" if ok else "error", "completed": ok, "messages": messages}
        entry = {"prompt": list(job), "outputs": shown, "meta": {}, "status": None if self.is_old else status}
        self.history[job_id] = entry
        await self.send(client, "executing", {"node": None, "prompt_id": job_id})

    async def _compute(self, nodes: Nodes, node: str, job: Any, shown: dict[str, Any]) -> Any:
        """The outputs of a node, from the cache if nothing that it depends on changed."""
        kind, inputs = nodes[node]["class_type"], nodes[node]["inputs"]
        signature = self._signature(nodes, node)
        if signature in self.cache:
            result, images = self.cache[signature]
            if images and not self.is_old:
                shown[node] = {"images": images}
            return result
        values = {}
        declared = CLASSES[kind].declared()
        for name, value in inputs.items():
            if name in declared:
                linked = isinstance(value, list)
                values[name] = (await self._compute(nodes, value[0], job, shown))[value[1]] if linked else value
        client = job[3].get("client_id")
        await self.send(client, "executing", {"node": node, "display_node": node, "prompt_id": job[1]})
        if self.interrupt:
            raise InterruptedNodeError(node)
        if kind in self.failures:
            raise NodeError(node, *self.failures[kind])
        if "image" in values and isinstance(values["image"], str):
            values["image"] = Image.open(io.BytesIO(self.files[self._place(values["image"])]))
        if kind in ("KSampler", "SamplerCustomAdvanced"):
            await self._step(node, job, values)
        result = CLASSES[kind].run(**values)
        images = [self._store(kind, values)] if CLASSES[kind].is_output else []
        if images:
            shown[node] = {"images": images}
            await self.send(client, "executed", {"node": node, "output": shown[node], "prompt_id": job[1]})
        self.cache[signature] = (result, images)
        return result

    async def _step(self, node: str, job: Any, values: dict[str, Any]) -> None:
        total = values["steps"] if "steps" in values else values["sigmas"]["steps"]
        for step in range(1, total + 1):
            data = {"value": step, "max": total, "prompt_id": job[1], "node": node}
            await self.send(job[3].get("client_id"), "progress", data)
            # Released from another thread, which no event of a loop hears of.
            while self.held.is_set() and not self.interrupt:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            if self.interrupt:
                raise InterruptedNodeError(node)

    def _signature(self, nodes: Nodes, node: str) -> str:
        inputs = {
            name: [self._signature(nodes, value[0]), value[1]] if isinstance(value, list) else value
            for name, value in sorted(nodes[node]["inputs"].items())
        }
        return json.dumps([nodes[node]["class_type"], inputs])

    def _store(self, kind: str, values: dict[str, Any]) -> dict[str, str]:
        out = io.BytesIO()
        values["images"].save(out, "PNG")
        place = ("output", "", f"{values.get('filename_prefix')}_{len(self.files):05}_.png")
        if kind == "PreviewImage":
            place = ("temp", "", f"ComfyUI_temp_{len(self.files):05}_.png")
        self.files[place] = out.getvalue()
        return {"filename": place[2], "subfolder": place[1], "type": place[0]}

    def _place(self, name: str) -> tuple[str, str, str]:
        folder, _, file = name.rpartition("/")
        return ("input", folder, file)

    async def send(self, client: str | None, kind: str, data: dict[str, Any]) -> None:
        socket = self.sockets.get(client or "")
        if socket is None:
            return
        self.sent[client or ""] = sent = self.sent.get(client or "", 0) + 1
        if self.sockets_open is not None and sent > self.sockets_open:
            self.sockets.pop(client or "")
            await socket.close(1011)
            return
        try:
            await socket.send_json({"type": kind, "data": data})
            if kind == "progress":
                # A preview: the type of the event and of the image, and the image.
                await socket.send_bytes(struct.pack(">II", 1, 1) + b"\xff\xd8\xff")
        except (RuntimeError, WebSocketDisconnect):
            # The client is gone; what it ordered is executed all the same.
            self.sockets.pop(client or "", None)

    async def listen(self, socket: WebSocket) -> None:
        client = socket.query_params.get("clientId", "")
        if self.sockets_open == 0 or not self._may(socket.headers):
            await socket.close(1008)
            return
        await socket.accept()
        self.sockets[client] = socket
        await self.send(
            client, "status", {"status": {"exec_info": {"queue_remaining": len(self.queue)}}, "sid": client}
        )
        try:
            while True:
                await socket.receive_text()
        except (WebSocketDisconnect, RuntimeError):
            self.sockets.pop(client, None)

    def _may(self, headers: Any) -> bool:
        return not self.key or headers.get("authorization") == f"Bearer {self.key}"

    async def answer(self, request: Request) -> Response:
        path = request.url.path.removeprefix(self.prefix)
        body: Any = None
        uploaded: Response | None = None
        if "multipart" in request.headers.get("content-type", ""):
            async with request.form() as form:
                body = {name: value if isinstance(value, str) else value.filename for name, value in form.items()}
                uploaded = await self._upload(path, form) if self._may(request.headers) else None
        elif request.method == "POST":
            body = json.loads(await request.body() or b"{}")
        self.requests.append((request.method, path, body))
        if not self._may(request.headers):
            return JSONResponse({"error": "Unauthorized"}, 401)
        if uploaded is not None:
            return uploaded
        return self._get(path, request) if request.method == "GET" else self._post(path, body)

    def _get(self, path: str, request: Request) -> Response:
        kind, _, name = path[1:].partition("/")
        found: dict[str, Any] = {}
        if kind == "view":
            asked = tuple(request.query_params[part] for part in ("type", "subfolder", "filename"))
            data = self.files.get(cast("tuple[str, str, str]", asked))
            return Response(data, 200 if data else 404, media_type="image/png")
        if kind == "history":
            found = {name: self.history[name]} if name in self.history else {}
        elif kind == "queue":
            found = {"queue_running": self.running, "queue_pending": self.queue}
        elif kind == "object_info":
            found = {name: _info(name, CLASSES[name])} if name in CLASSES and name not in self.lacking else {}
        else:
            return Response(status_code=404)
        return JSONResponse(found)

    def _post(self, path: str, body: Any) -> Response:
        if path == "/prompt":
            return self._accept(body)
        if path == "/queue":
            self.queue[:] = [job for job in self.queue if job[1] not in body.get("delete", ())]
            heapq.heapify(self.queue)
        elif path == "/interrupt":
            asked_id = None if self.is_old else body.get("prompt_id")
            self.interrupt = asked_id is None or any(job[1] == asked_id for job in self.running)
        else:
            return Response(status_code=404)
        return Response()

    async def _upload(self, path: str, form: Any) -> Response:
        data = await form["image"].read()
        place = (form.get("type", "input"), form.get("subfolder", ""), form["image"].filename)
        if path == "/upload/mask":
            original = json.loads(form["original_ref"])
            stored = self.files[original["type"], original["subfolder"], original["filename"]]
            picture = Image.open(io.BytesIO(stored)).convert("RGBA")
            picture.putalpha(Image.open(io.BytesIO(data)).convert("RGBA").getchannel("A"))
            out = io.BytesIO()
            picture.save(out, "PNG")
            data = out.getvalue()
        self.files[place] = data
        return JSONResponse({"name": place[2], "subfolder": place[1], "type": place[0]})

    def _accept(self, body: dict[str, Any]) -> Response:
        nodes: Nodes = body["prompt"]
        for key, node in nodes.items():
            if node["class_type"] not in CLASSES or node["class_type"] in self.lacking:
                message = f"Cannot execute because node {node['class_type']} does not exist."
                return _refusal("invalid_prompt", message, f"Node ID '#{key}'", {})
        outputs = [key for key, node in nodes.items() if CLASSES[node["class_type"]].is_output]
        errors = {key: found for key, node in nodes.items() if (found := self._check(nodes, node))}
        if errors:
            told = {
                key: {"errors": found, "dependent_outputs": outputs, "class_type": nodes[key]["class_type"]}
                for key, found in errors.items()
            }
            return _refusal("prompt_outputs_failed_validation", "Prompt outputs failed validation", "", told)
        job_id = body.get("prompt_id")
        if self.is_old or job_id is None:
            job_id = str(uuid.uuid4())
        elif not _UUID.fullmatch(job_id):
            return _refusal("invalid_prompt_id", "prompt_id must be a valid UUID", "", {})
        self.prompts.append(nodes)
        self.count += 1
        extra = {**body.get("extra_data", {}), "client_id": body.get("client_id")}
        if not self.loses_jobs:
            heapq.heappush(self.queue, (self.count, job_id, nodes, extra, outputs))
        return JSONResponse({"prompt_id": job_id, "number": self.count, "node_errors": {}})

    def _check(self, nodes: Nodes, node: dict[str, Any]) -> list[dict[str, Any]]:
        kind, found = CLASSES[node["class_type"]], []
        for name, declared in kind.declared().items():
            value = node["inputs"].get(name)
            if name not in node["inputs"]:
                if name in kind.required:
                    found.append(_fault("required_input_missing", "Required input is missing", name, name))
            elif isinstance(value, list):
                outputs = CLASSES[nodes[value[0]]["class_type"]].outputs
                if outputs[value[1]] != declared[0]:
                    details = f"{name}, received_type({outputs[value[1]]}) mismatch input_type({declared[0]})"
                    found.append(_fault("return_type_mismatch", "Return type mismatch", details, name))
            elif name == "image":
                if self._place(value) not in self.files:
                    details = f"image - Invalid image file: {value}"
                    found.append(_fault("custom_validation_failed", "Custom validation failed for node", details, name))
            else:
                found += self._check_literal(name, declared, value)
        return found

    def _check_literal(self, name: str, declared: Any, value: Any) -> Iterator[dict[str, Any]]:
        options = declared[0] if isinstance(declared[0], list) else declared[1].get("options")
        if options is not None and value not in options:
            yield _fault("value_not_in_list", "Value not in list", f"{name}: '{value}' not in {options}", name)
        if "max" in declared[1] and value > declared[1]["max"]:
            yield _fault("value_bigger_than_max", f"Value {value} bigger than max of {declared[1]['max']}", name, name)
        if "min" in declared[1] and value < declared[1]["min"]:
            yield _fault(
                "value_smaller_than_min", f"Value {value} smaller than min of {declared[1]['min']}", name, name
            )


def _info(name: str, kind: NodeClass) -> dict[str, Any]:
    inputs = {"required": dict(kind.required)} | ({"optional": dict(kind.optional)} if kind.optional else {})
    return {"input": inputs, "output": list(kind.outputs), "name": name, "output_node": kind.is_output}


def _refusal(kind: str, message: str, details: str, nodes: dict[str, Any]) -> Response:
    error = {"type": kind, "message": message, "details": details, "extra_info": {}}
    return JSONResponse({"error": error, "node_errors": nodes}, 400)


def _fault(kind: str, message: str, details: str, name: str) -> dict[str, Any]:
    return {"type": kind, "message": message, "details": details, "extra_info": {"input_name": name}}


@contextmanager
def serving_comfyui(**behaviour: Any) -> Iterator[ComfyUIServer]:
    """Serve the API; the server."""
    server = ComfyUIServer(**behaviour)
    out = io.BytesIO()
    Image.new("RGB", (64, 64), "white").save(out, "PNG")
    server.files["input", "", "example.png"] = out.getvalue()

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        worker = asyncio.create_task(server.work())
        yield
        worker.cancel()

    routes: list[Any] = [
        WebSocketRoute("/ws", server.listen),
        Route("/{path:path}", server.answer, methods=["GET", "POST"]),
    ]
    app = Starlette(routes=[Mount(server.prefix, routes=routes)] if server.prefix else routes, lifespan=lifespan)
    with serving(cast("FastAPI", app)) as url:
        server.url = url + server.prefix
        yield server
