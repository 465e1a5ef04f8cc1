"""Generate images with Diffusers in this process."""
