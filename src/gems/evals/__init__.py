"""Run benchmarks: tasks, harnesses, engines, scorers, comparison.

A task provides prompts, a harness generates one image per sample, an engine runs the jobs, and scorers read
the finished images. Scoring data never reach a harness.
"""
