"""Chat models, image generators, and the built-in world."""
