"""What the page shows of runs, in a real browser from a real server with the built-in world."""

from __future__ import annotations

import base64
import io
import itertools
import re
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from gems.settings import ServeSettings, Settings
from tests.reporting.test_browser import CHROMIUM, FLAGS
from tests.support.report_pages import ENDLESS, HOSTILE
from tests.support.web_page import FAINT, Served, Watched, photograph, served

PROMPT = 'three red circles above a blue striped square, and the word "GO"'
COUNTED = "four red circles above a blue square"
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
        photograph(page, f"{name}-{width}-{scheme}")
        card = page.locator(".g-card, .g-gallery a").first
        colour = card.evaluate("e => getComputedStyle(e).backgroundColor")
        assert (colour == "rgb(255, 255, 255)") == (scheme == "light")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_read(browser: Browser, at: Served, runs: dict[str, str], scheme: str) -> None:
    with Watched(browser, at.url, f"/frame?run={runs['plain']}", DESKTOP, scheme) as page:
        assert page.evaluate(FAINT, ".gems *") == []


def test_screen_readers_find_their_way(browser: Browser, at: Served, runs: dict[str, str]) -> None:
    with Watched(browser, at.url, f"/frame?run={runs['plain']}", DESKTOP) as page:
        page.get_by_label("Rounds").get_by_role("link").first.click()
        heard = page.locator("body").aria_snapshot()
        for part in ("- status:", 'heading "Round 1" [level=3]', 'list "All images of round 1"', "not met: "):
            assert part in heard
        levels = page.eval_on_selector_all("h2,h3,h4", "all => all.map(h => +h.tagName[1])")
        assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
        assert page.locator("img:not([alt])").count() == 0


REACHED: Any = "[...document.querySelectorAll('a, summary, button')].indexOf(document.activeElement)"
VISIBLE: Any = "[...document.querySelectorAll('a, summary, button')].filter(e => e.checkVisibility()).length"


def test_keyboard_reaches_everything(browser: Browser, at: Served, runs: dict[str, str]) -> None:
    with Watched(browser, at.url, f"/frame?run={runs['plain']}", DESKTOP) as page:
        page.locator(".g-more > summary").last.focus()
        page.keyboard.press("Enter")
        wanted = page.evaluate(VISIBLE)
        reached = set()
        for _ in range(wanted + 20):
            page.keyboard.press("Tab")
            reached.add(page.evaluate(REACHED))
        assert len(reached - {-1}) == wanted
        page.locator("[data-keep=prompt] > summary >> visible=true").focus()
        page.keyboard.press("Enter")
        assert page.locator("details[open] .g-prompt >> visible=true").count() == 1


def test_a_round_is_chosen_with_mouse_and_keyboard_and_stays_chosen(
    browser: Browser, at: Served, runs: dict[str, str]
) -> None:
    with Watched(browser, at.url, f"/frame?run={runs['plain']}", DESKTOP) as page:
        titles = page.get_by_role("heading", level=3)
        links = page.get_by_label("Rounds").get_by_role("link")
        last = links.count()
        assert last > 1
        links.first.click()
        expect(titles).to_have_text(["Round 1"])
        expect(page).to_have_url(re.compile("&round=1$"))
        page.keyboard.press("ArrowRight")
        expect(titles).to_have_text(["Round 2"])
        expect(links.nth(1)).to_be_focused()
        expect(links.nth(1)).to_have_attribute("aria-current", "true")
        page.locator("[data-keep=prompt] > summary >> visible=true").click()
        links.nth(1).focus()
        # The page brings the whole run anew after each event.
        page.evaluate("""() => { const all = document.querySelector(".g-run").parentElement;
            all.outerHTML = all.outerHTML.replaceAll(" open", ""); }""")
        expect(titles).to_have_text(["Round 2"])
        expect(links.nth(1)).to_be_focused()
        expect(page.locator("details[open][data-keep=prompt] >> visible=true")).to_have_count(1)


def test_the_box_of_a_fault_is_drawn_on_the_picture_when_pointed_at(browser: Browser, at: Served) -> None:
    run_id = at(at.desk.begin(at.desk.caller(None), COUNTED, {"max_rounds": 1, "size": "256x256", "seed": "2"}))
    at.finished(run_id)
    view = at(at.desk.view(at.desk.caller(None), run_id))
    ((left, top, right, bottom),) = [answer["box"] for answer in view.rounds[1].answers.values() if "box" in answer]
    with Watched(browser, at.url, f"/frame?run={run_id}", DESKTOP) as page:
        box, picture = page.locator(".g-box"), page.locator(".g-picture img")
        expect(box).to_be_hidden()

        def check() -> None:
            expect(box).to_be_visible()
            drawn, within = box.bounding_box(), picture.bounding_box()
            assert drawn is not None
            assert within is not None
            told = [
                (drawn["x"] - within["x"]) / within["width"],
                (drawn["y"] - within["y"]) / within["height"],
                drawn["width"] / within["width"],
                drawn["height"] / within["height"],
            ]
            wanted = [left / 1000, top / 1000, (right - left) / 1000, (bottom - top) / 1000]
            assert told == pytest.approx(wanted, abs=0.01)

        page.locator("li[data-box]").hover()
        check()
        photograph(page, "box")
        page.get_by_role("heading", level=2).hover()
        expect(box).to_be_hidden()
        page.get_by_role("button", name="Show where").focus()
        check()


