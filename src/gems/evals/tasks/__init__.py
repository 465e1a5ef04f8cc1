"""One module per benchmark: its prompts, the layout its official scorer reads, and its own scorers."""
