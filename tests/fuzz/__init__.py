"""Whatever a parser is given it reads, or refuses with an error of ours, and takes little time for it."""
