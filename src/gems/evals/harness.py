"""What a harness is: a way to carry out a run within a number of images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from langgraph.graph import StateGraph

from gems.arguments import RunOptions
from gems.skills.skill import Skill

GraphBuilder = Callable[[Iterable[Skill]], "StateGraph[Any, Any, Any, Any]"]
"""Builds a graph of the same state, input and output as `gems.graphs.loop.build_graph`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Harness:
    """One way to come from a prompt to an image.

    Every one is a run of the service, with its ledger, and is resumed like any other.

    Attributes:
        name: As in `--harness NAME`.
        title: For tables.
        about: One sentence.
        options: The run's options when it may draw a number of images, from 1.
        graph: Its graph; None for the product's loop.
        asks: Whether it asks a chat model at all.
    """

    name: str
    title: str
    about: str
    options: Callable[[int], RunOptions]
    graph: GraphBuilder | None = None
    asks: bool = True
