"""The command line: `gems run` and all the other commands, see docs/cli.md."""

from gems.apps.cli.app import main

__all__ = ["main"]
