"""Options of remote generators in tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from gems.models.generators.remote import RemoteLimits

_NAMES = {each.name for each in fields(RemoteLimits)}


def with_limits(options: Mapping[str, Any]) -> dict[str, Any]:
    """Gather the limits among `options` in one `RemoteLimits`, with short waits by default."""
    limits = {name: value for name, value in options.items() if name in _NAMES}
    others = {name: value for name, value in options.items() if name not in _NAMES}
    return others | {"limits": RemoteLimits(**{"first_wait_s": 0.001, **limits})}
