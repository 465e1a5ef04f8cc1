"""Run the notebooks on the built-in world and keep what they put out, so that they can be read on a web page.

With --check nothing is written: each must run, and what is kept must hold no path and no user of a machine.
Names of notebooks pick some of them.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
MOST_BYTES = 1_000_000
_TIMEOUT_S = 600
# What a reader's notebook is not to depend on.
_FOREIGN = ("GEMS_", "OPENAI_", "LANGSMITH_", "LANGCHAIN_", "OTEL_")
_PLACES = "home|root|Users|tmp|var|work|private|mnt|opt|usr"
_PATHS = re.compile(rf"(?<![\w.:/])/(?:{_PLACES})\b[^\s\"'<>]*|\b[A-Z]:\\+\w+")
_EMBEDDED = re.compile(r"data:[\w/+.-]+;base64,[\w/+=]+")


def main() -> int:
    """Exit code: 0 where all ran and hold nothing of this machine, else 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="such as quickstart; all by default")
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args()
    paths = [NOTEBOOKS / f"{name}.ipynb" for name in options.names] or sorted(NOTEBOOKS.glob("*.ipynb"))
    faults = [fault for path in paths for fault in carried_out(path, check=options.check)]
    print("\n".join(faults) or f"{len(paths)} notebooks run.")
    return 1 if faults else 0


def carried_out(path: Path, *, check: bool) -> Iterator[str]:
    """Run a notebook; what is wrong with it, and with what is kept of it."""
    try:
        made = executed(path)
    except CellExecutionError as error:
        yield f"{path.name}: {error}"
        return
    if not check:
        path.write_text(nbformat.writes(made) + "\n")
    yield from faults_of(path)


def executed(path: Path) -> Any:
    """The notebook as a kernel of its own, in an empty folder, leaves it.

    Raises:
        CellExecutionError: a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=_TIMEOUT_S,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
            record_timing=False,
            # A kernel on this machine alone is warned about otherwise.
            extra_arguments=["--IPKernelApp.log_level=40"],
        )
        client.execute(env=environment)
    # The version of Python that it was run with is nobody's business and changes often.
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def faults_of(path: Path) -> Iterator[str]:
    """What is wrong with a notebook as it is kept."""
    if path.stat().st_size > MOST_BYTES:
        yield f"{path.name}: it is larger than {MOST_BYTES:,} bytes."
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type != "code":
            continue
        if cell.execution_count is None:
            yield f"{path.name}: the cell {cell.id} was not run."
        for output in cell.outputs:
            yield from (f"{path.name}: {fault}" for fault in _faults(output))


def _faults(output: Any) -> Iterator[str]:
    if output.output_type == "error":
        yield f"an error is kept: {output.ename}"
    if output.get("name") == "stderr":
        yield f"something went wrong: {output.text[:200]}"
    texts = [
        output.get("text", ""),
        *(str(data) for kind, data in output.get("data", {}).items() if "image/" not in kind),
    ]
    for text in texts:
        yield from (f"a path is kept: {found}" for found in _PATHS.findall(_EMBEDDED.sub("", text)))


if __name__ == "__main__":
    sys.exit(main())
