"""Harnesses, compared at the same number of images."""
