"""What chat and image servers refuse or do otherwise, by what happens; several members of each kind."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable
from typing import Any

from PIL import Image, PngImagePlugin
from starlette.responses import JSONResponse, Response, StreamingResponse

from benchmarks.odd_answers import Asked, Chat, Message, Picture, Reply, in_json, in_task, refuse, slowly, stream
from tests.support.stub.records import Recorded


def _refused(unless: Callable[[Asked], bool], status: int, message: Any, code: Any = None) -> Chat:
    return lambda asked: None if unless(asked) else refuse(status, message, code)


def _without_logprobs(asked: Asked) -> bool:
    return not asked.body.get("logprobs")


LOGPROBS = {
    "403": _refused(_without_logprobs, 403, "You are not allowed to request logprobs from this model"),
    "400": _refused(_without_logprobs, 400, "logprobs are not supported for this model"),
    "500": _refused(_without_logprobs, 500, "`logprobs` is not supported with this model"),
    "422, a list": _refused(
        _without_logprobs, 422, [{"type": "extra_forbidden", "loc": ["body", "logprobs"], "msg": "Extra inputs"}]
    ),
}


def _no_schema(asked: Asked) -> bool:
    return asked.format != "json_schema"


def _no_format(asked: Asked) -> bool:
    return asked.format is None


SCHEMAS = {
    "500 without a word": _refused(_no_schema, 500, "Internal Server Error"),
    "400": _refused(_no_schema, 400, "response_format of type 'json_schema' is not supported."),
    "500, grammar": _refused(_no_schema, 500, "Failed to transform json schema into a grammar: error"),
    "every format, 500": _refused(_no_format, 500, "Internal Server Error"),
    "every format, 422": _refused(_no_format, 422, "response_format: Extra inputs are not permitted"),
}


def _one_picture(asked: Asked) -> bool:
    return asked.pictures <= 1


ONE_PICTURE = {
    "Ollama": _refused(_one_picture, 500, "this model only supports a single image per message"),
    "vLLM": _refused(_one_picture, 400, "At most 1 image(s) may be provided in one prompt."),
    "llama.cpp": _refused(_one_picture, 400, "You set image=1 (or defaulted to 1) in `--limit-mm-per-prompt`"),
}


def _strings(asked: Asked) -> bool:
    return all(
        isinstance(message["content"], str) or any(part["type"] != "text" for part in message["content"])
        for message in asked.body["messages"]
    )


STRINGS = {
    "422": _refused(_strings, 422, "messages[1].content: invalid type: sequence, expected a string"),
    "400": _refused(_strings, 400, "Message content must be a string for text-only messages"),
}


def _no_system(asked: Asked) -> bool:
    return all(message["role"] != "system" for message in asked.body["messages"])


NO_SYSTEM = {
    "400": _refused(_no_system, 400, "System role not supported"),
    "500": _refused(_no_system, 500, "Jinja Exception: System role not supported"),
}


def _blind(asked: Asked) -> bool:
    return not asked.pictures


_BLIND = {
    "llama.cpp": (500, "image input is not supported - hint: you may need to provide the mmproj"),
    "OpenRouter": (404, "No endpoints found that support image input"),
    "Ollama": (500, "this model is missing data required for image input"),
    "vLLM": (400, "model is not a multimodal model"),
}
BLIND = {name: _refused(_blind, *said) for name, said in _BLIND.items()}
BLIND_REFLECTOR = {
    name: _refused(lambda asked: asked.is_judging or _blind(asked), *said) for name, said in _BLIND.items()
}

_EMPTY = {"id": "c", "object": "chat.completion", "created": 0, "model": "odd", "choices": []}


def _no_choices(asked: Asked) -> Reply:
    if asked.body.get("stream"):
        body = json.dumps(_EMPTY | {"object": "chat.completion.chunk"})
        return StreamingResponse(iter([f"data: {body}\n\ndata: [DONE]\n\n".encode()]), media_type="text/event-stream")
    return JSONResponse(_EMPTY)


NO_CHOICES = {"always": _no_choices, "JSON where a stream was asked for": lambda _asked: JSONResponse(_EMPTY)}
NO_CHOICES_ONCE = {"at first": lambda asked: _no_choices(asked) if asked.number == 1 else None}


def _fits(most: int) -> Callable[[Asked], bool]:
    return lambda asked: _area(asked) <= most


def _area(asked: Asked) -> int:
    urls = [
        part["image_url"]["url"]
        for message in asked.body["messages"]
        if isinstance(message["content"], list)
        for part in message["content"]
        if part["type"] == "image_url"
    ]
    areas = [Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).size for url in urls]
    return sum(width * height for width, height in areas)


_CONTEXT = {
    "llama.cpp": "the request exceeds the available context size. try increasing the context size",
    "vLLM": "This model's maximum context length is 4096 tokens. However, you requested 5120 tokens",
    "SGLang": "The input (5120 tokens) is longer than the model's maximum model length (4096 tokens).",
}
CONTEXT = {name: _refused(_fits(64 * 64), 400, said) for name, said in _CONTEXT.items()}
"""What fits is one picture of a quarter of the size."""
NO_CONTEXT = {name: _refused(lambda _asked: False, 400, said) for name, said in _CONTEXT.items()}
"""Nothing fits."""


def _drip(seconds: float) -> Chat:
    def edit(asked: Asked) -> Reply:
        if not asked.body.get("stream"):
            return slowly([b" "] * 8 + [json.dumps(_whole(asked)).encode()], seconds, "application/json")
        pieces = stream(Message(asked.answer))
        return slowly([b": so far so good\n\n"] * 8 + pieces, seconds)

    return in_task("route", edit)


def _whole(asked: Asked) -> dict[str, Any]:
    message = {"role": "assistant", "content": asked.answer}
    return _EMPTY | {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}


SLOW = {"a token now and then": _drip(0.5)}
SILENT = {"no answer": lambda _asked: slowly([b"{}"], 5.0, "application/json")}


def _events(edit: Callable[[list[bytes]], list[bytes]]) -> Chat:
    def sent(asked: Asked) -> Reply:
        pieces = stream(Message(asked.answer), {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18})
        return StreamingResponse(iter(edit(pieces)), media_type="text/event-stream") if _streams(asked) else None

    return sent


def _streams(asked: Asked) -> bool:
    return bool(asked.body.get("stream"))


def _in_stream(body: Any) -> Chat:
    return _events(lambda pieces: [*pieces[:1], f"data: {json.dumps(body)}\n\n".encode()])


STREAMS = {
    "JSON where a stream was asked for": lambda asked: JSONResponse(_whole(asked)),
    "lines that end in CR LF": _events(lambda pieces: [piece.replace(b"\n", b"\r\n") for piece in pieces]),
    "no [DONE]": _events(lambda pieces: pieces[:-1]),
    "no usage": _events(lambda pieces: [*pieces[:-2], pieces[-1]]),
    "comments and empty events": _events(lambda pieces: [b": PROCESSING\n\n" + piece for piece in pieces]),
    "all in one chunk": _events(lambda pieces: [b"".join(pieces)]),
    "cut within characters": _events(lambda pieces: [bytes([byte]) for byte in b"".join(pieces)]),
}
STREAMS_REFUSED = {
    "stream": _refused(lambda asked: not _streams(asked), 400, "stream=true is not supported by this model"),
    "stream_options": _refused(
        lambda asked: "stream_options" not in asked.body, 400, "Unknown parameter: 'stream_options'."
    ),
}
ERRORS_IN_STREAMS = {
    "OpenRouter": _in_stream({"error": {"code": 502, "message": "Provider returned error"}}),
    "vLLM": _in_stream({"object": "error", "message": "Internal server error", "type": "InternalServerError"}),
}
_TEMPERATURE = "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) is supported."
PARAMETERS = {
    "temperature": _refused(lambda asked: "temperature" not in asked.body, 400, _TEMPERATURE, "unsupported_value"),
    "all but messages": _refused(
        lambda asked: not {"temperature", "response_format", "logprobs", "stream_options"} & asked.body.keys(),
        400,
        "Bad Request",
    ),
}


def _broken(asked: Asked) -> Reply:
    pieces = stream(Message(asked.answer))
    return StreamingResponse(iter(pieces[:2]), media_type="text/event-stream")


def _without_end(asked: Asked) -> Reply:
    return Message(asked.answer[: len(asked.answer) // 2], None)


def _babble(asked: Asked) -> Reply:
    if not asked.body.get("stream"):
        return Message("and so on " * 300_000)
    piece = stream(Message("and so on " * 20))[1]
    return StreamingResponse((piece for _ in range(20_000)), media_type="text/event-stream")


BROKEN = {
    "in the middle": _broken,
    "without a finish reason": lambda asked: _without_end(asked) if asked.body.get("stream") else _broken_json(asked),
}


def _broken_json(asked: Asked) -> Reply:
    return Message(asked.answer[: len(asked.answer) // 2], "length")


BROKEN_ONCE = {
    name: in_json(lambda asked, edit=edit: edit(asked) if asked.number <= 2 else None) for name, edit in BROKEN.items()
}
ENDLESS_STREAMS = {"the same words for ever": _babble}
LARGE = {
    "4 MB of empty choices": lambda _asked: Response(
        b'{"choices":[' + b"[]," * 1_400_000 + b"[]]}", media_type="application/json"
    ),
    "an event of 4 MB": lambda _asked: Response(b"data: " + b"x" * 4_000_000, media_type="text/event-stream"),
}


def _encoded(edit: Callable[[str], str]) -> Picture:
    def sent(_asked: Recorded, data: bytes) -> Response:
        return JSONResponse({"created": 0, "data": [{"b64_json": edit(base64.b64encode(data).decode())}]})

    return sent


BASE64: dict[str, Picture] = {
    "line breaks": _encoded(lambda text: re.sub(r"(.{76})", "\\1\r\n", text)),
    "data URL": _encoded(lambda text: f"data:image/png;base64,{text}"),
    "URL-safe": _encoded(lambda text: text.replace("+", "-").replace("/", "_")),
    "no padding": _encoded(lambda text: text.rstrip("=")),
    "spaces around it": _encoded(lambda text: f" {text}\n"),
    "in the field url": lambda _asked, data: JSONResponse(
        {"data": [{"url": f"data:image/png;base64,{base64.b64encode(data).decode()}"}]}
    ),
}


def _as(edit: Callable[[Image.Image], tuple[Image.Image, dict[str, Any]]]) -> Picture:
    def sent(asked: Recorded, data: bytes) -> Response:
        out = io.BytesIO()
        with Image.open(io.BytesIO(data)) as picture:
            edited, options = edit(picture.convert("RGB"))
        edited.save(out, **options)
        return _encoded(lambda text: text)(asked, out.getvalue())

    return sent


def _cut_out(picture: Image.Image) -> Image.Image:
    """The same with what is missing transparent, over the green of what is there."""
    alpha = picture.getchannel("G").point(lambda value: 255 if value > 100 else 0)
    shown = Image.new("RGB", picture.size, (0, 170, 0))
    shown.putalpha(alpha)
    return shown


def _turned(picture: Image.Image) -> tuple[Image.Image, dict[str, Any]]:
    exif = Image.Exif()
    exif[0x0112] = 3
    return picture.rotate(180), {"format": "JPEG", "quality": 95, "exif": exif}


def _chatty(picture: Image.Image) -> tuple[Image.Image, dict[str, Any]]:
    about = PngImagePlugin.PngInfo()
    about.add_text("workflow", "node " * 400_000, zip=True)
    return picture, {"format": "PNG", "pnginfo": about}


FORMATS: dict[str, Picture] = {
    "transparent WebP": _as(lambda picture: (_cut_out(picture), {"format": "WEBP", "lossless": True})),
    "transparent PNG": _as(lambda picture: (_cut_out(picture), {"format": "PNG"})),
    "palette with a transparent colour": _as(
        lambda picture: (_cut_out(picture).quantize(8, Image.Quantize.FASTOCTREE), {"format": "PNG"})
    ),
    "JPEG on its head": _as(_turned),
    "CMYK JPEG": _as(lambda picture: (picture.convert("CMYK"), {"format": "JPEG", "quality": 95})),
    "AVIF": _as(lambda picture: (picture, {"format": "AVIF", "quality": 90})),
    "GIF": _as(lambda picture: (picture.quantize(8), {"format": "GIF"})),
    "2 MB of text in it": _as(_chatty),
}


def _told(status: int, body: Any) -> Picture:
    return lambda _asked, _data: JSONResponse(body, status)


_POLICY = {"code": "content_policy_violation", "message": "Rejected by our safety system."}
PICTURE_REFUSED: dict[str, Picture] = {
    "policy inside a 200": _told(200, {"data": [], "error": _POLICY}),
    "policy, 400": _told(400, {"error": _POLICY | {"code": "moderation_blocked"}}),
    "filtered picture": _told(
        200, {"data": [{"content_filter_result": {"violence": {"filtered": True}}, "error": _POLICY}]}
    ),
}


def _addresses_only(asked: Recorded, _data: bytes) -> Response | None:
    if asked.body.get("response_format") == "url":
        return None
    return refuse(400, "response_format must be 'url'; b64_json is not supported")


ADDRESSES: dict[str, Picture] = {"response_format must be url": _addresses_only}
