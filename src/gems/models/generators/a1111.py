"""Generate images with the API of AUTOMATIC1111's web UI, which Forge and SD.Next offer too."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import secrets
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gems.errors import (
    AuthenticationError,
    ConfigurationError,
    GemsError,
    InvalidImageError,
    ModelUnavailableError,
    OutOfMemoryError,
    RejectedRequestError,
    UnreadableReplyError,
)
from gems.generation import GeneratorCapabilities, ImageRequest
from gems.models.generators.remote import RawImage, RemoteGenerator, RemoteLimits
from gems.models.http import MAX_IMAGE_BYTES, error_from_response, make_client_options, translate_error
from gems.models.images import encode_png, unpack_base64
from gems.models.masks import read_mask
from gems.observability.redaction import display_url, hide, redact, shorten

if TYPE_CHECKING:
    import httpx

_LOG = logging.getLogger(__name__)
_POLL_S = 0.5
"""Seconds between two questions for the progress."""
_INTERRUPT_S = 10.0
"""Most seconds for interrupting what is being drawn."""
_STRENGTH = 0.75
"""Denoising strength of edits if the request has none: the web UI's own default."""
_ORIGINAL = 1
"""`inpainting_fill`: the masked part begins as it is in the source."""
_MAX_NAMES = 30
_KEEPS_RECORDED = ("distilled_cfg_scale", "scheduler", "inpainting_fill", "inpaint_full_res", "mask_blur")
_USED = {
    "steps": "steps",
    "cfg_scale": "guidance",
    "sampler_name": "sampler",
    "sd_model_name": "checkpoint",
    "sd_model_hash": "model_hash",
    "denoising_strength": "strength",
    "clip_skip": "clip_skip",
    "sd_vae_name": "vae",
}
"""Fields of the answer's `info`, and how they are recorded."""


