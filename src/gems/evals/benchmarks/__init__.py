"""One module per benchmark: prompts, scorer, metrics, export."""
