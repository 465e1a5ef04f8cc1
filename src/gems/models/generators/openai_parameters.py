"""What is known and what can be learnt about the parameters an OpenAI-compatible image endpoint takes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

OPENAI_URL = "https://api.openai.com/v1"

LEARNABLE = ("response_format", "seed", "negative_prompt", "num_inference_steps", "guidance_scale")
"""Parameters an endpoint may do without; one it complains about is not sent again."""

_EXTENSIONS = frozenset(LEARNABLE[1:])
_UNKNOWN = (
    r"(?:un(?:known|recogni[sz]ed|supported|expected|permitted)(?! value)|extra|additional|invalid parameter|"
    r"not (?:supported|permitted|allowed|accepted|recogni[sz]ed)|does not (?:support|accept)|no such)"
)


@dataclass(frozen=True, slots=True)
class KnownModel:
    """What OpenAI documents about a model of its own."""

    sizes: tuple[tuple[int, int], ...] | None
    editing: bool
    rejects: frozenset[str]


_UNLISTED = KnownModel(None, editing=True, rejects=_EXTENSIONS)
_KNOWN = {
    "gpt-image-1": KnownModel(
        ((1024, 1024), (1536, 1024), (1024, 1536)), editing=True, rejects=frozenset(LEARNABLE)
    ),
    "dall-e-3": KnownModel(((1024, 1024), (1792, 1024), (1024, 1792)), editing=False, rejects=_EXTENSIONS),
    "dall-e-2": KnownModel(((256, 256), (512, 512), (1024, 1024)), editing=True, rejects=_EXTENSIONS),
}


def is_openai(base_url: str) -> bool:
    """Whether `base_url` is OpenAI's own: the only place its environment's key may be sent to."""
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    return parts.scheme == "https" and (host == "api.openai.com" or host.endswith(".api.openai.com"))


def known_model(model: str) -> KnownModel:
    """What is documented about `model` at OpenAI; nothing but the common ground for one not listed."""
    for name, known in _KNOWN.items():
        if model == name or model.startswith((f"{name}-", f"{name}.")):
            return known
    return _UNLISTED


def complained_about(body: str, sent: Iterable[str]) -> str | None:
    """The parameter of `sent` that the error text `body` calls unknown; None where it says something else.

    A complaint about a parameter's value is not taken for one about the parameter itself: dropping a seed
    because it was too large would change the pictures silently.
    """
    learnable = [name for name in LEARNABLE if name in set(sent)]
    error = _error_object(body)
    if isinstance(param := error.get("param"), str):
        name = param.rsplit(".", 1)[-1]
        said = f"{error.get('code')} {error.get('message')}"
        if name in learnable and re.search(_UNKNOWN, said.replace("_", " "), re.IGNORECASE):
            return name
    near = r"(?:[^\w]+\w+){0,4}?[^\w]+"
    for name in learnable:
        pattern = rf"{_UNKNOWN}{near}{name}\b|\b{name}\b{near}{_UNKNOWN}"
        if re.search(pattern, body, re.IGNORECASE):
            return name
    return None


def _error_object(body: str) -> Mapping[str, Any]:
    try:
        parsed = json.loads(body)
    except ValueError:
        return {}
    error = parsed.get("error", parsed) if isinstance(parsed, dict) else {}
    return error if isinstance(error, dict) else {}
