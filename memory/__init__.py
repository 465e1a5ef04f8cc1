"""Agent memory: trajectories, images, the ledger, experiences."""
