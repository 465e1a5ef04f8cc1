"""The benchmarks' arithmetic as plain functions; nothing here asks a model or opens a file."""
