"""Execute, fork, recover, delete and learn from runs."""
