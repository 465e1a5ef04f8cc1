"""Skills: find, parse, check, rank and load them."""
