"""Nodes of the graph: planner, decomposer, generator, judge and reflector."""
