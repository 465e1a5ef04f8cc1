"""Counting and binding: the graph of a skill without code, and a detector that checks counts, presence and places."""

from __future__ import annotations

from typing import Any

from langgraph.graph import StateGraph

from gems.skills.authoring import SkillContext, Verifier
from gems.skills.objects import ObjectVerifier


def build(context: SkillContext) -> StateGraph[Any, Any, Any, Any]:
    """Load, enhance and keep."""
    return context.default()


def verifiers(context: SkillContext) -> list[Verifier]:  # noqa: ARG001 - the form that every skill has
    """Return the verifier that asks the run's detector."""
    return [ObjectVerifier()]
