"""Detectors of objects, one module each."""
