"""The definition of a harness: one way to generate an image with a limited number of images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gems.graphs.loop import GraphBuilder, build_graph
from gems.options import MAX_ROUNDS, RunOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Harness:
    """One way from a prompt to an image; each is a normal run with ledger and resume.

    Attributes:
        name: As in `--harness NAME`.
        title: For tables.
        description: One sentence.
        options: Returns the run options for a maximum number of images, from 1.
        graph: The graph to run.
        uses_chat: Whether it calls a chat model.
        most_images: Maximum number of images that it can use.
        can_learn: Whether its runs can learn from each other.
    """

    name: str
    title: str
    description: str
    options: Callable[[int], RunOptions]
    graph: GraphBuilder = build_graph
    uses_chat: bool = True
    most_images: int = MAX_ROUNDS
    can_learn: bool = False
