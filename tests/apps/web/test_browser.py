"""What the page shows of runs, in a real browser from a real server with the built-in world."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from gems.settings import ServeSettings, Settings
from tests.reporting.test_browser import CHROMIUM, FLAGS
from tests.support.report_pages import ENDLESS, HOSTILE
from tests.support.web_page import FAINT, SCREENSHOTS, Served, Watched, served

PROMPT = 'three red circles above a blue striped square, and the word "GO"'
PHONE, DESKTOP = 375, 1280
pytestmark = [pytest.mark.skipif(CHROMIUM is None, reason="no Chromium"), pytest.mark.xdist_group("gallery")]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("home")
    with served(Settings(home=home, experience="off", serve=ServeSettings(web=False))) as server:
        yield server


@pytest.fixture(scope="module")
def runs(at: Served) -> dict[str, str]:
    """Runs by name: one as people make them, one full of markup, one whose words have no end."""
    caller = at.desk.caller(None)
    form = {"max_rounds": 3, "candidates": 2, "size": "256x256", "seed": "9", "memory": False}
    told = {"plain": PROMPT, "hostile": f"two green stars {HOSTILE} ${{1}}", "endless": f"a star {ENDLESS}"}
    return {name: at.finished(at(at.desk.begin(caller, prompt, form))) for name, prompt in told.items()}


@pytest.mark.parametrize(("width", "scheme"), [(PHONE, "light"), (DESKTOP, "dark")])
@pytest.mark.parametrize("name", ["plain", "hostile", "endless", "gallery"])
def test_fits_every_screen(
    browser: Browser, at: Served, runs: dict[str, str], name: str, width: int, scheme: str
) -> None:
    path = f"/frame?run={runs[name]}" if name in runs else "/frame"
    with Watched(browser, at.url, path, width, scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate("window.broken") is None
        # At each look, since the page may still put in images, which would not load before they are scrolled to.
        page.wait_for_function("""[...document.images].map(i => { i.loading = "eager"; return i; })
            .every(i => i.complete && i.naturalWidth > 0)""")
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"{name}-{width}-{scheme}.png", full_page=True)
        card = page.locator(".g-card, .g-gallery a").first
        colour = card.evaluate("e => getComputedStyle(e).backgroundColor")
        assert (colour == "rgb(255, 255, 255)") == (scheme == "light")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_read(browser: Browser, at: Served, runs: dict[str, str], scheme: str) -> None:
    with Watched(browser, at.url, f"/frame?run={runs['plain']}", DESKTOP, scheme) as page:
        assert page.evaluate(FAINT, ".gems *") == []


def test_screen_readers_find_their_way(browser: Browser, at: Served, runs: dict[str, str]) -> None:
    with Watched(browser, at.url, f"/frame?run={runs['plain']}", DESKTOP) as page:
        heard = page.locator("body").aria_snapshot()
        for part in ("- status:", 'heading "Round 1" [level=3]', 'list "All images of round 1"', "not met: "):
            assert part in heard
        assert 'link "Report of the run (opens in a new tab)' in heard
        levels = page.eval_on_selector_all("h2,h3,h4", "all => all.map(h => +h.tagName[1])")
        assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
        assert page.locator("img:not([alt])").count() == 0


def test_keyboard_reaches_everything(browser: Browser, at: Served, runs: dict[str, str]) -> None:
    with Watched(browser, at.url, f"/frame?run={runs['plain']}", DESKTOP) as page:
        wanted = page.locator("a[href], summary").count()
        reached = set()
        for _ in range(wanted + 20):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("[...document.querySelectorAll('a, summary')].indexOf(document.activeElement)"))
        assert len(reached - {-1}) == wanted
        page.locator("summary").first.focus()
        page.keyboard.press("Enter")
        assert page.locator("details[open] ins").count() > 0


def test_report_opens_in_a_new_tab_and_images_are_downloaded(
    browser: Browser, at: Served, runs: dict[str, str]
) -> None:
    with Watched(browser, at.url, f"/frame?run={runs['plain']}", DESKTOP) as page:
        with page.context.expect_page() as opened:
            page.get_by_role("link", name="Report of the run").click()
        assert opened.value.locator("h1").inner_text() == PROMPT
        assert "Requirements across rounds" in opened.value.locator("body").inner_text()
        with page.expect_download() as saved:
            page.get_by_role("link", name="Download the image of round 1").click()
        assert saved.value.suggested_filename == f"{runs['plain']}-round-1.png"
        assert saved.value.path().read_bytes().startswith(b"\x89PNG")


def test_search_finds_words(browser: Browser, at: Served, runs: dict[str, str]) -> None:
    with Watched(browser, at.url, "/frame?text=STRIPED", DESKTOP) as page:
        links = page.eval_on_selector_all(".g-gallery a", "all => all.map(a => a.getAttribute('href'))")
        assert links == [f"?run={runs['plain']}"]
    with Watched(browser, at.url, "/frame?text=<script>nothing", PHONE) as page:
        assert "No prompt contains “<script>nothing”" in page.locator("main").inner_text()
    with Watched(browser, at.url, "/frame?run=<script>alert(1)</script>", PHONE) as page:
        assert "There is no run" in page.get_by_role("alert").inner_text()
