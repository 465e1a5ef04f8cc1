"""Logging, tracing and redaction."""
