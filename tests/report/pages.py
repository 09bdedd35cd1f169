"""Parses the HTML of reports (elements, unbalanced tags, references to other files) and opens pages in a browser."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

VOID = {"meta", "input", "br", "link", "img", "hr"}
BROWSERS = ("chromium", "chromium-headless-shell", "chromium-browser", "google-chrome", "chrome")
PHONE = ("--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0", "--window-size=390,800")
REQUESTS = ("src", "href", "srcset", "action", "poster", "data")  # attributes that refer to another file


class Page(HTMLParser):
    """The elements of a page with attributes; raises AssertionError for unbalanced tags."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"{self.open} are not closed"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)

    def requests(self) -> list[str]:
        """Returns the page's references to other files."""
        named = [each[key] for _, each in self.elements for key in REQUESTS if key in each]
        return [name for name in named if not name.startswith(("#", "data:"))]

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)


def layers(page: Path) -> list[str]:
    """The names of the layers of the first gallery with pictures, which readers show and hide."""
    (gallery,) = re.findall('<div class="toggles">(.*?)</div>', page.read_text(encoding="utf-8"))[:1]
    return [unescape(name) for name in re.findall("■</span> (.*?)</label>", gallery)]


def read(path: Path) -> Page:
    """Parses the page and checks that it refers to no other file."""
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.requests() == []
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|import\(", text)
    ids = [each["id"] for _, each in page.elements if "id" in each]
    assert len(ids) == len(set(ids))
    return page


def browser() -> str | None:
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def in_browser(path: Path, script: str) -> dict:
    """Runs a script in the page at a phone's size and returns `report` from JSON; the console must stay empty."""
    probe = path.with_name("probe.html")
    run = f"<script>const report = {{}};\n{script}\ndocument.title = JSON.stringify(report);</script></body>"
    probe.write_text(path.read_text(encoding="utf-8").replace("</body>", run), encoding="utf-8")
    return report_of(probe.as_uri())


def report_of(url: str, *options: str) -> dict:
    """Returns the JSON in the title of a page."""
    (title,) = re.findall("<title>(.*?)</title>", dom_of(url, *options))
    return json.loads(unescape(title))


def dom_of(url: str, *options: str) -> str:
    """Returns the DOM of a page after its scripts, at a phone's size; the console must stay empty."""
    # Browsers that run concurrently need separate profiles.
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        words = [browser(), "--headless", *PHONE, f"--user-data-dir={profile}", "--dump-dom", *options, url]
        done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert "CONSOLE" not in done.stderr, done.stderr
    return done.stdout


@contextmanager
def opened(url: str) -> Iterator[None]:
    """Keeps a page open at a phone's size, in real time; the console must stay empty."""
    # Processes of the browser may end, and write, after the first one.
    with TemporaryFile("w+") as errors, TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        words = [browser(), "--headless", *PHONE, "--remote-debugging-port=0", f"--user-data-dir={profile}", url]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=errors)
        try:
            yield
        finally:
            process.terminate()
            process.wait()
        errors.seek(0)
        said = errors.read()
        assert "CONSOLE" not in said, said
