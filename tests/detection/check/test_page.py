"""Tests the HTML page of `resdet data check`: no requests, limited size, keyboard access, no errors in a browser."""

import base64
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
from detection.check import planted
from detection.check.planted import DataSet, check
from report.keyboard import REACHABLE, needs_keyboard, tab

from resdet.detection.check import page as page_module
from resdet.detection.check.page import page
from resdet.detection.check.pictures import picture
from resdet.detection.check.report import Report
from resdet.report.html import page as report_page

VOID = ("meta", "link", "img")
LOADING = ("src", "href", "srcset", "data", "action", "poster", "style", "background")


class Parsed(HTMLParser):
    """Parses elements with their attributes; fails if elements are not closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Report:
    data = DataSet()
    planted.plant_everything(data)
    data.content["train"]["categories"][0]["name"] = data.content["val"]["categories"][0]["name"] = "<b>&\"cat'"
    return check(data.write(tmp_path_factory.mktemp("data") / "set"))


@pytest.fixture(scope="module")
def html(report) -> str:
    return page(report)


def test_the_page_requests_nothing(html):
    parsed = Parsed(html)
    addresses = [(tag, key, value) for tag, given in parsed.elements for key, value in given.items() if key in LOADING]
    assert len(addresses) > 20
    assert [each for each in addresses if not each[2].startswith("data:")] == []
    assert not {tag for tag, _ in parsed.elements} & {"script", "iframe", "object", "embed", "video", "audio", "form"}
    assert not any(key.startswith("on") for _, given in parsed.elements for key in given)
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style and "@import" not in style and "//" not in style


def test_the_page_has_the_styles_of_a_report(html):
    """Compares styles and content security policies; a report has scripts, too."""
    style = lambda text: text[text.index("<style>") : text.index("</style>")]
    other = report_page("a run", [])
    assert style(html) == style(other) and "--error" in style(html) and "thead th" in style(html)
    policies = [
        given["content"]
        for text in (html, other)
        for _, given in Parsed(text).elements
        if given.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policies[0] == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert policies[1] == f"{policies[0]}; script-src 'unsafe-inline'"


def test_all_kinds_are_on_the_page_and_names_are_escaped(report, html):
    parsed = Parsed(html)
    ids = {given.get("id") for tag, given in parsed.elements if tag == "details"}
    assert set(report.by_kind()) <= ids
    assert not any(tag == "b" for tag, _ in parsed.elements)
    assert any("<b>&\"cat'" in word for word in parsed.words)


def test_the_page_fits_phones_and_keyboards(html):
    parsed = Parsed(html)
    viewports = [given["content"] for tag, given in parsed.elements if given.get("name") == "viewport"]
    assert viewports == ["width=device-width, initial-scale=1"]
    details = [tag for tag, _ in parsed.elements if tag in ("details", "summary")]
    assert details == ["details", "summary"] * (len(details) // 2)  # browsers make these focusable
    assert all("alt" in given for tag, given in parsed.elements if tag == "img")
    assert not any("width" in given for _, given in parsed.elements)  # no fixed widths


def test_embedded_images_are_jpeg(html):
    sources = [given["src"] for tag, given in Parsed(html).elements if tag == "img"]
    for source in sources:
        data = base64.b64decode(source.removeprefix("data:image/jpeg;base64,"))
        assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) is not None


def test_the_page_keeps_its_size_limit(report, html, monkeypatch):
    monkeypatch.setattr(page_module, "BUDGET", 60_000)
    small = page(report)
    assert len(small) < 60_000 + 40_000 < len(html) < 5 * 10**6
    assert "data:image" in small
    Parsed(small)


def finding(report, kind):
    return next(each for each in report.findings if each.kind == kind)


def pixels(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


def test_a_box_outside_of_the_image_is_shown_on_gray(report):
    shown = pixels(picture(report.splits, finding(report, "box_outside")))
    width = 320  # the image plus a quarter at its right
    assert shown.shape[1] == width
    assert np.abs(shown[-10:, 270:].astype(int) - 200).max() < 12
    assert np.abs(shown[:, :240].astype(int) - 200).max() > 60


def test_copies_are_shown_side_by_side(report):
    for kind in ("leak", "near_leak", "duplicate_image", "near_duplicate"):
        shown = pixels(picture(report.splits, finding(report, kind))).astype(int)
        half = shown.shape[1] // 2
        assert np.abs(shown[:, 20 : half - 20] - shown[:, half + 20 : 2 * half - 20]).mean() < 12


def test_findings_without_a_readable_image_have_no_picture(report):
    for kind in ("missing", "unreadable", "truncated", "category_empty", "unknown_image"):
        assert picture(report.splits, finding(report, kind)) is None


@needs_keyboard
def test_the_page_is_operable_by_keyboard(html, tmp_path):
    (tmp_path / "page.html").write_text(html, encoding="utf-8")
    with tab((tmp_path / "page.html").as_uri()) as checked:
        stops = checked.stops()
        order = [stop["order"] for stop in stops]
        assert order == sorted(order) and len(order) == checked.value(REACHABLE) == html.count("<summary>")
        checked.go_to("Categories of train")
        checked.press("Enter", "Tab")
        assert checked.focus()["tag"] == "div"  # the scrollable table
        checked.press("Tab")
        assert checked.focus()["name"] == "Categories of val"
        checked.press("Space")
        opened = '[...document.querySelectorAll("details[open] > summary")].map((each) => each.textContent)'
        assert checked.value(opened)[-2:] == ["Categories of train", "Categories of val"]


def test_a_browser_logs_no_error_and_scrolls_in_one_direction(html, tmp_path):
    sync_api = pytest.importorskip("playwright.sync_api")
    (tmp_path / "page.html").write_text(html)
    with sync_api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch()
        except sync_api.Error as error:
            pytest.skip(f"no browser: {error}")
        tab = browser.new_page(viewport={"width": 360, "height": 640})
        messages, requests = [], []
        tab.on("console", lambda message: messages.append(message.text))
        tab.on("pageerror", lambda error: messages.append(str(error)))
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto((tmp_path / "page.html").as_uri())
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.tagName") == "SUMMARY"
        assert tab.evaluate("document.documentElement.scrollWidth") <= 360
        assert messages == [] and [url for url in requests if not url.startswith(("data:", "file:"))] == []
        browser.close()
