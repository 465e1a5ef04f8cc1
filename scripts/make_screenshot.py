"""Draw docs/web.png: the web page in a real browser, with a run of the built-in world.

    python scripts/make_screenshot.py [--out docs/web.png] [--width 1280] [--height 1300] [--scheme light]

Needs the extra `web`, Playwright for Python and a Chromium.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
PROMPT = 'three red circles above a blue striped square, and the word "GO"'
SEED = 6
"""Takes three rounds."""
_PATIENCE_MS = 180_000
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def main() -> int:
    """Exit code: 0 if the picture was drawn."""
    asked = _arguments()
    chromium = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    if chromium is None:
        sys.exit("No Chromium: install one, or name one by CHROMIUM=/path/to/it.")
    with served() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": asked.width, "height": asked.height}, color_scheme=asked.scheme)
        page.set_default_timeout(_PATIENCE_MS)
        page.goto(address)
        page.get_by_label("Prompt", exact=True).fill(PROMPT)
        options = page.get_by_role("button", name="Options")
        options.click()
        page.get_by_label("Seed").first.fill(str(SEED))
        options.click()
        page.get_by_role("button", name="Generate").click()
        page.get_by_label("Feedback").wait_for()
        page.evaluate("document.activeElement.blur()")
        page.wait_for_function("[...document.images].every(image => image.complete || image.loading == 'lazy')")
        page.screenshot(path=asked.out, full_page=asked.full)
        browser.close()
    # A page has few colours: a palette makes its picture several times smaller.
    with Image.open(asked.out) as picture:
        picture.convert("RGB").quantize(192, Image.Quantize.MEDIANCUT).save(asked.out, optimize=True)
    print(f"{asked.out}: {asked.out.stat().st_size // 1024} KiB")
    return 0


@contextmanager
def served() -> Iterator[str]:
    """The address of the page, on a server that has no runs yet and no settings."""
    with tempfile.TemporaryDirectory() as home:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GEMS_")}
        command = [sys.executable, "-m", "gems", "web", "--port", "0"]
        with subprocess.Popen(
            command, cwd=home, env=environment | {"GEMS_HOME": home}, stdout=subprocess.PIPE, text=True
        ) as server:
            try:
                yield server.stdout.readline().strip() if server.stdout else ""
            finally:
                server.terminate()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "web.png")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=1300)
    parser.add_argument("--scheme", choices=["light", "dark"], default="light")
    parser.add_argument("--full", action="store_true", help="the whole page, however long")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
