"""GEMS: an agent loop with memory and skills around any text-to-image model.

    from gems import generate
    result = generate("three red circles above a blue striped square")

Names are imported on first use, so that importing the package is fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gems._version import __version__

if TYPE_CHECKING:
    from gems.errors import GemsError
    from gems.generation import GeneratedImage, GeneratorCapabilities, ImageRequest
    from gems.graphs.loop import build_graph
    from gems.models.base import ImageGenerator
    from gems.results import RunResult
    from gems.service import Gems
    from gems.settings import Settings
    from gems.sync import generate, repair, resume

_MODULES = {
    "GemsError": "gems.errors",
    "build_graph": "gems.graphs.loop",
    "ImageGenerator": "gems.models.base",
    "RunResult": "gems.results",
    "Gems": "gems.service",
    "Settings": "gems.settings",
    "generate": "gems.sync",
    "repair": "gems.sync",
    "resume": "gems.sync",
    "GeneratedImage": "gems.generation",
    "GeneratorCapabilities": "gems.generation",
    "ImageRequest": "gems.generation",
}

__all__ = [
    "Gems",
    "GemsError",
    "GeneratedImage",
    "GeneratorCapabilities",
    "ImageGenerator",
    "ImageRequest",
    "RunResult",
    "Settings",
    "__version__",
    "build_graph",
    "generate",
    "repair",
    "resume",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'gems' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
