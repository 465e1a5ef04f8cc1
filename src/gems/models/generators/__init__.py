"""Image generators behind one protocol."""
