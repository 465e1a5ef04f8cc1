"""The process's logs, which some ways in set up for good."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def logging_as_before() -> Iterator[None]:
    """Where logs go and which are told is the same afterwards."""
    root, ours = logging.getLogger(), logging.getLogger("gems")
    handlers, level = list(root.handlers), ours.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        ours.setLevel(level)
