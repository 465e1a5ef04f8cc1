"""Benchmarks: what is drawn for them, by which harness, and how it is scored.

A task brings the prompts, a harness draws one image for each sample, an engine says where, and scorers read
the frozen images afterwards. What scorers know never reaches a harness.
"""
