"""Image generators, one module each."""
