"""Storage: checkpoints, the ledger, images, experiences."""
