"""Opens the page of the server in a browser, with a script of the test."""

from base64 import b64encode
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest
from report import pages
from serve.serving import CLASSES, PATIENCE, StandIn, listening, picture
from starlette.requests import Request
from starlette.responses import Response as Reply

import resdet
from resdet.results.result import Result

STATIC = Path(resdet.__file__).parent / "serve/static"
VIRTUAL = "--virtual-time-budget=120000"  # milliseconds of virtual time, which advances while the network is idle
needs_browser = pytest.mark.skipif(pages.browser() is None, reason="no Chromium in PATH")
BOXES = [[40, 30, 140, 110], [42, 32, 142, 112], [44, 34, 144, 114], [150, 90, 200, 140]]


class Masked(StandIn):
    """Returns four detections with masks and keypoints, three of them nearly overlapping."""

    def result(self, size):
        boxes = np.array(BOXES, np.float32)
        masks = np.zeros((4, *size), bool)
        for mask, (left, top, right, bottom) in zip(masks, BOXES):
            mask[top:bottom:2, left : right - 7] = True
        keypoints = np.zeros((4, 2, 3), np.float32)
        keypoints[:, :, :2], keypoints[:, :, 2] = boxes.reshape(4, 2, 2), 5
        return Result(
            boxes, np.array([0.9, 0.8, 0.7, 0.3], np.float32), np.array([0, 1, 0, 2]),
            [CLASSES[k] for k in (0, 1, 0, 2)], np.array([1, 2, 1, 3]), size, masks,
            keypoints=keypoints, keypoint_names=["start", "end"], skeleton=[(0, 1)],
        )  # fmt: skip


def probed(app, script: str):
    """Adds a page /probe to the application: the page / with a script of the test."""
    tail = """
const report = {};
const until = async (condition) => { while (!condition()) await new Promise((done) => setTimeout(done, 20)); };
const element = (id) => document.getElementById(id);
const decode = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
function choose(...files) {
  const transfer = new DataTransfer();
  for (const [name, type, text] of files) transfer.items.add(new File([decode(text)], name, { type }));
  element("files").files = transfer.files;
  element("files").dispatchEvent(new Event("change"));
}
const captions = () => [...document.querySelectorAll("figcaption")].map((each) => each.textContent);
const change = (id, value, kind) => { element(id).value = value; element(id).dispatchEvent(new Event(kind)); };
"""
    page = (STATIC / "page.html").read_text().replace("/static/page.js", "/probe.js")
    code = f'import "/static/page.js";\n{tail}\n{script}\ndocument.title = JSON.stringify(report);'
    replies = {"/probe": Reply(page, media_type="text/html"), "/probe.js": Reply(code, media_type="text/javascript")}

    async def probe(scope, receive, send):
        await replies.get(scope["path"], app)(scope, receive, send)

    return probe


def visit(app, script: str) -> dict:
    with listening(probed(app, script)) as address:
        return pages.report_of(f"{address}/probe", VIRTUAL)


def visit_in_real_time(app, script: str) -> dict:
    """Does the same as `visit` in real time, since videos do not play in virtual time."""
    reports: SimpleQueue[dict] = SimpleQueue()
    probe = probed(app, script + '\nawait fetch("/report", { method: "POST", body: JSON.stringify(report) });')

    async def receive_report(scope, receive, send):
        if scope["path"] != "/report":
            return await probe(scope, receive, send)
        reports.put(await Request(scope, receive).json())
        await Reply(status_code=204)(scope, receive, send)

    with listening(receive_report) as address, pages.opened(f"{address}/probe"):
        return reports.get(timeout=PATIENCE)


def uploaded(name: str, data: bytes) -> str:
    return f'["{name}", "image/png", "{b64encode(data).decode()}"]'


PHOTO = uploaded("photo.png", picture(160, 240))
LOADED = 'await until(() => element("model").options.length);'
PREDICTED = f'{LOADED} choose({PHOTO}); await until(() => captions().some((text) => text.includes(" ms")));'
