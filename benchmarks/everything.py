"""All benchmarks one after another; what each prints is shown, and what it measured is kept.

    python -m benchmarks.everything [--only cost overhead] [--results benchmarks/results]

Takes at most half an hour on two cores. `diffusers_batching --full` needs a GPU and is not among them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

BENCHMARKS: dict[str, list[str]] = {
    "overhead": [],
    "cost": [],
    "concurrency": [],
    "ways_in": [],
    "rewards": [],
    "export_scale": [],
    "quality": [],
    "blocks_world": [],
    "memory_helps": [],
    "lessons_fit": [],
    "training_pairs": [],
    "evolution": [],
    "memory_scale": [],
    "checkpoints": [],
    "skills_help": [],
    "skills_scale": [],
    "faults": [],
    "compatibility": [],
    "kills": [],
    "diffusers_batching": [],
    "engines": [],
}
"""Each with its options; those that measure time come first, since nothing has warmed the machine up yet."""
RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """Exit code 1 where one of them failed or missed a bound that it ends with."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=list(BENCHMARKS), metavar="NAME")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON files")
    options = parser.parse_args()
    failed, began = [], time.monotonic()
    for name in options.only:
        print(f"\n== {name}", flush=True)
        started = time.monotonic()
        out = ["--out", str(options.results / f"{name}.json")]
        command = [sys.executable, "-m", f"benchmarks.{name}", *BENCHMARKS[name], *out]
        if subprocess.run(command, cwd=RESULTS.parent.parent, check=False).returncode:  # noqa: S603
            failed.append(name)
        print(f"({time.monotonic() - started:.0f} s)", flush=True)
    print(f"\n{len(options.only)} benchmarks in {(time.monotonic() - began) / 60:.1f} minutes")
    for name in failed:
        print(f"{name} ended with an error or a bound that is not met.")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
