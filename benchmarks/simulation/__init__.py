"""A world without models, in which it is known what every image really shows."""
