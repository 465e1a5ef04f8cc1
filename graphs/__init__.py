"""Graphs: the loop and its skill nodes."""
