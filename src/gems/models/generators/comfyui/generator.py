"""The image generator of a ComfyUI workflow."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import uuid
from collections.abc import Mapping
from typing import Any, ClassVar

from PIL import Image, ImageChops

from gems.errors import EditingUnsupportedError, RejectedRequestError
from gems.generation import GeneratorCapabilities, ImageRequest
from gems.models.generators.comfyui.inputs import bind
from gems.models.generators.comfyui.protocol import ComfyUIServer
from gems.models.generators.comfyui.workflow import Nodes, Workflow, copy_for, leave_out
from gems.models.generators.remote import RawImage, RemoteGenerator, RemoteLimits
from gems.models.http import translate_error, with_retries
from gems.models.images import encode_png
from gems.models.masks import read_mask
from gems.observability.redaction import display_url, hide, secrets_in

_MULTIPLES = {"Flux2": 16, "HunyuanImage": 32, "Latent": 8}
"""Pixels of one latent pixel, by a word in the class of the node with the size: the server rounds other sizes down."""
_DEFAULT_SIZE = (1024, 1024)


class ComfyUIGenerator(RemoteGenerator[ComfyUIServer]):
    """Generates and edits images with a workflow on a ComfyUI server.

    The parts of a request are set in the workflow's nodes as `bind` finds them; what is not bound stays as it is in the
    file. Only the nodes that the output depends on are sent. A request without a source, or with fewer references than
    the workflow has, leaves out the nodes that load them, if the workflow can do without. The result's
    `parameters["nodes"]` are the nodes as they were sent.

    Args:
        workflow: The file of the workflow, in API format.
        url: The server's address, e.g. `http://127.0.0.1:8188`, perhaps with a path.
        api_key: Sent as a bearer token.
        extra_body: Further fields of `POST /prompt`, e.g. `{"extra_data": {"api_key_comfy_org": ...}}`.
        price_usd: US dollars per image; None if unknown.
        limits: Concurrency, attempts and defaults of requests. The timeout limits the execution of a workflow, and how
            long it may wait in the server's queue without coming closer.

    Raises:
        ModelFilesError: the workflow cannot be read, or is not in API format.
        ConfigurationError: it is not clear what of a request goes where.
    """

    _times_itself: ClassVar[bool] = True

    def __init__(
        self,
        workflow: str | os.PathLike[str],
        url: str = "http://127.0.0.1:8188",
        *,
        api_key: str | None = None,
        extra_body: Mapping[str, Any] | None = None,
        price_usd: float | None = None,
        limits: RemoteLimits | None = None,
    ) -> None:
        self.workflow = Workflow.read(workflow)
        self.binding = bind(self.workflow)
        limits = limits or RemoteLimits()
        size = self.binding.value(self.workflow, "width"), self.binding.value(self.workflow, "height")
        inputs = self.binding.inputs
        scale = self.binding.value(self.workflow, "guidance") if limits.guidance is None else limits.guidance
        is_guided = inputs.get("guidance", [("", "")])[0][1] != "cfg" or scale != 1
        multiple = self._find_multiple()
        super().__init__(
            GeneratorCapabilities(
                model=f"comfyui:{self.workflow.name}#{self.workflow.digest}",
                default_size=(size[0], size[1])
                if isinstance(size[0], int) and isinstance(size[1], int)
                else _DEFAULT_SIZE,
                size_multiple=multiple,
                min_side=16 if multiple > 1 else 1,
                seeds="seed" in inputs,
                # At a scale of 1 the server does not evaluate the negative prompt.
                negative_prompts="negative" in inputs and is_guided,
                editing=self.binding.image is not None,
                inpainting=self.binding.mask is not None,
                references=len(self.binding.references),
                strengths="strength" in inputs and self.binding.begins_with_image,
                interruptible=True,
                price_usd=price_usd,
            ),
            endpoint=f"The ComfyUI server at {display_url(url)}",
            url=url.rstrip("/"),
            api_key=api_key,
            extra_body=extra_body,
            limits=limits,
        )

    def describe_binding(self) -> str:
        """Return in words which part of a request is set in which node."""
        return self.binding.describe(self.workflow)

    async def find_missing(self) -> list[str]:
        """Return what the server lacks for the workflow: node classes, and choices such as models' files."""
        nodes = copy_for(self.workflow, self.binding.output)
        try:
            return await (await self._client()).find_missing(nodes)
        except Exception as error:
            raise translate_error(error, self._endpoint, *self._secrets) from error

    def _find_multiple(self) -> int:
        node = self.binding.inputs["width"][0].node if "width" in self.binding.inputs else ""
        kind = self.workflow.class_of(node) if node else ""
        return next((pixels for word, pixels in _MULTIPLES.items() if word in kind), 1)

    def _open(self) -> ComfyUIServer:
        return ComfyUIServer(
            self._url,
            endpoint=self._endpoint,
            api_key=self._api_key,
            timeout_s=self._limits.timeout_s,
            extra=self._extra,
            secrets=self._secrets,
        )

    async def _close(self, client: ComfyUIServer) -> None:
        await client.aclose()

    async def _draw(self, client: ComfyUIServer, request: ImageRequest) -> RawImage:
        nodes = copy_for(self.workflow, self.binding.output)
        used = self._set_values(nodes, request)
        await self._set_images(client, nodes, request)
        output = self.binding.output
        data = await self._run(client, nodes, request)
        if data is None:
            # No input changed since the server last executed it: older ones then name no image, and a file that was
            # deleted meanwhile is not drawn again. An input that the node does not have is another one all the same.
            nodes[output]["inputs"]["gems_run"] = str(uuid.uuid4())
            data = await self._run(client, nodes, request)
        if data is None:
            what = f"{self._endpoint} executed the workflow, but {self.workflow.describe(output)} has no image."
            raise RejectedRequestError(what, hint="Title another node `GEMS output`, and look at the server's log.")
        parameters = {**used, "workflow": self.workflow.name, "nodes": self._as_recorded(nodes)}
        seed = request.seed if self._capabilities.seeds else None
        return RawImage(data=data, seed=seed, parameters=parameters)

    async def _run(self, client: ComfyUIServer, nodes: Nodes, request: ImageRequest) -> bytes | None:
        """Run the nodes and return their image; None if the server has none. Only fetching it is repeated."""
        image = await client.run(nodes, self.binding.output, request.on_progress, self.binding.sampler)
        if image is None:
            return None

        async def fetch() -> bytes | None:
            try:
                return await client.fetch(image)
            except Exception as error:
                raise translate_error(error, self._endpoint, *self._secrets) from error

        return await with_retries(fetch, attempts=self._limits.attempts, first_wait_s=self._limits.first_wait_s)

    def _set_values(self, nodes: Nodes, request: ImageRequest) -> dict[str, Any]:
        """Set texts and numbers of a request in `nodes`, and return what decides the pixels, by GEMS' own names."""
        values = {
            "prompt": request.prompt,
            "negative": request.negative_prompt or None,
            "seed": request.seed,
            "width": request.width,
            "height": request.height,
            "batch": 1,
            "steps": request.steps,
            "guidance": request.guidance,
            "strength": request.strength,
        }
        used: dict[str, Any] = {}
        for part, targets in self.binding.inputs.items():
            for node, name in targets:
                if node in nodes and values[part] is not None:
                    nodes[node]["inputs"][name] = values[part]
            node, name = targets[0]
            value = nodes[node]["inputs"].get(name) if node in nodes else None
            if part in ("negative", "steps", "guidance", "strength") and isinstance(value, str | int | float):
                used["negative_prompt" if part == "negative" else part] = value
        if not self._capabilities.strengths:
            used.pop("strength", None)
        return {name: value for name, value in used.items() if value != ""}

    async def _set_images(self, client: ComfyUIServer, nodes: Nodes, request: ImageRequest) -> None:
        """Upload the images of a request and set them in `nodes`; leave out the nodes for what it does not have."""
        binding = self.binding
        given = dict(zip(binding.references, request.references, strict=False))
        if binding.image is not None and request.source is not None:
            given[binding.image] = request.source
        for node, data in given.items():
            nodes[node]["inputs"]["image"] = await client.upload(data, _name_upload(data))
        if binding.mask is not None and request.source is not None:
            mask = await asyncio.to_thread(_encode_mask, request)
            original = nodes[binding.mask]["inputs"]["image"] if binding.mask == binding.image else ""
            name = _name_upload(mask, original)
            nodes[binding.mask]["inputs"]["image"] = await client.upload(mask, name, original=original)
        bound = [node for node in dict.fromkeys((binding.image, binding.mask, *binding.references)) if node is not None]
        unused = [node for node in bound if node not in given and (node != binding.mask or request.source is None)]
        if not unused:
            return
        optional = await client.load_optional_inputs({node["class_type"] for node in nodes.values()})
        kept = leave_out(nodes, unused, binding.output, lambda each: optional.get(each, frozenset()))
        if not kept or (binding.sampler is not None and binding.sampler not in nodes):
            what = "an image to edit" if request.source is None else "more reference images"
            hint = f"Pass it, or use a workflow that can do without {', '.join(map(self.workflow.describe, unused))}."
            raise EditingUnsupportedError(f"The workflow {self.workflow.name} needs {what}.", hint=hint)

    def _as_recorded(self, nodes: Nodes) -> Nodes:
        """Return the nodes as they were sent, without keys: they are shown, and written into images."""

        def hidden(name: str, value: Any) -> Any:
            if not isinstance(value, str):
                return value
            # By its name only: names of files look random, too.
            return "[secret]" if value and any(secrets_in({name: "x"})) else hide(value, *self._secrets)

        return {
            key: {**node, "inputs": {name: hidden(name, value) for name, value in node["inputs"].items()}}
            for key, node in nodes.items()
        }


def _encode_mask(request: ImageRequest) -> bytes:
    """Return the mask as PNG: what is to be changed is white, and transparent; everything if there is none. Blocking.

    So it is the same by each channel that nodes read: they take transparency for what is to be changed.
    """
    size = (request.width, request.height)
    if request.mask is not None:
        mask = read_mask(request.mask, size)
    else:
        with Image.open(io.BytesIO(request.source or b"")) as source:
            mask = Image.new("L", source.size, 255)
    return encode_png(Image.merge("RGBA", (mask, mask, mask, ImageChops.invert(mask))))


def _name_upload(data: bytes, original: str = "") -> str:
    """Return a name by the content: the same image is stored once, and nodes that read it need not run again."""
    return f"{hashlib.sha256(original.encode() + data).hexdigest()[:32]}.png"
