"""Walk through Open WebUI in a real browser, with `gems serve` and the built-in world behind it.

    python scripts/try_open_webui.py [--folder build/open-webui] [--picture docs/open-webui.png]

Signs up, chats, edits the picture of the chat, attaches a text file and a picture, and stops a run. Prints the seconds
of each 1024x1024 picture and the size of the stored chat, and exits with 1 if a picture took 20 s or longer, the chat
is larger than 100 kB, or something else than the asked runs was carried out.

Open WebUI is installed into a virtual environment in the folder if it is not there: 3 GB, several minutes. Needs the
extra `serve`, Playwright for Python, a Chromium, and Python 3.11 or 3.12.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
VERSION = "0.12.4"
SIZE = 1024
MOST_S = 20
MOST_BYTES = 100_000
_PATIENCE_S = 180
_CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
_COUNT = f"""() => [...document.querySelectorAll("#messages-container img")]
    .filter(image => image.complete && image.naturalWidth === {SIZE}).length"""


def main() -> int:
    """Exit code: 0 if everything was as promised."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "open-webui")
    parser.add_argument("--picture", type=Path, help="write what the browser shows of the edit")
    asked = parser.parse_args()
    chromium = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _CHROMIUMS)), None)
    if chromium is None:
        sys.exit("No Chromium: install one, or name one by CHROMIUM=/path/to/it.")
    program = install(asked.folder)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        home = Path(folder)
        with serve_gems(home / "gems") as gems, serve_open_webui(program, home / "webui", gems) as url:
            browser = playwright.chromium.launch(executable_path=chromium, args=list(_FLAGS))
            page = browser.new_page(viewport={"width": 760, "height": 1240})
            page.set_default_timeout(_PATIENCE_S * 1000)
            walk = Walk(page, gems)
            walk.take(url, home, asked.picture)
            browser.close()
        size = stored_bytes(home / "webui" / "webui.db")
    print(f"stored chat: {size:,} bytes")
    faults = [*walk.faults, *([f"The chat has more than {MOST_BYTES:,} bytes."] if size >= MOST_BYTES else [])]
    print("\n".join(faults) or "Everything was as promised.")
    return 1 if faults else 0


def install(folder: Path) -> Path:
    """Return the program of Open WebUI, which is installed if it is not there."""
    programs = folder / "venv" / "bin"
    if not (programs / "open-webui").exists():
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        subprocess.run([programs / "pip", "install", "--quiet", f"open-webui=={VERSION}"], check=True)
    return programs / "open-webui"


