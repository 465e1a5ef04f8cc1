"""Parameters that OpenAI-compatible image endpoints accept: known ones, and errors about unknown ones."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

OPENAI_URL = "https://api.openai.com/v1"

LEARNABLE = ("response_format", "seed", "negative_prompt", "num_inference_steps", "guidance_scale")
"""Optional parameters; one that the endpoint rejects is not sent again."""

_EXTENSIONS = frozenset(LEARNABLE[1:])
_UNKNOWN_WORDS = (
    r"(?:un(?:known|recogni[sz]ed|supported|expected|permitted)(?! value)|extra|additional|invalid parameter|"
    r"not (?:supported|permitted|allowed|accepted|recogni[sz]ed)|does not (?:support|accept)|no such)"
)


@dataclass(frozen=True, slots=True)
class KnownModel:
    """Documented limits of one of OpenAI's own models."""

    sizes: tuple[tuple[int, int], ...] | None
    editing: bool
    rejects: frozenset[str]


_UNLISTED_MODEL = KnownModel(None, editing=True, rejects=_EXTENSIONS)
_KNOWN_MODELS = {
    "gpt-image-1": KnownModel(
        ((1024, 1024), (1536, 1024), (1024, 1536)), editing=True, rejects=frozenset(LEARNABLE)
    ),
    "dall-e-3": KnownModel(((1024, 1024), (1792, 1024), (1024, 1792)), editing=False, rejects=_EXTENSIONS),
    "dall-e-2": KnownModel(((256, 256), (512, 512), (1024, 1024)), editing=True, rejects=_EXTENSIONS),
}


def is_openai(base_url: str) -> bool:
    """Whether `base_url` is OpenAI's own, the only one that may receive OPENAI_API_KEY."""
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    return parts.scheme == "https" and (host == "api.openai.com" or host.endswith(".api.openai.com"))


def find_known_model(model: str) -> KnownModel:
    """Return the documented limits of `model` at OpenAI; those common to all models if it is not listed."""
    for name, known in _KNOWN_MODELS.items():
        if model == name or model.startswith((f"{name}-", f"{name}.")):
            return known
    return _UNLISTED_MODEL


def find_rejected_parameter(body: str, sent: Iterable[str]) -> str | None:
    """Return the parameter of `sent` that the error text `body` calls unknown; None for other errors.

    An error about a parameter's value does not count: dropping a seed that is too large would silently
    change the images.
    """
    learnable = [name for name in LEARNABLE if name in set(sent)]
    error = _parse_error_object(body)
    if isinstance(param := error.get("param"), str):
        name = param.rsplit(".", 1)[-1]
        message = f"{error.get('code')} {error.get('message')}"
        if name in learnable and re.search(_UNKNOWN_WORDS, message.replace("_", " "), re.IGNORECASE):
            return name
    near = r"(?:[^\w]+\w+){0,4}?[^\w]+"
    for name in learnable:
        pattern = rf"{_UNKNOWN_WORDS}{near}{name}\b|\b{name}\b{near}{_UNKNOWN_WORDS}"
        if re.search(pattern, body, re.IGNORECASE):
            return name
    return None


def _parse_error_object(body: str) -> Mapping[str, Any]:
    try:
        parsed = json.loads(body)
    except ValueError:
        return {}
    error = parsed.get("error", parsed) if isinstance(parsed, dict) else {}
    return error if isinstance(error, dict) else {}
