"""Run mypy over the package as it is installed.

Type checkers do not follow the mapping of an editable install, so the package is put together from links in
`build/typecheck/gems`. A planted error then shows that mypy really looks into the mapped folders.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TREE = ROOT / "build" / "typecheck"
MAPPED = ("graphs", "memory", "nodes", "skills")
PLANTED = "from gems.types import pass_rate\n\nWRONG: str = pass_rate([])\n"


def main() -> int:
    """Exit code: 0 without findings, mypy's own otherwise, 1 where the planted error goes unnoticed."""
    link_tree()
    found = mypy()
    if found:
        return found
    (TREE / "gems" / "planted.py").write_text(PLANTED)
    if mypy("--no-error-summary", quiet=True) == 0:
        print("mypy did not notice a planted error: it does not see the package.", file=sys.stderr)
        return 1
    return 0


def link_tree() -> None:
    """The package as links to its sources."""
    shutil.rmtree(TREE, ignore_errors=True)
    package = TREE / "gems"
    package.mkdir(parents=True)
    for source in [*(ROOT / "src" / "gems").iterdir(), *(ROOT / name for name in MAPPED)]:
        if source.name != "__pycache__":
            (package / source.name).symlink_to(source)


def mypy(*options: str, quiet: bool = False) -> int:
    """Check the linked package."""
    command = [sys.executable, "-m", "mypy", "-p", "gems", *options]
    environment = os.environ | {"MYPYPATH": str(TREE)}
    output = subprocess.DEVNULL if quiet else None
    return subprocess.run(command, cwd=ROOT, env=environment, stdout=output, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