def test_the_picture_fills_the_screen(browser: Browser, at: Served, runs: dict[str, str]) -> None:
    with Watched(browser, at.url, f"/frame?run={runs['plain']}", DESKTOP) as page:
        opener = page.get_by_role("button", name="Zoom into the image of round")
        opener.press("Enter")
        viewer = page.get_by_role("dialog", name="Image")
        image = viewer.get_by_role("img")
        expect(image).to_have_attribute("alt", re.compile("Image of round"))
        fits = image.bounding_box()
        page.keyboard.press("+")
        assert fits is not None
        page.wait_for_function("width => document.querySelector('dialog img').clientWidth > width", arg=fits["width"])
        page.keyboard.press("0")
        assert image.bounding_box() == fits
        viewer.get_by_role("button", name="Full screen").click()
        page.wait_for_function("document.fullscreenElement?.contains(document.querySelector('dialog img'))")
        viewer.get_by_role("button", name="Full screen").click()
        page.wait_for_function("!document.fullscreenElement")
        page.keyboard.press("Escape")
        expect(viewer).to_be_hidden()
        expect(opener).to_be_focused()


def mask_of(page: Page) -> Image.Image:
    """The mask that the page would send."""
    data: str = page.evaluate("gemsMask()")
    assert data.startswith("data:image/png;base64,")
    mask = Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2])))
    assert mask.convert("RGBA").getchannel("A").getextrema() == (255, 255)
    return mask.convert("L")


def test_a_mask_is_painted_with_mouse_keyboard_and_boxes(browser: Browser, at: Served) -> None:
    run_id = at(at.desk.begin(at.desk.caller(None), COUNTED, {"max_rounds": 1, "size": "256x192", "seed": "2"}))
    at.finished(run_id)
    with Watched(browser, at.url, f"/frame?run={run_id}", DESKTOP) as page:
        canvas, clear = page.locator(".g-paint"), page.get_by_role("button", name="Clear")
        expect(canvas).to_be_hidden()
        expect(clear).to_be_hidden()
        assert page.evaluate("gemsMask()") == ""
        page.get_by_role("button", name="Paint where to change").press("Enter")
        assert page.evaluate("gemsMask()") == ""
        place = canvas.bounding_box()
        assert place is not None
        middle = place["y"] + place["height"] / 2
        page.mouse.move(place["x"] + place["width"] / 4, middle)
        page.mouse.down()
        page.mouse.move(place["x"] + place["width"] * 3 / 4, middle, steps=3)
        page.mouse.up()
        mask = mask_of(page)
        assert mask.size == (256, 192)
        assert [mask.getpixel(spot) for spot in ((128, 96), (64, 96), (190, 96), (20, 96), (128, 30))] == [
            *(255, 255, 255, 0, 0)
        ]
        photograph(page, "painted")
        clear.click()
        assert page.evaluate("gemsMask()") == ""
        page.get_by_role("slider", name="Brush").fill("2")
        canvas.focus()
        for key in (*["ArrowUp"] * 10, " "):
            page.keyboard.press(key)
        # The brush is where the mouse left it.
        assert mask_of(page).getpixel((192, 96 - 38)) == 255
        page.keyboard.press("Shift+ArrowLeft")
        (left, top, right, bottom) = mask_of(page).point(lambda level: 255 * (level > 127)).getbbox() or (0, 0, 0, 0)
        assert (left, top, right, bottom) == pytest.approx((192 - 10, 96 - 38 - 5, 192 + 5, 96 - 38 + 5), abs=2)
        clear.click()
        page.get_by_role("button", name="Paint where faults are").click()
        box = [int(side) for side in (page.locator("[data-box]").get_attribute("data-box") or "").split()]
        wanted = [side * length / 1000 for side, length in zip(box, (256, 192, 256, 192), strict=True)]
        assert mask_of(page).point(lambda level: 255 * (level > 127)).getbbox() == pytest.approx(wanted, abs=1)


def test_report_opens_in_a_new_tab_and_images_are_downloaded(
    browser: Browser, at: Served, runs: dict[str, str]
) -> None:
    with Watched(browser, at.url, f"/frame?run={runs['plain']}", DESKTOP) as page:
        with page.context.expect_page() as opened:
            page.locator(".g-more > summary").last.click()
            page.get_by_role("link", name="Report of the run").click()
        assert opened.value.locator("h1").inner_text() == PROMPT
        assert "Requirements across rounds" in opened.value.locator("body").inner_text()
        with page.expect_download() as saved:
            page.get_by_label("Rounds").get_by_role("link").first.click()
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
