"""What a harness is: a way to carry out a run within a number of images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gems.arguments import RunOptions
from gems.graphs.loop import GraphBuilder, build_graph
from gems.options import MAX_ROUNDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Harness:
    """One way to come from a prompt to an image.

    Every one is a run of the service, with its ledger, and is resumed like any other.

    Attributes:
        name: As in `--harness NAME`.
        title: For tables.
        about: One sentence.
        options: The run's options when it may draw a number of images, from 1.
        graph: Its graph; the product's loop by default.
        asks: Whether it asks a chat model at all.
        most_images: Most images that it can make use of.
        learns: Whether its runs can learn from each other where that is wanted.
    """

    name: str
    title: str
    about: str
    options: Callable[[int], RunOptions]
    graph: GraphBuilder = build_graph
    asks: bool = True
    most_images: int = MAX_ROUNDS
    learns: bool = False
