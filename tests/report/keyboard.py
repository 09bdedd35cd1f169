"""Operates a page in Chromium by keyboard over the DevTools protocol, without additional packages."""

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from report.pages import browser

needs_keyboard = pytest.mark.skipif(
    browser() is None or os.name == "nt", reason="no Chromium in PATH, or no pipes to it"
)
PATIENCE = 120  # seconds without a response after which a test fails
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--window-size=1000,800")
KEYS = {  # name -> (key, Windows key code, text)
    "Tab": ("Tab", 9, ""),
    "Enter": ("Enter", 13, "\r"),
    "Space": (" ", 32, " "),
    "Escape": ("Escape", 27, ""),
    "ArrowLeft": ("ArrowLeft", 37, ""),
    "ArrowRight": ("ArrowRight", 39, ""),
    "ArrowDown": ("ArrowDown", 40, ""),
    "End": ("End", 35, ""),
}
SHIFT = 8
AS_THREE_AND_FOUR = """
import fcntl, os, sys
pipes = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3]]
for number, pipe in enumerate(pipes, 3):
    os.dup2(pipe, number)
os.execv(sys.argv[3], sys.argv[3:])
"""
FOCUS = """(() => {
  const at = document.activeElement;
  if (!at || at === document.body) return null;
  const style = getComputedStyle(at), box = at.getBoundingClientRect();
  const order = [...document.querySelectorAll("*")].indexOf(at);
  const name = at.ariaLabel || at.labels?.[0]?.textContent || at.textContent;
  const seen = box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
  return { tag: at.tagName.toLowerCase(), name: name.trim(), outline: style.outlineStyle, order, seen };
})()"""
TO_THE_TOP = """(() => {
  const mark = Object.assign(document.createElement("span"), { tabIndex: -1 });
  document.body.prepend(mark);
  mark.focus();
  mark.remove();
})()"""
REACHABLE = """[...document.querySelectorAll("a[href], button, input, select, summary, video, [tabindex='0']")]
  .filter((each) => each.checkVisibility({ visibilityProperty: true })).length"""


class Tab:
    """A browser tab; `press` sends key events, and `value` evaluates JavaScript."""

    def __init__(self, read: int, write: int):
        self.read, self.write = read, write
        self.session: str | None = None
        self.number, self.rest = 0, b""
        self.events: list[dict[str, Any]] = []

    def open(self, url: str) -> None:
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")
        self.send("Page.navigate", url=url)
        self.event("Page.loadEventFired")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Sends a command and returns its result."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def receive(self) -> dict[str, Any]:
        while b"\0" not in self.rest:
            assert select.select([self.read], [], [], PATIENCE)[0], "the browser does not answer"
            data = os.read(self.read, 1 << 16)
            assert data, "the browser has ended"
            self.rest += data
        message, _, self.rest = self.rest.partition(b"\0")
        return json.loads(message)

    def event(self, method: str) -> dict[str, Any]:
        """Waits for an event and returns its parameters."""
        while True:
            for number, event in enumerate(self.events):
                if event.get("method") == method:
                    return self.events.pop(number)["params"]
            self.events.append(self.receive())

    def value(self, expression: str) -> Any:
        """Returns the value of an expression; waits for a promise."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, condition: str) -> None:
        """Waits until an expression is true."""
        self.value(
            f"new Promise((done) => {{ const look = () => ({condition}) ? done() : setTimeout(look, 10); look(); }})"
        )

    def press(self, *names: str, shift: bool = False) -> None:
        """Presses keys, given by name in KEYS or by character."""
        for name in names:
            key, code, text = KEYS.get(name, (name, ord(name[0].upper()), name))
            given = {"key": key, "code": name, "windowsVirtualKeyCode": code, "modifiers": SHIFT if shift else 0}
            self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **given)
            self.send("Input.dispatchKeyEvent", type="keyUp", **given)

    def focus(self) -> dict[str, Any] | None:
        """Returns tag, name, outline style, document position and visibility of the focused element, if any."""
        return self.value(FOCUS)

    def go_to(self, name: str, tag: str = "") -> None:
        """Presses Tab until an element whose name and tag start with the arguments has the focus."""
        for _ in range(500):
            self.press("Tab")
            at = self.focus()
            if at and at["name"].startswith(name) and at["tag"].startswith(tag):
                return
        raise AssertionError(f"Tab does not reach {name}")

    def stops(self) -> list[dict[str, Any]]:
        """Returns all elements that Tab reaches from the top of the page; each must be visible and have an outline."""
        self.value(TO_THE_TOP)
        found: list[dict[str, Any]] = []
        for _ in range(500):
            self.press("Tab")
            at = self.focus()
            if at is None or (found and at["order"] == found[0]["order"]):
                return found
            assert not found or at["order"] != found[-1]["order"], f"Tab does not leave {at}"
            assert at["seen"] and at["outline"] not in ("none", ""), at
            found.append(at)
        raise AssertionError("Tab does not come to an end")

    def complaints(self) -> list[Any]:
        """Returns script errors, console calls and log entries of the browser."""
        kinds = ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled")
        return [event["params"] for event in self.events if event.get("method") in kinds]


@contextmanager
def tab(url: str) -> Iterator[Tab]:
    """Opens a page in Chromium; checks that its console stays empty."""
    ours, theirs = os.pipe(), os.pipe()  # to the browser, from the browser
    # Processes of the browser may end, and write, after the first one.
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        words = [str(browser()), *OPTIONS, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", AS_THREE_AND_FOUR, str(ours[0]), str(theirs[1]), *words],
            pass_fds=(ours[0], theirs[1]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(ours[0])
        os.close(theirs[1])
        page = Tab(theirs[0], ours[1])
        try:
            page.open(url)
            yield page
            assert page.complaints() == []
        finally:
            process.terminate()
            process.wait()
            os.close(ours[1])
            os.close(theirs[0])
