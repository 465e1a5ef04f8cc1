"""Draw a cyclic graph."""
