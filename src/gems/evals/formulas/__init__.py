"""Formulas of the benchmarks as pure functions."""
