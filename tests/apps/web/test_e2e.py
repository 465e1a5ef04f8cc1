"""The whole page in a real browser, on a real server."""

from __future__ import annotations

import io
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright
from pydantic import SecretStr

from gems.apps.server.app import create_app
from gems.apps.web import mount
from gems.errors import ServerError
from gems.settings import GeneratorSettings, Settings
from tests.reporting.test_browser import CHROMIUM, FLAGS
from tests.support.http_server import app_of, begun, gated, keys_of, result, serving
from tests.support.offers import kinds, offering
from tests.support.pausable_models import World
from tests.support.scripted_service import PATIENCE_S, House
from tests.support.stub import StubServer
from tests.support.terminal import started, wait_until
from tests.support.web_page import FAINT, Watched, photograph

# Without a text, since reading one takes longer than the rest of a round.
PROMPT = "three red circles above a blue striped square left of two yellow stars"
PHONE, DESKTOP = 375, 1280
# In one process, so that browser and server are started once.
pytestmark = [
    pytest.mark.xdist_group("web"),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium"),
    pytest.mark.skipif(not mount.is_installed(), reason="no Gradio"),
]
expect.set_options(timeout=PATIENCE_S * 1000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The built-in world's server."""
    with serving(create_app(Settings(home=tmp_path_factory.mktemp("home"), experience="off"))) as url:
        yield url


@pytest.fixture(scope="module")
def run_id(world: str) -> str:
    """A run of three rounds that came to its end."""
    with httpx.Client(base_url=world, timeout=PATIENCE_S) as client:
        run_id = begun(client, PROMPT, seed=9, max_rounds=3, candidates=2, size="512x512")
        assert len(result(client, run_id)["rounds"]) == 3
        return run_id


@pytest.fixture
def house(tmp_path: Path) -> House:
    house = House(tmp_path / "home")
    house.never_pass()
    return house


@pytest.fixture
def home(house: House) -> Iterator[str]:
    """The server of a house."""
    with serving(app_of(house, web=True)) as url:
        yield url


def draw(page: Page, prompt: str = PROMPT) -> None:
    page.get_by_label("Prompt", exact=True).fill(prompt)
    page.get_by_role("button", name="Generate").click()


def finished(page: Page) -> None:
    """Feedback can be given on what has come to its end."""
    expect(page.get_by_label("Feedback")).to_be_visible()
    expect(page.get_by_role("button", name="Cancel")).to_be_hidden()


def option(page: Page, label: str, value: str) -> None:
    if not page.get_by_label(label).first.is_visible():
        page.get_by_role("button", name="Options").click()
    page.get_by_label(label).first.fill(value)


def tab_to(page: Page, name: str) -> None:
    """Press Tab until something with this label has the focus."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if (
            page.get_by_label(name, exact=True)
            .or_(page.get_by_role("button", name=name))
            .evaluate_all("all => all.includes(document.activeElement)")
        ):
            return
    pytest.fail(f"No Tab leads to {name}")


def test_a_whole_run_with_the_keyboard_only(browser: Browser, world: str) -> None:
    with Watched(browser, world, "/web/", DESKTOP) as page:
        expect(page.get_by_role("heading", name="GEMS")).to_be_visible()
        tab_to(page, "Prompt")
        page.keyboard.type(PROMPT)
        tab_to(page, "Generate")
        page.keyboard.press("Enter")
        finished(page)
        expect(page).to_have_url(re.compile(r"/web/\?run=[\w-]+$"))
        expect(page.locator("#status")).to_contain_text("Best image: ")
        tab_to(page, "Zoom into the image")
        shown = page.locator(".g-round >> visible=true")
        expect(shown).to_have_count(1)
        expect(shown.get_by_role("heading", name="Checklist")).to_be_visible()
        assert shown.locator(".g-mark.yes").count() >= 1
        costs = page.get_by_text("Costs and details")
        expect(costs).to_contain_text("$")
        before = page.locator("article").inner_text()
        page.reload()
        finished(page)
        assert page.locator("article").inner_text() == before
        costs.click()
        expect(page.get_by_label("Cost so far")).to_contain_text("built-in world")
        with page.context.expect_page() as opened:
            page.get_by_role("link", name="Report of the run").click()
        assert opened.value.locator("h1").inner_text() == PROMPT


def test_a_reload_and_another_tab_go_on_with_the_run(browser: Browser, home: str, house: House) -> None:
    gate = gated(house, 2)
    with Watched(browser, home, "/web/", DESKTOP) as page:
        draw(page, "a red cat")
        gate.wait()
        learned = page.locator(".g-round >> visible=true").get_by_text("Learned")
        expect(learned).to_be_visible()
        expect(page.locator("#status")).to_contain_text("Drawing round 2.")
        page.reload()
        expect(learned).to_be_visible()
        expect(page.get_by_role("button", name="Cancel")).to_be_visible()
        other = page.context.new_page()
        other.goto(page.url)
        expect(other.locator(".g-round >> visible=true")).to_contain_text("Learned")
        gate.open()
        for tab in (page, other):
            finished(tab)
            expect(tab.locator("#status")).to_contain_text("No more progress.")
        assert page.locator("article").inner_text() == other.locator("article").inner_text()
    assert len({request.seed for request in house.generator.requests}) == len(house.generator.requests)


def test_a_run_of_five_rounds_fits_on_two_screens(browser: Browser, home: str) -> None:
    with httpx.Client(base_url=home, timeout=PATIENCE_S) as client:
        run_id = begun(client, "a red cat", max_rounds=5, plateau=0)
        assert len(result(client, run_id)["rounds"]) == 5
    with Watched(browser, home, f"/web/?run={run_id}", DESKTOP) as page:
        finished(page)
        expect(page.get_by_label("Rounds", exact=True).get_by_role("link")).to_have_count(5)
        expect(page.get_by_role("list", name="Past runs")).to_be_visible()
        photograph(page, "web-five")
        assert page.evaluate("document.documentElement.scrollHeight") <= 2 * 900
        picture = page.locator(".g-picture >> visible=true").bounding_box()
        assert picture is not None
        assert picture["width"] >= DESKTOP / 3


def test_a_run_is_cancelled(browser: Browser, home: str, house: House) -> None:
    gate = gated(house, 2)
    with Watched(browser, home, "/web/", DESKTOP) as page:
        draw(page, "a red cat")
        gate.wait()
        page.get_by_role("button", name="Cancel").click()
        gate.open()
        finished(page)
        expect(page.locator("#status")).to_contain_text("Cancelled.")
        assert len(house.generator.requests) == 2


def test_another_round_is_picked_and_feedback_goes_on_from_it(browser: Browser, world: str, run_id: str) -> None:
    with Watched(browser, world, f"/web/?run={run_id}", DESKTOP) as page:
        finished(page)
        page.get_by_label("Rounds", exact=True).get_by_role("link", name="Round 2").click()
        expect(page.get_by_role("heading", name="Round 2")).to_be_visible()
        page.reload()
        finished(page)
        expect(page.get_by_role("heading", name="Round 2")).to_be_visible()
        page.get_by_label("Rounds", exact=True).get_by_role("link", name="Round 1").click()
        expect(page).to_have_url(re.compile("&round=1$"))
        page.get_by_role("button", name="Continue with feedback").click()
        expect(page.get_by_role("alert")).to_contain_text("The feedback is empty.")
        page.get_by_label("Feedback").fill("The square must be green")
        page.get_by_role("button", name="Continue with feedback").click()
        page.get_by_text("Costs and details").click()
        expect(page.get_by_role("link", name=run_id)).to_be_visible()
        expect(page.get_by_text(f"Continues {run_id} after round 1.")).to_be_visible()
        finished(page)
        expect(page.get_by_role("alert")).to_have_count(0)
        page.get_by_label("Rounds", exact=True).get_by_role("link", name="Round 2").click()
        page.locator("[data-keep=prompt] > summary >> visible=true").click()
        expect(page.locator("#g-round-2 .g-prompt >> visible=true")).to_contain_text("The square must be green")
        assert run_id not in page.url


def pixels(page: Page, number: int) -> Image.Image:
    """The image of a round."""
    source = page.locator(f"#g-round-{number} .g-zoom img").first.get_attribute("src") or ""
    return Image.open(io.BytesIO(page.request.get(urljoin(page.url, source)).body())).convert("RGB")


def test_a_person_changes_an_image_takes_it_back_and_takes_another(browser: Browser, world: str, run_id: str) -> None:
    with Watched(browser, world, f"/web/?run={run_id}&round=1", DESKTOP) as page:
        finished(page)
        expect(page.get_by_role("button", name="Take this image")).to_be_hidden()
        page.get_by_role("button", name="Paint where to change").press("Enter")
        canvas = page.locator(".g-paint >> visible=true")
        canvas.focus()
        page.keyboard.press(" ")
        page.get_by_label("Feedback").fill("Make the square green")
        page.get_by_role("button", name="Change this image").press("Enter")
        take = page.get_by_role("button", name="Take this image")
        expect(take).to_be_visible()
        expect(page.locator("#status")).to_contain_text("Waiting for you.")
        assert run_id not in page.url
        expect(page.locator("figcaption >> visible=true")).to_contain_text("Inpaint of round 1")
        expect(page.locator("figcaption >> visible=true")).to_contain_text("asked for by you")
        # Beside the painted place, which is in the middle, no pixel may differ.
        before, after = pixels(page, 1), pixels(page, 4)
        side = before.width
        for part in ((0, 0, side, side * 2 // 5), (0, side * 3 // 5, side, side)):
            assert before.crop(part).tobytes() == after.crop(part).tobytes()
        slider = page.locator("#g-round-4").get_by_label("Compare with round 1")
        slider.focus()
        page.keyboard.press("End")
        expect(page.locator("#g-round-4 .g-picture")).to_have_attribute("style", re.compile("--g-split: 100%"))
        photograph(page, "web-decide")
        own = page.url
        page.reload()
        page.get_by_role("button", name="Take the newest back").click()
        expect(page.locator("#g-round-4 .g-bar")).to_contain_text("taken back")
        expect(page.locator("#status")).to_contain_text("Waiting for you.")
        page.get_by_label("Rounds", exact=True).get_by_role("link", name="Round 2").click()
        take.click()
        expect(page.locator("#status")).to_contain_text("A person took this image. Best image: ")
        expect(page.locator("#status")).to_contain_text("in round 2.")
        expect(take).to_be_hidden()
        assert own.partition("run=")[2].partition("&")[0] in page.url


def test_past_runs_are_found(browser: Browser, world: str, run_id: str) -> None:
    with httpx.Client(base_url=world, timeout=PATIENCE_S) as client:
        other = begun(client, "two green stars", seed=1, max_rounds=1)
        result(client, other)
    with Watched(browser, world, "/web/", DESKTOP) as page:
        gallery = page.get_by_role("list", name="Past runs")
        expect(gallery.get_by_role("link").first).to_contain_text("two green stars")
        search = page.get_by_label("Search past runs")
        search.fill("GREEN stars")
        search.press("Enter")
        expect(gallery.get_by_role("listitem")).to_have_count(1)
        photograph(page, "web-gallery")
        search.fill("<img src=x onerror=alert(1)>")
        search.press("Enter")
        expect(page.get_by_text("No prompt contains “<img src=x onerror=alert(1)>”.")).to_be_visible()
        search.fill("green")
        search.press("Enter")
        gallery.get_by_role("link").click()
        finished(page)
        assert page.url.endswith(f"?run={other}")


def test_each_key_sees_its_own(browser: Browser, home: str, house: House) -> None:
    tokens = {name: keys_of(house).add(name) for name in ("ann", "bob")}

    def enter(page: Page, name: str, token: str) -> None:
        page.get_by_label("Name").fill(name)
        page.get_by_label("Key", exact=True).fill(token)
        page.get_by_role("button", name="Sign in").click()

    with Watched(browser, home, "/web/", PHONE) as page:
        photograph(page, "web-sign-in")
        enter(page, "ann", tokens["ann"])
        expect(page.get_by_text("Signed in as ann")).to_be_visible()
        draw(page, "a red cat")
        finished(page)
        own = page.url.partition("?run=")[2]
        expect(page.get_by_role("list", name="Past runs")).to_be_visible()
        photograph(page, "web-signed-in")
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    with Watched(browser, home, f"/web/?run={own}", DESKTOP) as page:
        enter(page, "bob", tokens["bob"])
        expect(page.get_by_text("Signed in as bob")).to_be_visible()
        expect(page.get_by_role("alert")).to_contain_text("There is no run")
        expect(page.get_by_text("There are no runs yet.")).to_be_visible()
        assert page.locator("article").count() == 0


@pytest.fixture
def shop(tmp_path: Path, stub: StubServer) -> Iterator[tuple[str, StubServer]]:
    """A server that offers the models of two others."""
    with StubServer() as far:
        # It is only looked at.
        wide = GeneratorSettings(model="openai:dall-e-3", api_key=SecretStr("unused"))
        settings = offering(tmp_path / "home", stub, far)
        settings = settings.model_copy(update={"offered_generators": settings.offered_generators | {"wide": wide}})
        with serving(create_app(settings)) as url:
            yield url, far


_ACTIVE = "document.querySelector('[role=option].active')?.textContent ?? ''"


def take(page: Page, label: str, name: str) -> None:
    """Choose a model with the keyboard."""
    tab_to(page, label)
    page.keyboard.press("ArrowDown")
    wanted = page.get_by_role("option", name=re.compile(f"^{re.escape(name)}: "))
    expect(wanted).to_be_visible()
    while (active := page.evaluate(_ACTIVE)) != wanted.text_content():
        page.keyboard.press("ArrowDown")
        # The page follows a key with a delay.
        page.wait_for_function(f"before => ({_ACTIVE}) !== before", arg=active)
    page.keyboard.press("Enter")
    expect(page.get_by_label(label, exact=True)).to_have_value(re.compile(f"^{re.escape(name)}: "))


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_models_are_chosen_where_there_is_a_choice(
    browser: Browser, shop: tuple[str, StubServer], stub: StubServer, width: int
) -> None:
    url, far = shop
    with Watched(browser, url, "/web/", width) as page:
        for label in ("Generator", "Judge"):
            expect(page.get_by_label(label, exact=True)).to_have_value("Default: built-in world")
        models = page.get_by_role("list", name="Models")
        take(page, "Generator", "wide")
        expect(models).to_contain_text("openai:dall-e-3")
        page.get_by_role("button", name="Options").click()
        page.get_by_label("Size").first.click()
        expect(page.get_by_role("option", name="1792x1024")).to_be_visible()
        page.get_by_role("option", name="1792x1024").click()
        photograph(page, f"web-models-{width}")
        assert page.evaluate("document.documentElement.scrollWidth") == width
        take(page, "Generator", "near")
        take(page, "Judge", "strict")
        expect(models).to_contain_text("strict at")
        # The plain server draws any size, and the other's is kept.
        expect(page.get_by_label("Size").first).to_have_value("1792x1024")
        option(page, "Size", "256x256")
        option(page, "Rounds", "1")
        draw(page, "two green stars")
        finished(page)
        assert (kinds(stub), kinds(far)) == ({"generate"}, {"chat"})
        page.reload()
        finished(page)
        page.get_by_text("Costs and details").click()
        facts = page.locator(".g-facts")
        expect(facts).to_contain_text(f"http:{stub.generate_url}")
        expect(facts).to_contain_text("strict at")
        expect(page.get_by_role("button", name="Change this image")).to_be_hidden()


def test_nothing_is_chosen_where_there_is_one_of_each(browser: Browser, world: str) -> None:
    with Watched(browser, world, "/web/", DESKTOP) as page:
        expect(page.get_by_role("list", name="Models")).to_contain_text("Generator: built-in world")
        for label in ("Generator", "Judge"):
            expect(page.get_by_label(label, exact=True)).to_have_count(0)


def test_what_is_wrong_is_told(browser: Browser, world: str) -> None:
    with Watched(browser, world, "/web/?run=<b>nothing</b>", DESKTOP) as page:
        expect(page.get_by_role("alert")).to_contain_text("There is no run '<b>nothing</b>'.")
        page.get_by_role("button", name="Generate").click()
        expect(page.get_by_text("The prompt is empty.")).to_be_visible()
        for label, value, told in (("Seed", "abc", "it must be a whole number"), ("Size", "huge", "huge")):
            option(page, label, value)
            draw(page)
            expect(page.get_by_role("alert").filter(has_text=told)).to_be_visible()
            option(page, label, "")
        draw(page)
        finished(page)
        expect(page.get_by_role("alert")).to_have_count(0)


def test_errors_of_models_are_told(browser: Browser, home: str, house: House) -> None:
    async def fail() -> None:
        raise ServerError("The model's server is out of order.")

    house.on_drawing(1, fail)
    with Watched(browser, home, "/web/", DESKTOP) as page:
        draw(page, "a red cat")
        expect(page.get_by_text("The model's server is out of order.").first).to_be_visible()
        expect(page.get_by_role("button", name="Cancel")).to_be_hidden()


@pytest.mark.parametrize(("width", "scheme"), [(PHONE, "light"), (PHONE, "dark"), (DESKTOP, "dark")])
def test_fits_every_screen_and_can_be_read(browser: Browser, world: str, run_id: str, width: int, scheme: str) -> None:
    with Watched(browser, world, f"/web/?run={run_id}", width, scheme) as page:
        finished(page)
        page.get_by_role("button", name="Options").click()
        expect(page.get_by_label("Seed").first).to_be_visible()
        photograph(page, f"web-run-{width}-{scheme}")
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate(FAINT, ".gradio-container *") == []
        background: Any = "getComputedStyle(document.querySelector('.g-card')).backgroundColor"
        assert (page.evaluate(background) == "rgb(255, 255, 255)") == (scheme == "light")


def test_readers_of_the_screen_find_their_way(browser: Browser, world: str, run_id: str) -> None:
    nameless: Any = """() => [...document.querySelectorAll("input, textarea, select, button")].filter(e =>
      e.getClientRects().length && e.type !== "hidden" && !(e.labels && [...e.labels].some(
        l => l.innerText.trim())) && !e.ariaLabel && !e.innerText.trim()).map(e => e.outerHTML)"""
    with Watched(browser, world, f"/web/?run={run_id}", DESKTOP) as page:
        finished(page)
        page.get_by_role("button", name="Options").click()
        expect(page.get_by_label("Seed").first).to_be_visible()
        assert page.evaluate(nameless) == []
        assert page.locator("img:not([alt])").count() == 0
        assert page.locator("#status [role=status]").get_attribute("aria-live") == "polite"
        assert page.locator("h1").count() == 1
        assert page.locator("html").get_attribute("lang") == "en"
        assert page.title() == "GEMS"
        twice: Any = """() => { const ids = [...document.querySelectorAll("[id]")].map(e => e.id);
          return ids.filter((id, at) => id && ids.indexOf(id) !== at); }"""
        assert page.evaluate(twice) == []


def test_a_server_that_is_stopped_tells_open_pages(browser: Browser) -> None:
    world = World()
    world.hold(lambda task, asked: task == "image")
    with StubServer(chat=world.chat, images=world.draw) as stub:
        models = ["--chat", f"openai:stub@{stub.base_url}", "--generator", f"openai:stub@{stub.base_url}"]
        with started("serve", "--port", "0", *models, GEMS_SKILLS="none") as process:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            window = Watched(browser, url, "/web/", DESKTOP)
            window.expected += ("Failed to load resource: net::ERR_CONNECTION_REFUSED",)
            with window as page:
                draw(page, "a red cat")
                assert world.held.wait(PATIENCE_S)
                expect(page.get_by_role("button", name="Cancel")).to_be_visible()
                process.send_signal(signal.SIGTERM)
                wait_until(lambda: is_refused(url), process)
                world.release()
                expect(page.get_by_role("alert")).to_contain_text("its process is stopping")
                assert process.wait(PATIENCE_S) == 0
            assert process.stderr is not None
            assert "Traceback" not in process.stderr.read()


def is_refused(url: str) -> bool:
    """Whether nobody listens any more."""
    try:
        httpx.get(url, timeout=PATIENCE_S)
    except httpx.ConnectError:
        return True
    return False
