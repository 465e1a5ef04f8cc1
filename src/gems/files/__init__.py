"""Files on this machine: the configuration, files that processes share, and what of them is trusted."""
