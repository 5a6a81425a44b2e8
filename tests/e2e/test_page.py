"""The storefront's page in a real browser: drawn with, voted on, by keyboard, on a phone, at night, under load."""

import contextlib
import io
import shutil
from base64 import b64decode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, Route, expect, sync_playwright

from deployments.stack import Stack
from tasks.core.registry.models import apply_config
from tasks.core.registry.releases import write_release
from tasks.core.store import FolderStore
from tests.adire import adire
from tests.e2e.shops import MANIFEST, logged, published, random_lora, wait_for

CHROMIUM = shutil.which("chromium") or ""
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium on this machine: apt-get install chromium"),
]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
]
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    extra = {"DYEWORKS_POLL_SECONDS": "0.2", "DYEWORKS_LIMIT_ADDRESS": "", "DYEWORKS_LIMIT_SESSION": ""}
    stack = Stack(tmp_path_factory.mktemp("page"), extra | {"GRADIO_TEMP_DIR": str(tmp_path_factory.mktemp("gradio"))})
    store = FolderStore(stack.home / "store")
    apply_config(store, adire(serving={"steps": 4, "sizes": ("64x96",)}))
    apply_config(store, adire(name="batik", trigger="batik_style", class_noun="waxed cloth", serving={"steps": 4}))
    try:
        stack.start_storefront()
        stack.wait("storefront", "/readyz")
        yield stack
    finally:
        stack.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def elsewhere() -> list[str]:
    """The addresses of other servers that the page asked for."""
    return []


@pytest.fixture
def page(shop: Stack, browser: Browser, elsewhere: list[str]) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(60_000)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: elsewhere.append(request.url) if is_foreign(request.url, shop) else None)
    page.goto(shop.url("storefront"))
    expect(page.locator("#status")).to_have_text("Ready.", timeout=60_000)
    yield page
    page.close()
    assert faults == []
    assert elsewhere == []


def is_foreign(url: str, shop: Stack) -> bool:
    return not url.startswith((shop.url("storefront"), "data:", "blob:"))


def drawn(page: Page, number: int) -> Locator:
    """The pictures of the last drawing, once there are so many."""
    shown = page.locator("#frames img")
    expect(shown).to_have_count(number, timeout=60_000)
    return shown


def box(where: Locator) -> tuple[float, float, float, float]:
    found = where.bounding_box()
    assert found
    return found["x"], found["y"], found["width"], found["height"]


def test_visitor_draws_two_pictures_votes_and_saves_one(shop: Stack, page: Page) -> None:
    assert page.locator("#prompt").input_value() == "large rings in adire_style"
    page.locator("#prompt").fill("large dots in adire_style")
    frames = page.locator("#frames .frame")
    before = [box(frames.nth(number)) for number in range(2)]
    page.locator("#draw").click()
    drawn(page, 2)
    assert [box(frames.nth(number)) for number in range(2)] == before, "nothing moves when pictures arrive"
    expect(page.locator("#status")).to_contain_text("2 pictures by the bare base of adire")
    assert page.locator("#history button").count() == 2

    votes = len(logged(shop, "feedback"))
    page.get_by_label("I do not like it").nth(1).click()
    expect(page.locator("#status")).to_have_text("Thank you. You do not like it.")
    assert page.locator("[aria-pressed=true]").count() == 1
    wait_for(lambda: len(logged(shop, "feedback")) > votes, "the vote is logged")
    vote = logged(shop, "feedback")[-1]
    line = next(line for line in logged(shop) if line["request_id"] == vote["request_id"])
    assert (vote["liked"], line["prompt"], line["picture"]) == (False, "large dots in adire_style", 1)

    save = page.locator("#frames a[download]").nth(1)
    assert save.get_attribute("download") == f"adire-base-{line['seed']}.png"
    file = b64decode(str(save.get_attribute("href")).partition(";base64,")[2])
    assert vote["request_id"] in str(Image.open(io.BytesIO(file)).info["XML:com.adobe.xmp"])


def test_example_fills_the_box_and_a_picture_opens_large(page: Page) -> None:
    page.get_by_role("button", name="large waves in adire_style").click()
    assert page.locator("#prompt").input_value() == "large waves in adire_style"
    page.get_by_label("1", exact=True).check(force=True)
    page.locator("#draw").click()
    drawn(page, 1)
    page.locator("#history button").first.click()
    expect(page.locator("dialog")).to_contain_text("large waves in adire_style")
    page.locator("dialog").get_by_label("I like it").click()
    expect(page.locator("#status")).to_have_text("Thank you. You like it.")
    assert page.locator("#frames [aria-pressed=true]").count() == 1, "it is the same picture"
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_be_hidden()


def test_model_generation_size_and_seed_are_chosen(shop: Stack, page: Page, tmp_path: Path) -> None:
    store = FolderStore(shop.home / "store")
    (tmp_path / "a").mkdir()
    published(store, write_release(store, "adire", random_lora(tmp_path / "a"), MANIFEST), 1)
    ready = f"{shop.url('storefront')}/shop/offers"
    wait_for(lambda: httpx.get(ready).json()["models"][0]["generation"] == 1, "the release is served")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # as when the visitor comes back
    expect(page.locator("#version option").first).to_have_text("Newest: generation 1")
    expect(page.locator("#why")).to_contain_text("better")

    page.locator("#advanced summary").click()
    page.locator("#seed").fill("11")
    page.locator("#size").select_option("64x96")
    page.locator("#draw").click()
    first = [drawn(page, 2).nth(number).get_attribute("src") for number in range(2)]
    expect(page.locator("#frames .about").first).to_contain_text("Generation 1: why?")
    expect(page.locator("#frames .about").first).to_contain_text("Seed 11")
    page.locator("#frames .about a").first.click()
    expect(page.locator("#why-title")).to_be_focused()
    expect(page.locator("#why-title")).to_have_text("Why adire, generation 1?")

    page.locator("#version").select_option("adire-base")
    page.locator("#draw").click()
    expect(page.locator("#status")).to_contain_text("2 pictures by the bare base of adire")
    assert [drawn(page, 2).nth(number).get_attribute("src") for number in range(2)] != first

    page.locator("#model").select_option("batik")
    expect(page.locator("#examples")).to_contain_text("batik_style")
    page.locator("#draw").click()
    expect(page.locator("#status")).to_contain_text("of batik")


