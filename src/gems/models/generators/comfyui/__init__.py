"""Generate and edit images with a workflow on a ComfyUI server."""
