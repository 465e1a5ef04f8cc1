"""`gems eval` and `gems batch`."""