@dataclass
class Walk:
    """What a person does in Open WebUI, and what was wrong with it."""

    page: Page
    gems: str
    faults: list[str] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)

    def take(self, url: str, home: Path, picture: Path | None) -> None:
        """Sign up and go through everything; `picture` is of the edit."""
        self.sign_up(url)
        self.ask("two green stars")
        self.ask("make the stars red")
        if picture:
            photograph(self.page, picture)
        (home / "notes.txt").write_text("A sign in the shop shows a price.", encoding="utf-8")
        self.ask("a yellow moon", home / "notes.txt")
        Image.new("RGB", (SIZE // 2, SIZE // 2), "white").save(home / "white.png")
        self.ask("make the background blue", home / "white.png")
        self.page.goto(url)
        self.stop("a dozen red circles")
        # What Open WebUI itself asks for, such as titles, begins no runs.
        prompts = [run["prompt"] for run in reversed(self.runs())]
        print("prompts of the runs:", prompts)
        if prompts != self.sent:
            self.faults.append(f"{len(self.sent)} other runs were asked for.")

    def sign_up(self, url: str) -> None:
        """Become the first user, who sees the news of the version."""
        page = self.page
        page.goto(f"{url}/auth")
        page.get_by_role("button", name="Get started").click()
        page.locator("#name").fill("Ann")
        page.locator("#email").fill("ann@example.org")
        page.locator("#password").fill(secrets.token_urlsafe())
        page.get_by_role("button", name="Create Admin Account").click()
        page.get_by_role("button", name="Okay, Let's Go!").click()
        print("signed up; model:", page.locator("#model-selector-model-button").inner_text())

    def ask(self, text: str, attached: Path | None = None) -> None:
        """Send a message and wait for its picture."""
        before = self.page.evaluate(_COUNT)
        if attached is not None:
            self.attach(attached)
        began = time.monotonic()
        self.send(text)
        self.page.wait_for_function(f"({_COUNT})() > {before}")
        seconds = time.monotonic() - began
        self.page.get_by_role("button", name="Stop", exact=True).wait_for(state="detached")
        print(f"{text!r}{f' with {attached.name}' if attached else ''}: {seconds:.1f} s")
        if seconds >= MOST_S:
            self.faults.append(f"{text!r} took {seconds:.0f} s.")

    def attach(self, file: Path) -> None:
        """Attach a file and wait until it was taken."""
        with self.page.expect_response(
            lambda answer: "/api/v1/files/" in answer.url and answer.request.method == "POST"
        ):
            self.page.locator("input[type=file][multiple]").set_input_files(file)
        self.page.wait_for_timeout(1000)

    def send(self, text: str) -> None:
        """Type a message and send it."""
        self.sent.append(text)
        self.page.locator("#chat-input").click()
        self.page.keyboard.type(text)
        self.page.locator("#send-message-button").click()

    def stop(self, text: str) -> None:
        """Send a message whose run would take many rounds, and stop it after the first."""
        self.send(text)
        self.page.get_by_text("Round 1:").first.wait_for()
        self.page.get_by_role("button", name="Stop", exact=True).click()
        deadline = time.monotonic() + _PATIENCE_S
        while (run := self.runs()[0])["status"] == "running" and time.monotonic() < deadline:
            time.sleep(0.2)
        print(f"{text!r} stopped: {run['stop_reason']} after {run['rounds']} rounds")
        if run["stop_reason"] != "cancelled":
            self.faults.append(f"{text!r} was not stopped.")

    def runs(self) -> list[dict[str, Any]]:
        """Return the runs of GEMS, the newest first."""
        with urllib.request.urlopen(f"{self.gems}/runs", timeout=_PATIENCE_S) as answer:  # noqa: S310 - our own server
            return list(json.load(answer)["runs"])


@contextmanager
def serve_gems(home: Path) -> Iterator[str]:
    """The address of a server that has no runs yet and no settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GEMS_")}
    command = [sys.executable, "-m", "gems", "serve", "--port", "0"]
    environment = kept | {"GEMS_HOME": str(home), "GEMS_SERVE__WEB": "false"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield server.stdout.readline().strip() if server.stdout else ""
        finally:
            server.terminate()


@contextmanager
def serve_open_webui(program: Path, folder: Path, gems: str) -> Iterator[str]:
    """The address of Open WebUI, which knows GEMS as its only model and asks nothing of the internet."""
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = os.environ | {
        "DATA_DIR": str(folder),
        "WEBUI_SECRET_KEY": secrets.token_hex(),
        "ENABLE_OLLAMA_API": "false",
        "OPENAI_API_BASE_URL": f"{gems}/v1",
        "OPENAI_API_KEY": "any",
        "ENABLE_FORWARD_USER_INFO_HEADERS": "true",
        "DEFAULT_MODEL_PARAMS": json.dumps({"custom_params": {"size": f"{SIZE}x{SIZE}"}}),
        "OFFLINE_MODE": "true",
        "HF_HUB_OFFLINE": "1",
        # The model that would search in attached files is not there.
        "BYPASS_EMBEDDING_AND_RETRIEVAL": "true",
    }
    command = [str(program), "serve", "--host", "127.0.0.1", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT) as server,
    ):
        try:
            while not is_healthy(url):
                if server.poll() is not None:
                    sys.exit((folder / "log").read_text()[-3000:])
                time.sleep(1)
            yield url
        finally:
            server.terminate()


def is_healthy(url: str) -> bool:
    """Whether a server answers."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=10):  # noqa: S310 - our own server
            return True
    except (urllib.error.URLError, OSError):
        return False


def stored_bytes(database: Path) -> int:
    """Return the size of everything that is stored of chats, apart from files."""
    with closing(sqlite3.connect(database)) as opened:
        (chats,) = opened.execute("SELECT sum(length(chat)) FROM chat").fetchone()
        (messages,) = opened.execute("SELECT sum(length(content)) FROM chat_message").fetchone()
    return int(chats) + int(messages)


def photograph(page: Page, path: Path) -> None:
    """Write a picture of the page in few colours, which makes it several times smaller."""
    page.screenshot(path=path)
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(96, Image.Quantize.MEDIANCUT).save(path, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