class A1111Generator(RemoteGenerator["httpx.AsyncClient"]):
    """Generates and edits images with a web UI that was started with `--api`.

    Sends one request at a time, since the server draws one at a time: further ones would spend their time limit in
    its queue. It waits while the server draws for others, at most as long as for an image. While it draws, its
    progress is asked for and reported; a cancelled request interrupts the server, unless it is drawing for somebody
    else. The parameters of a result are those that the server says it used.

    Args:
        url: The web UI's address, e.g. `http://127.0.0.1:7860`.
        api_key: `USER:PASSWORD` of `--api-auth`; without a colon it is sent as a bearer token.
        size: Default width and height in pixels.
        sampler: Sampler by its name or an alias; None for the server's own.
        checkpoint: Checkpoint by its title, name, file or hash; None for the one that is loaded.
        extra_body: Additional fields of the request, e.g. `{"scheduler": "Karras", "inpaint_full_res": true}`.
        price_usd: US dollars per image; None if unknown.
        limits: Timeout, attempts and defaults of requests; its concurrency is not used.
    """

    _times_itself = True

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        size: tuple[int, int] = (1024, 1024),
        sampler: str | None = None,
        checkpoint: str | None = None,
        extra_body: Mapping[str, Any] | None = None,
        price_usd: float | None = None,
        limits: RemoteLimits | None = None,
    ) -> None:
        address = display_url(url)
        capabilities = GeneratorCapabilities(
            model=f"a1111:{address}" + (f" {checkpoint}" if checkpoint else ""),
            default_size=size,
            size_multiple=8,
            min_side=64,
            editing=True,
            inpainting=True,
            strengths=True,
            interruptible=True,
            price_usd=price_usd,
        )
        super().__init__(
            capabilities,
            endpoint=f"The web UI at {address}",
            url=url.rstrip("/"),
            api_key=api_key,
            extra_body=extra_body,
            limits=replace(limits or RemoteLimits(), concurrency=1),
        )
        if api_key and ":" in api_key:
            self._secrets = (*self._secrets, api_key.partition(":")[2])
        self._names = {"samplers": sampler, "sd-models": checkpoint}
        self._unchecked = {each for each, name in self._names.items() if name}

    def _open(self) -> httpx.AsyncClient:
        import httpx  # noqa: PLC0415 - loaded with the first request

        options = make_client_options(httpx.Limits, self._limits.timeout_s, MAX_IMAGE_BYTES)
        user, colon, password = (self._api_key or "").partition(":")
        if colon:
            options["auth"] = httpx.BasicAuth(user, password)
        elif user:
            options["headers"] = options["headers"] | {"Authorization": f"Bearer {user}"}
        return httpx.AsyncClient(base_url=f"{self._url}/sdapi/v1/", **options)

    async def _close(self, client: httpx.AsyncClient) -> None:
        await client.aclose()

    async def _wait_turn(self, client: httpx.AsyncClient) -> None:
        """Wait while the server draws for others, at most the time of an attempt.

        It would draw a request that waited in its queue, and was given up, all the same.
        """
        deadline = time.monotonic() + self._limits.timeout_s
        while _is_busy(await self._get_progress(client)) and time.monotonic() < deadline:
            _LOG.info("%s is drawing for somebody else.", self._endpoint)
            await asyncio.sleep(_POLL_S)

    async def _draw(self, client: httpx.AsyncClient, request: ImageRequest) -> RawImage:
        await self._wait_turn(client)
        async with asyncio.timeout(self._limits.timeout_s):
            return await self._draw_in_turn(client, request)

    async def _draw_in_turn(self, client: httpx.AsyncClient, request: ImageRequest) -> RawImage:
        for kind in sorted(self._unchecked):
            await self._resolve_name(client, kind)
        path, body = await asyncio.to_thread(self._build_body, request)
        job = _Job(body["force_task_id"], before=await self._get_progress(client))
        sending = asyncio.create_task(self._post(client, path, body))
        try:
            while not (await asyncio.wait({sending}, timeout=_POLL_S))[0]:
                await self._follow(client, job, request)
            answer = await sending
        except asyncio.CancelledError:
            sending.cancel()
            await self._interrupt(client, job)
            raise
        finally:
            sending.cancel()
        return self._read_answer(request, body, answer, job)

    async def _resolve_name(self, client: httpx.AsyncClient, kind: str) -> None:
        """Replace the sampler or checkpoint by the server's name of it; ConfigurationError if it has none.

        It would draw with the loaded checkpoint instead of an unknown one.
        """
        name = self._names[kind] or ""
        found = self._read(await client.get(kind))
        items = [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
        own = "title" if kind == "sd-models" else "name"
        known = {alias: item[own] for item in reversed(items) for alias in _find_aliases(item) if own in item}
        if name.lower() not in known:
            names = [str(item.get("model_name" if kind == "sd-models" else "name")) for item in items]
            rest = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
            what, setting = ("sampler", "SAMPLER") if kind == "samplers" else ("checkpoint", "CHECKPOINT")
            raise ConfigurationError(
                f"{self._endpoint} has no {what} {name!r}.",
                hint=f"Set GEMS_GENERATOR__{setting} to one of: {', '.join(names[:_MAX_NAMES])}{rest}.",
            )
        self._names[kind] = known[name.lower()]
        self._unchecked.discard(kind)

    def _build_body(self, request: ImageRequest) -> tuple[str, dict[str, Any]]:
        """Return the path and the fields of a request. Blocking."""
        sampler, checkpoint = self._names["samplers"], self._names["sd-models"]
        optional = {
            "steps": request.steps,
            "cfg_scale": request.guidance,
            "sampler_name": sampler,
            "override_settings": {"sd_model_checkpoint": checkpoint} if checkpoint else None,
        }
        body: dict[str, Any] = {
            "prompt": request.prompt,
            "negative_prompt": request.negative_prompt,
            "seed": request.seed,
            "width": request.width,
            "height": request.height,
            "batch_size": 1,
            "n_iter": 1,
            "force_task_id": f"gems-{secrets.token_hex(8)}",
            **{name: value for name, value in optional.items() if value is not None},
        }
        path = "txt2img"
        defaults: dict[str, Any] = {}
        if request.source is not None:
            path, defaults = "img2img", {"denoising_strength": _STRENGTH}
            body["init_images"] = [_encode(request.source)]
            if request.strength is not None:
                body["denoising_strength"] = request.strength
            if request.mask is not None:
                mask = read_mask(request.mask, (request.width, request.height))
                body["mask"] = _encode(encode_png(mask))
                defaults |= {"inpainting_fill": _ORIGINAL, "inpaint_full_res": False, "mask_blur": 4}
        merged = {**defaults, **self._extra, **body}
        if isinstance(own := self._extra.get("override_settings"), dict):
            merged["override_settings"] = {**own, **body.get("override_settings", {})}
        return path, merged

    async def _post(self, client: httpx.AsyncClient, path: str, body: Mapping[str, Any]) -> Any:
        response = await client.post(path, content=await asyncio.to_thread(json.dumps, body), headers=_JSON)
        return await asyncio.to_thread(self._read, response)

    def _read(self, response: httpx.Response) -> Any:
        """Return the JSON of a response. Blocking for large ones."""
        if not response.is_success:
            raise self._error_of(response)
        try:
            return json.loads(response.content)
        except ValueError as error:
            what = f"{len(response.content)} bytes that are not JSON, beginning with {response.content[:48]!r}"
            raise UnreadableReplyError(f"{self._endpoint} sent {what}.") from error

    def _error_of(self, response: httpx.Response) -> GemsError:
        """Return the error that the web UI reports as `{"error": KIND, "detail": TEXT, "errors": TEXT}`."""
        try:
            found = json.loads(response.content)
        except ValueError:
            found = None
        fields = found if isinstance(found, dict) else {}
        parts = [part for name in ("error", "detail", "errors") if isinstance(part := fields.get(name), str) and part]
        text = shorten(redact(": ".join(parts), *self._secrets))
        what = f"{self._endpoint} answered {response.status_code}: {text}"
        if _is_out_of_memory(text):
            return OutOfMemoryError(what, hint="Use a smaller size, or start the web UI with --medvram or --lowvram.")
        if response.status_code == 404 and text in ("", "Not Found"):
            hint = "Start the web UI with --api, and check its address."
            return ModelUnavailableError(f"{self._endpoint} has no API at {response.request.url.path}.", hint=hint)
        if response.status_code == 401:
            hint = "Set GEMS_GENERATOR__API_KEY to USER:PASSWORD, as given to the web UI by --api-auth."
            return AuthenticationError(what, hint=hint)
        if "NansException" in text:
            return RejectedRequestError(what, hint="Start the web UI with --no-half-vae, or with --no-half.")
        return error_from_response(response, self._endpoint, *self._secrets)

    async def _get_progress(self, client: httpx.AsyncClient) -> Mapping[str, Any]:
        found = self._read(await client.get("progress", params={"skip_current_image": "true"}))
        return found if isinstance(found, dict) else {}

    async def _follow(self, client: httpx.AsyncClient, job: _Job, request: ImageRequest) -> None:
        """Ask for the progress, and report it. Drawing goes on where it cannot be told."""
        try:
            steps = job.update(await self._get_progress(client))
        except Exception as error:  # noqa: BLE001 - the server may be busy; the image is what counts
            _LOG.debug("No progress: %s", translate_error(error, self._endpoint, *self._secrets))
            return
        if steps is not None and request.on_progress is not None:
            request.on_progress(*steps)

    async def _interrupt(self, client: httpx.AsyncClient, job: _Job) -> None:
        """Stop the server, unless it draws for somebody else."""
        try:
            async with asyncio.timeout(_INTERRUPT_S):
                job.update(await self._get_progress(client))
                if job.is_drawn:
                    self._read(await client.post("interrupt"))
        except Exception as error:  # noqa: BLE001 - the request is cancelled all the same
            _LOG.warning("Not interrupted: %s", translate_error(error, self._endpoint, *self._secrets))

    def _read_answer(self, request: ImageRequest, body: Mapping[str, Any], answer: Any, job: _Job) -> RawImage:
        fields = answer if isinstance(answer, dict) else {}
        used = _parse_info(fields.get("info"))
        images = fields.get("images")
        if not isinstance(images, list) or not images or not isinstance(images[0], str):
            message = shorten(redact(str(used.get("infotexts") or fields.get("info") or answer), *self._secrets))
            if _is_out_of_memory(message):
                raise OutOfMemoryError(f"{self._endpoint} is out of memory: {message}")
            raise UnreadableReplyError(f"{self._endpoint} sent no image: {message}")
        try:
            data = unpack_base64(images[0])
        except ValueError as error:
            what = f"an image that is not valid base64, beginning with {images[0][:48]!r}"
            raise InvalidImageError(f"{self._endpoint} sent {what}.") from error
        warnings = [] if used else [f"{self._endpoint} did not tell what it used, so what was sent is recorded."]
        if job.was_interrupted:
            warnings.append(f"{self._endpoint} was interrupted by somebody else: the image may be unfinished.")
        sent = {"sampler_name": self._names["samplers"], "sd_model_name": self._names["sd-models"], **body}
        told = {**{name: sent.get(name) for name in _USED}, **{name: used.get(name) for name in _USED if name in used}}
        if request.source is None and "enable_hr" not in body:
            # The web UI tells the default of edits here too.
            told.pop("denoising_strength")
        parameters = {_USED[name]: value for name, value in told.items() if value not in (None, "")}
        parameters |= {name: body[name] for name in _KEEPS_RECORDED if name in body}
        more = used.get("extra_generation_params")
        if isinstance(more, dict) and isinstance(more.get("Schedule type"), str):
            parameters["scheduler"] = more["Schedule type"]
        if request.negative_prompt:
            parameters["negative_prompt"] = request.negative_prompt
        public = {n: hide(v, *self._secrets) if isinstance(v, str) else v for n, v in parameters.items()}
        seed = used.get("seed")
        return RawImage(
            data=data, seed=seed if isinstance(seed, int) else request.seed, parameters=public, warnings=tuple(warnings)
        )


_JSON = {"Content-Type": "application/json"}


class _Job:
    """One request to the server, and whether it is the one that is being drawn."""

    def __init__(self, task: str, before: Mapping[str, Any]) -> None:
        self._task = task
        self._begun_before = _state_of(before).get("job_timestamp") if _is_busy(before) else None
        self.is_drawn = False
        self.was_interrupted = False

    def update(self, progress: Mapping[str, Any]) -> tuple[int, int] | None:
        """Return the steps done and their number if the server draws this request."""
        state = _state_of(progress)
        current = progress.get("current_task")
        if isinstance(current, str) and current:
            is_ours = current == self._task
        else:
            # Servers that do not tell the task: another job than the one that was there before.
            begun = state.get("job_timestamp")
            is_ours = self._begun_before is None or begun != self._begun_before
        self.is_drawn = is_ours and _is_busy(progress)
        if not self.is_drawn:
            return None
        self.was_interrupted = self.was_interrupted or state.get("interrupted") is True
        done, total = state.get("sampling_step"), state.get("sampling_steps")
        return (done, total) if isinstance(done, int) and isinstance(total, int) and 0 < done <= total else None


def _find_aliases(item: Mapping[str, Any]) -> set[str]:
    """Return what a sampler or checkpoint may be called, in lower case: also by its file, and without its hash."""
    named = [item.get(name) for name in ("name", "title", "model_name", "hash", "sha256", "filename")]
    aliases = item.get("aliases")
    named += aliases if isinstance(aliases, list) else []
    found = {value.lower() for value in named if isinstance(value, str) and value}
    found |= {each.replace("\\", "/").rpartition("/")[2] for each in found}
    return found | {each.rpartition(" [")[0] for each in found if each.endswith("]")}


def _state_of(progress: Mapping[str, Any]) -> Mapping[str, Any]:
    state = progress.get("state")
    return state if isinstance(state, dict) else {}


def _is_busy(progress: Mapping[str, Any]) -> bool:
    return bool(_state_of(progress).get("job_count") or _state_of(progress).get("job"))


def _parse_info(info: Any) -> dict[str, Any]:
    """Return what the server says it used, which it sends as JSON in a string; empty if it cannot be read."""
    try:
        found = json.loads(info) if isinstance(info, str) else info
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _is_out_of_memory(text: str) -> bool:
    return "OutOfMemory" in text or "out of memory" in text.lower()


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