def test_page_is_used_by_keyboard_alone(page: Page) -> None:
    def press(key: str, until: str) -> None:
        for _ in range(20):
            page.keyboard.press(key)
            if page.evaluate("document.activeElement.id || document.activeElement.getAttribute('aria-label')") == until:
                return
        raise AssertionError(f"{key} never reaches {until}")

    page.locator("body").press("Home")
    press("Tab", "prompt")
    page.keyboard.press("Control+A")
    page.keyboard.type("small dots in adire_style")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert outline == "3px", "the focus is seen"
    for _ in range(6):  # the examples, then the number of pictures
        page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    press("Tab", "draw")
    page.keyboard.press("Enter")
    seeds = drawn(page, 3).count()
    assert (seeds, page.evaluate("document.activeElement.id")) == (3, "draw")
    expect(page.locator("#status")).to_have_attribute("aria-live", "polite")
    page.locator("#prompt").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#history button")).to_have_count(6)
    drawn(page, 3)
    label = str(page.get_by_label("I like it").first.get_attribute("aria-label"))
    press("Tab", label)
    page.keyboard.press("Space")
    expect(page.locator("#status")).to_have_text("Thank you. You like it.")


def test_phone_shows_all_of_it_without_scrolling_sideways(page: Page) -> None:
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    assert box(page.locator("#draw"))[1] + box(page.locator("#draw"))[3] < PHONE["height"], "on the first screen"
    page.locator("#draw").click()
    drawn(page, 2)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    expect(page.locator("#frames img").first).to_be_in_viewport()
    small = page.evaluate(
        """[...document.querySelectorAll('.shop button, .shop select, .shop a.button')]
           .filter(each => each.offsetParent && each.getBoundingClientRect().height < 32).map(each => each.outerHTML)"""
    )
    assert small == [], "fingers hit them"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_by_day_and_by_night(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.locator("#draw").click()
    drawn(page, 2)
    pairs = page.evaluate(
        """() => ['#lead', '#hint', '#prompt', '#draw', '#status', '#examples button', '.about a', '.about span',
                  '#why-text p', 'footer p'].map(name => {
            const element = document.querySelector('.shop ' + name);
            let ground = element;
            while (getComputedStyle(ground).backgroundColor === 'rgba(0, 0, 0, 0)') ground = ground.parentElement;
            const numbers = text => text.match(/[0-9.]+/g).slice(0, 3).map(Number);
            return [name, numbers(getComputedStyle(element).color), numbers(getComputedStyle(ground).backgroundColor)];
        })"""
    )
    for name, text, ground in pairs:
        assert contrast(text, ground) >= 4.5, name
    assert (luminance(pairs[4][2]) > 0.5) == (scheme == "light")


def luminance(colour: list[float]) -> float:
    """Of WCAG."""
    linear = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: list[float], other: list[float]) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_visitor_who_comes_too_early_gets_the_picture_when_the_model_is_ready(page: Page) -> None:
    answer = httpx.get(page.url + "offers").json()

    def loading(route: Route) -> None:
        route.fulfill(json=answer | {"problem": "the base model is loading"})

    page.route("**/shop/offers", loading)
    page.reload()
    expect(page.locator("#status")).to_contain_text("Not ready yet: the base model is loading. You can write already.")
    page.locator("#draw").click()
    expect(page.locator("#status")).to_contain_text("Yours is drawn as soon as it can be")
    page.unroute("**/shop/offers")
    drawn(page, 2)


def test_under_load_the_visitor_is_told_how_long_it_takes_and_can_stop(shop: Stack, page: Page) -> None:
    body = {"model": "adire", "prompt": "rings", "n": 10, "steps": 20}

    def flood(_: int) -> None:
        with contextlib.suppress(httpx.TimeoutException):  # it hangs up, and its pictures leave the queue
            httpx.post(f"{shop.url('storefront')}/v1/images/generations", json=body, timeout=20)

    with ThreadPoolExecutor(8) as clients:
        floods = [clients.submit(flood, number) for number in range(8)]
        wait_for(lambda: httpx.get(page.url + "offers").json()["seconds"] > 5, "pictures wait")
        page.locator("#draw").click()
        expect(page.locator("#status")).to_contain_text("Yours comes in about")
        page.get_by_role("button", name="Stop").click()
        expect(page.locator("#status")).to_have_text("Stopped.")
        for each in floods:
            each.result()
    page.locator("#draw").click()
    drawn(page, 2)


def test_history_is_bounded_and_nothing_is_on_the_servers_disk(shop: Stack, page: Page) -> None:
    page.get_by_label("4", exact=True).check(force=True)
    for number in range(7):
        page.locator("#draw").click()
        expect(page.locator("#history button")).to_have_count(min(4 * (number + 1), 24), timeout=60_000)
        expect(page.locator("#draw")).to_have_attribute("aria-disabled", "false")
    assert page.locator("#history button").count() == 24
    folder = Path(shop.environment["GRADIO_TEMP_DIR"])
    assert [path for path in folder.rglob("*") if path.is_file()] == []
    page.reload()
    expect(page.locator("#status")).to_have_text("Ready.")
    assert page.locator("#history button").count() == 0
