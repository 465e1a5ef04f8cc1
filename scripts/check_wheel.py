"""Build the wheel, install it into an empty environment, and run it there.

Shows that the wheel holds everything, that its dependencies suffice, and that it puts no package besides
`gems` into other people's environments.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SKILLS = ROOT / "skills" / "builtin"
PROMPT = 'two green stars left of a red circle, and the word "OK"'


def main() -> int:
    """Exit code: 0 if the wheel works."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        run(sys.executable, "-m", "build", "--outdir", str(place / "dist"), str(ROOT))
        wheel = next((place / "dist").glob("*.whl"))
        check_contents(wheel)
        venv.create(place / "env", with_pip=True)
        python = place / "env" / "bin" / "python"
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run(*pip, "-c", str(ROOT / "constraints.txt"), str(wheel))
        result = json.loads(
            run(str(place / "env" / "bin" / "gems"), "run", PROMPT, "--seed", "7", "--json", cwd=place, codes=(0, 3))
        )
        size = Path(result["path"]).stat().st_size
        print(f"{wheel.name}: {wheel.stat().st_size / 1024:.0f} KiB; drew {size} bytes, {result['stop_reason']}")
    return 0


def check_contents(wheel: Path) -> None:
    """All of ours and nothing else stands below `gems`."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    strangers = [top for top in tops if top != "gems" and not top.endswith(".dist-info")]
    wanted = ["gems/py.typed", "gems/graphs/loop.py", "gems/models/blocks/prompts.jsonl"]
    wanted += [
        f"gems/skills/builtin/{path.relative_to(SKILLS).as_posix()}"
        for path in SKILLS.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    wanted += [f"gems/reporting/page.{ending}" for ending in ("html.jinja", "css", "js")]
    wanted.append("gems/reporting/result.html.jinja")
    wanted += [f"gems/apps/web/{name}" for name in ("run.html.jinja", "web.css")]
    missing = [name for name in wanted if name not in names]
    sources = {path.name for path in (ROOT / "src" / "gems").rglob("*.py")}
    packed = {Path(name).name for name in names}
    if strangers or missing or sources - packed:
        sys.exit(f"The wheel holds {strangers} and lacks {missing} {sorted(sources - packed)}.")


def run(*command: str, cwd: Path | None = None, codes: tuple[int, ...] = (0,)) -> str:
    """A command's standard output; ends the program where it fails."""
    home = {"GEMS_HOME": str(cwd / "home"), "HOME": str(cwd)} if cwd else {}
    done = subprocess.run(command, cwd=cwd, env=os.environ | home, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in codes:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
