"""Ways to come from a prompt to an image that are compared at the same number of images."""
