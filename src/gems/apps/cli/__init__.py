"""The command line: `gems run`, `gems resume`, `gems runs`, `gems show`, `gems doctor`."""

from gems.apps.cli.app import main

__all__ = ["main"]
