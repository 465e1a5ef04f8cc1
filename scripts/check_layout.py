"""Check the layout of the package: sizes, names and directions of imports.

Exit code 1 says that a module is too small or too large, that its name is a gerund or stands twice without a
reason, or that an import breaks a contract of `[tool.importlinter]` in pyproject.toml.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from typecheck import ROOT, TREE, link_tree

FOLDERS = ("src/gems", "graphs", "nodes", "memory", "skills")
SMALLEST, LARGEST, MOST_AT_ROOT = 40, 600, 14
SMALL = {
    "src/gems/__main__.py": "`python -m gems`",
    "src/gems/_version.py": "read by the build without importing the package",
    "skills/ranking.py": "one class that the planner and the registry share",
    "nodes/finish.py": "a node of the graph has a module of its own",
    "skills/builtin/counting-and-binding/graph.py": "the file that the skill format names",
    "skills/builtin/spatial-layout/graph.py": "the file that the skill format names",
}
"""Modules below 40 lines, with the reason."""
GERUNDS = {
    "authoring": "public name of the API for skills",
    "batching": "term of the field: micro-batching",
    "clustering": "term of the field",
    "judging": "what scorers ask a judge",
    "loading": "term of Diffusers",
    "logging": "name of the standard library",
    "parsing": "term of the field",
    "ranking": "term of the field",
    "rendering": "term of the field",
    "routing": "term of LangGraph",
    "scoring": "term of evaluation",
    "skill_learning": "the command `gems skills learn`",
    "skill_testing": "the command `gems skills test`",
    "tracing": "term of OpenTelemetry",
}
"""Modules whose names end in -ing, with the reason."""
LAYERS = "one per layer: the folder says whose"
REPEATED = {
    "app": "the Typer app and the FastAPI app",
    "auth": "API keys of the server, sign-in of the web page",
    "base": "node wrapper, protocols of generators and detectors",
    "batch": "the command and what it runs",
    "conversation": "what a message of LangGraph's, of OpenAI's clients, and to the built-in models asks for",
    "doctor": "the command and its checks",
    "errors": "the exception tree, and its form for the CLI and for OpenAI's clients",
    "export": "formats of memory, of official scorers, of comparisons, of training data, and its command",
    "generator": LAYERS,
    "graph": "the file that the skill format names",
    "http": "transport of all models, the generator that posts to /generate, detectors",
    "images": LAYERS,
    "judge": LAYERS,
    "metrics": "of the server, of benchmarks",
    "openai": "chat models, image generators",
    "options": "the schema of a run's options, and their form on the command line",
    "output": "the result's file, and what the command line prints",
    "page": "the report, the web page",
    "parser": "SKILL.md, prompts of the built-in world",
    "person": "the node, and how the terminal asks",
    "reflector": LAYERS,
    "rendering": "runs as HTML, scenes as pixels",
    "results": "the result of a run, of an MCP tool",
    "runner": "of a command, of an evaluation",
    "runs": LAYERS,
    "schemas": LAYERS,
    "setup": "the command and its logic",
    "skills": LAYERS,
    "templates": "of pages, of requests by chat programs",
    "verifier": "of texts, of objects",
}
"""Names of modules that stand more than once, with the reason."""


def main() -> int:
    """Print all findings; return 0 without any, 1 otherwise."""
    findings = list(check_modules(list_modules()))
    for finding in findings:
        print(finding, file=sys.stderr)
    link_tree()
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    environment = os.environ | {"PYTHONPATH": str(TREE)}
    contracts = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    return int(bool(findings or contracts))


def list_modules() -> dict[str, int]:
    """Return the modules that git tracks, by path, with their numbers of lines."""
    listed = subprocess.run(
        ["git", "ls-files", *FOLDERS],  # noqa: S607 - git is on the path of everybody who develops
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    paths = [path for path in listed if path.endswith(".py") and (ROOT / path).exists()]
    return {path: len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path in paths}


def check_modules(modules: dict[str, int]) -> Iterator[str]:
    """Yield what is wrong with sizes and names of modules."""
    named = defaultdict(list)
    for path, lines in modules.items():
        name = Path(path).stem
        if name == "__init__":
            continue
        named[name].append(path)
        if lines < SMALLEST and path not in SMALL:
            yield f"{path} has {lines} lines, fewer than {SMALLEST}: merge it into a neighbour."
        if lines > LARGEST:
            yield f"{path} has {lines} lines, more than {LARGEST}: split it by concept."
        if name.endswith("ing") and name not in GERUNDS:
            yield f"{path} is named by a gerund: use the noun of the field."
    for name, paths in named.items():
        if len(paths) > 1 and name not in REPEATED:
            yield f"{', '.join(paths)} share a name: rename one, or give the reason in {Path(__file__).name}."
    at_root = [path for path in modules if Path(path).parent == Path("src/gems")]
    if len(at_root) > MOST_AT_ROOT:
        yield f"src/gems holds {len(at_root)} modules, more than {MOST_AT_ROOT}: move one into a package."
    unused = [path for path, _ in SMALL.items() if modules.get(path, SMALLEST) >= SMALLEST]
    unused += [name for name in GERUNDS if name not in named]
    unused += [name for name in REPEATED if len(named.get(name, ())) < 2]
    for entry in unused:
        yield f"{entry} needs no exception any more: remove it from {Path(__file__).name}."


if __name__ == "__main__":
    sys.exit(main())
