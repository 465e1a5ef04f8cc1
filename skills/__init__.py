"""Skills: expertise in folders, loaded on demand as subgraphs."""
