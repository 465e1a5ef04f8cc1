"""The nodes of the graph: planner, decomposer, generator, judge, reflector."""
