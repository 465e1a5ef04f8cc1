"""Benchmark parts: DPG-Bench data, OneIG."""
