"""The page in a real browser: it works, it fetches nothing, and what data say stays text."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from mmdata.rejects import Reason, Reject
from mmdata.report import preview
from mmdata.schema import Conversation, Image, Media, Region, assistant, replace, user
from tests.report.test_preview import COGVLM2_VIDEO, about_a_clip, about_noise
from tests.stores import write

MARKUP = "<script>window.taken = 1</script><img src=x onerror='window.taken = 1'></title></style>"
HOSTILE = [
    MARKUP,
    '"><svg onload=window.taken=1>',
    "{{ 7 * 7 }}{% raw %}",
    "\x07\x1b]0;owned\x07\x1b[2J",
    "\N{RIGHT-TO-LEFT OVERRIDE}gnp.exe \N{LEFT-TO-RIGHT ISOLATE}x",
    "مرحبا بالعالم",
    "x" * 1_000_000,
    "</details></article></main>--><!--",
    "javascript:window.taken=1",
]


@dataclass
class Opened:
    """A page, what its console said, and what it asked for of the world."""

    page: Page
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        assert not os.environ.get("CI"), "CI looks at the page in a browser: install chromium"
        pytest.skip("chromium is not installed")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of three rows and two rejects."""
    folder = tmp_path_factory.mktemp("written")
    clip = replace(about_a_clip(folder), source="clips", split="val")
    rows = [
        replace(about_noise("first", boxes=1), source="pictures"),
        replace(about_noise("second"), source="pictures", extra={"note": "the needle"}),
        clip,
    ]
    rejects = [
        Reject(n, "a.json", f"id{n}", reason, "found")
        for n, reason in enumerate([Reason.BAD_BOX, Reason.EMPTY_TURN])
    ]
    store = write(folder / "store", rows, rejects=rejects, media_root=str(folder))
    preview(store, folder / "page.html", template=COGVLM2_VIDEO.template())
    return folder / "page.html"


@pytest.fixture
def opened(browser: Browser, written: Path) -> Iterator[Opened]:
    """The page, opened anew."""
    yield from _open(browser, written)


def _open(browser: Browser, path: Path) -> Iterator[Opened]:
    context = browser.new_context()
    opened = Opened(context.new_page())
    opened.page.on("console", lambda message: opened.said.append(message.text))
    opened.page.on("pageerror", lambda error: opened.said.append(str(error)))
    opened.page.on("request", lambda request: opened.asked.append(request.url))
    opened.page.goto(path.as_uri())
    yield opened
    context.close()


def shown(page: Page) -> list[str]:
    """The ids of the cards that are to be seen."""
    names: list[str] = page.eval_on_selector_all(
        ".card:not([hidden]) h2 > bdi", "all => all.map(each => each.textContent)"
    )
    return names


def test_pictures_appear_and_nothing_is_fetched_or_complained_of(opened: Opened) -> None:
    page = opened.page
    page.eval_on_selector_all(".card", "all => all.forEach(each => each.scrollIntoView())")

    widths = page.eval_on_selector_all("img", "all => all.map(each => each.naturalWidth)")
    assert len(widths) > 3
    assert min(widths) > 0
    assert opened.said == []
    assert [url for url in opened.asked if not url.startswith("data:")] == [page.url]


def test_a_box_lies_on_its_picture(opened: Opened) -> None:
    picture = opened.page.locator("img").first.bounding_box()
    box = opened.page.locator(".box").first.bounding_box()

    assert picture is not None
    assert box is not None
    assert box["x"] == pytest.approx(picture["x"] + picture["width"] / 4, abs=1)
    assert box["y"] == pytest.approx(picture["y"] + picture["height"] / 2, abs=1)
    assert box["width"] == pytest.approx(picture["width"] / 2, abs=1)


def test_search_and_filters_leave_what_they_say(opened: Opened) -> None:
    page = opened.page
    everything = shown(page)
    assert len(everything) == 5

    page.fill("#text", "NEEDLE")
    assert shown(page) == ["second"]
    page.fill("#text", "")
    page.select_option("#source", "pictures")
    assert shown(page) == ["first", "second"]
    page.select_option("#source", "")
    page.select_option("#split", "val")
    assert shown(page) == ["c"]
    page.select_option("#split", "")
    page.select_option("#reason", "reject:bad_box")
    assert shown(page) == ["id0"]
    page.select_option("#reason", "rows")
    assert shown(page) == ["first", "second", "c"]
    assert page.inner_text("#shown") == "3 of 5 shown"


def test_distributions_are_drawn_in_the_colours_of_the_page(opened: Opened) -> None:
    page = opened.page
    page.click("#plots summary")
    page.set_viewport_size({"width": 360, "height": 700})

    titles = page.eval_on_selector_all(".plots [role=img]", "all => all.map(e => e.ariaLabel)")
    assert "tokens of a row" in titles
    assert "words of a row" in titles
    plots = page.locator(".plots svg")
    assert plots.count() == len(titles)
    assert all(plot.is_visible() for plot in plots.all())
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    ink = "getComputedStyle(document.querySelector('.plots text')).fill"
    light = page.evaluate(ink)
    page.click("#theme")
    assert page.evaluate(ink) != light
    assert opened.said == []


def test_keys_go_through_the_cards(opened: Opened) -> None:
    page = opened.page
    press = page.keyboard.press

    for key in "jjkj":
        press(key)
    assert page.inner_text(".current h2 > bdi") == "second"

    press("j")
    press("t")
    assert page.locator(".current .tokens").get_attribute("open") is not None

    press("/")
    page.keyboard.type("needle")
    assert shown(page) == ["second"]


def test_it_is_readable_on_a_phone_and_in_the_dark(opened: Opened) -> None:
    page = opened.page
    page.set_viewport_size({"width": 360, "height": 700})

    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.click("#theme")
    assert page.evaluate(paper) != light
    page.click("#theme")
    assert page.evaluate(paper) == light
    page.emulate_media(color_scheme="light")


def test_what_data_say_stays_text(browser: Browser, tmp_path: Path) -> None:
    box = (0.0, 0.0, 0.5, 0.5)
    rows = [
        Conversation(
            f"{n} {text[:400]}",
            (user(Image(0), text), assistant("That.", Region(text, (box,)))),
            (Media("image", f"{text[:200]}.png"),),
            source=text[:400],
            extra={text[:100]: text},
            rejected=(assistant(text),),
            tools='["</script><script>window.taken = 1</script>"]',
        )
        for n, text in enumerate(HOSTILE)
    ]
    reject = Reject(0, MARKUP, MARKUP, Reason.BAD_BOX, MARKUP)
    store = write(tmp_path / MARKUP[:8].replace("/", ""), rows, rejects=[reject])
    preview(store, tmp_path / "page.html")

    for opened in _open(browser, tmp_path / "page.html"):
        page = opened.page

        assert page.evaluate("window.taken") is None
        assert opened.said == []
        assert [url for url in opened.asked if not url.startswith("data:")] == [page.url]
        assert page.locator("script").count() == 1
        assert page.locator(".card").count() == len(rows) + 1
        assert page.evaluate("document.documentElement.scrollWidth") <= 1280
        first = page.locator(".turn.user p").first
        assert first.inner_text().removeprefix("image 0") == MARKUP
