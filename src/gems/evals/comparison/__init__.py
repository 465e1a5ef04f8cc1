"""Compare output folders: statistics, sections, exports."""
