"""The page in a real browser: nothing is fetched, nothing breaks, nothing sticks out."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.report_pages import ENDLESS, HOSTILE, eventful

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PHONE, DESKTOP = 375, 1280

_REASON = "no Chromium: apt-get install chromium, or name one by CHROMIUM=/path/to/it"
pytestmark = [pytest.mark.skipif(CHROMIUM is None, reason=_REASON), pytest.mark.xdist_group("report")]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser with an empty profile of its own."""
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages by name: a plain one, one full of markup, and one whose words have no end."""
    folder = tmp_path_factory.mktemp("reports")
    texts = {"plain": ("a red cat", "seen"), "hostile": (HOSTILE, HOSTILE), "endless": (ENDLESS, ENDLESS)}

    async def write(name: str, prompt: str, text: str) -> Path:
        async with eventful(folder / name, text).gems() as gems:
            result = await gems.run(prompt, seed=7, max_rounds=5, candidates=3, plateau=0)
            page = folder / f"{name}.html"
            page.write_text(await gems.report(result.run_id), encoding="utf-8")
            return page

    # In a thread of its own, since Playwright keeps an event loop in this one.
    with ThreadPoolExecutor(1) as pool:
        return {name: pool.submit(asyncio.run, write(name, *told)).result() for name, told in texts.items()}


class Watched:
    """A page, and everything that went on behind it."""

    def __init__(self, browser: Browser, path: Path, width: int, scheme: Any = "light") -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        self.page: Page = self.context.new_page()
        self.said: list[str] = []
        self.fetched: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.fetched.append(request.url))
        self.page.goto(path.as_uri())

    def __enter__(self) -> Page:
        return self.page

    def __exit__(self, kind: Any, *_: object) -> None:
        remote = [url for url in self.fetched if not url.startswith(("file:", "data:"))]
        self.context.close()
        if kind is None:
            assert (self.said, remote) == ([], [])
            assert sum(url.startswith("file:") for url in self.fetched) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESKTOP])
@pytest.mark.parametrize("name", ["plain", "hostile", "endless"])
def test_page_fits_every_screen(
    browser: Browser, reports: dict[str, Path], tmp_path: Path, name: str, width: int, scheme: str
) -> None:
    with Watched(browser, reports[name], width, scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate("window.broken") is None
        assert page.evaluate("[...document.images].every(i => i.complete)")
        picture = tmp_path / "page.png"
        page.screenshot(path=picture, full_page=True)
    with Image.open(picture) as taken:
        assert taken.width == width
        assert taken.height > 2000
        corner = taken.convert("L").getpixel((1, taken.height - 1))
        colours = taken.convert("RGB").resize((64, 256)).getcolors(64 * 256)
    assert isinstance(corner, int | float)
    assert (corner < 60) == (scheme == "dark")
    assert colours is not None
    assert len(colours) > 50


def test_pictures_are_shown(browser: Browser, reports: dict[str, Path]) -> None:
    with Watched(browser, reports["plain"], DESKTOP) as page:
        sizes = page.eval_on_selector_all(".zoom img", "all => all.map(i => [i.naturalWidth, i.clientWidth])")
        assert len(sizes) == 1 + 3 * 5
        assert all(natural == 64 and shown > 40 for natural, shown in sizes)


def test_evidence_is_shown_by_mouse_tap_and_keyboard(browser: Browser, reports: dict[str, Path]) -> None:
    with Watched(browser, reports["plain"], DESKTOP) as page:
        bubble = page.locator("#bubble")
        assert not bubble.is_visible()
        page.locator(".cell").nth(1).hover()
        assert "Round 2: met" in bubble.inner_text()
        assert "seen 1" in bubble.inner_text()
        page.locator("h1").hover()
        assert not bubble.is_visible()
        page.locator(".cell").first.focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowDown")
        assert page.evaluate("document.activeElement.dataset.head") == "Round 2: not met"
        assert "seen 2" in bubble.inner_text()
        page.keyboard.press("Escape")
        assert not bubble.is_visible()
        # All answers together are one stop on the way through the page.
        assert page.locator(".cell[tabindex='0']").count() == 1


def test_bubble_stays_within_a_phone(browser: Browser, reports: dict[str, Path]) -> None:
    with Watched(browser, reports["endless"], PHONE) as page:
        page.locator(".cell").nth(2).click()
        box = page.locator("#bubble").bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= PHONE


def test_picture_is_enlarged_and_closed_by_keyboard(browser: Browser, reports: dict[str, Path]) -> None:
    with Watched(browser, reports["plain"], DESKTOP) as page:
        page.locator(".zoom").nth(1).focus()
        page.keyboard.press("Enter")
        assert page.locator("#box").is_visible()
        assert page.locator("#box img").get_attribute("alt") == "Image of round 1"
        page.keyboard.press("Escape")
        assert not page.locator("#box").is_visible()


def test_screen_readers_find_their_way(browser: Browser, reports: dict[str, Path]) -> None:
    with Watched(browser, reports["plain"], DESKTOP) as page:
        heard = page.locator("body").aria_snapshot()
        for part in ('heading "a red cat" [level=1]', 'heading "Round 3"', 'img "Share of requirements met'):
            assert part in heard
        assert 'rowheader "Is there a cat? seen lost in round 3' in heard
        assert 'button "Round 3: lost"' in heard
        assert "insertion: and seen" in heard
        levels = page.eval_on_selector_all("h1,h2,h3,h4", "all => all.map(h => +h.tagName[1])")
        assert levels[0] == 1
        assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_page_is_whole_without_scripts(browser: Browser, reports: dict[str, Path]) -> None:
    context = browser.new_context(java_script_enabled=False, viewport={"width": PHONE, "height": 800})
    page = context.new_page()
    page.goto(reports["plain"].as_uri())
    assert "seen 2" in page.locator("#round-2").inner_text()
    context.close()
