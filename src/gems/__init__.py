"""GEMS: an agent loop with memory and skills around any text-to-image model."""

from gems._version import __version__

__all__ = ["__version__"]
