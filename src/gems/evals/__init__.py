"""Benchmarks: tasks give prompts, harnesses generate, engines run jobs, scorers read the finished images."""
