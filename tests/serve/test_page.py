"""Tests the web pages in a browser: displayed results and downloads; and that they load nothing from other servers."""

from base64 import b64encode
from pathlib import Path
from queue import SimpleQueue

import cv2
import numpy as np
import pytest
from report import pages
from report.keyboard import REACHABLE, needs_keyboard, tab
from serve.serving import CLASSES, PATIENCE, StandIn, listening, picture
from starlette.requests import Request
from starlette.responses import Response as Reply

import resdet
from resdet.results.drawing import color
from resdet.results.result import Result
from resdet.serve.limits import Limits
from resdet.serve.models import Loaded
from resdet.serve.pages import FILES
from resdet.tasks import tasks

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
    """Acts as `visit`, for videos, which do not play in virtual time."""
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


@needs_browser
def test_slider_and_class_list_filter_without_a_request(serve):
    masked = Masked()
    found = visit(
        serve(boxes=masked.loaded()).app,
        PREDICTED
        + """
report.first = captions();
change("score", "0.75", "input");
report.above = captions();
change("score", "0.05", "input");
report.all = captions();
document.querySelector("#class-list input").click();
report.filtered = captions();
element("none").click();
report.none = captions();
element("all").click();
report.again = captions();
report.classes = [...document.querySelectorAll("#class-list label")].map((each) => each.textContent.trim());
report.label = document.querySelector("canvas").getAttribute("aria-label");
report.fits = document.documentElement.scrollWidth <= document.documentElement.clientWidth;
report.unnamed = [...document.querySelectorAll("input, select, button, canvas")].filter((each) => (
  !each.labels?.length && !each.textContent.trim() && !each.ariaLabel)).map((each) => each.outerHTML);
""",
    )
    words = {key: found[key][0].partition(";")[0] for key in ("first", "above", "all", "filtered", "none", "again")}
    assert words == {
        "first": "photo.png: 2 disc, 1 square",
        "above": "photo.png: 1 disc, 1 square",
        "all": "photo.png: 2 disc, 1 square, 1 bar",
        "filtered": "photo.png: 1 square, 1 bar",
        "none": "photo.png: no detections",
        "again": "photo.png: 2 disc, 1 square, 1 bar",
    }
    assert "net " in found["first"][0]
    assert found["classes"] == ["disc", "square", "bar"] and found["label"] == words["again"]
    assert found["fits"]
    assert found["unnamed"] == []
    assert len(masked.batches) == 2  # the first is the warmup


@needs_browser
def test_an_image_above_the_limit_of_the_server_is_a_sentence(serve):
    masked = Masked()
    server = serve(Limits(max_bytes=100), boxes=masked.loaded())
    script = f'{LOADED} choose({PHOTO}); await until(() => captions().some((text) => text.includes("MiB")));'
    found = visit(server.app, f"{script} report.captions = captions();")
    assert "MiB and the server takes 0.0: choose a smaller one." in found["captions"][0]
    assert len(masked.batches) == 1  # the warmup


@needs_keyboard
def test_the_page_is_operable_by_keyboard(serve, tmp_path):
    photo = tmp_path / "photo.png"
    photo.write_bytes(picture(160, 240))
    caption = 'document.querySelector("figcaption")?.textContent'
    server = serve(boxes=Masked().loaded(), others=StandIn().loaded())
    with listening(server.app) as address, tab(address) as page:
        page.until('document.getElementById("model").options.length')
        assert [stop["name"] for stop in page.stops()][:2] == ["API", "Models"]
        page.send("Page.setInterceptFileChooserDialog", enabled=True)
        for key in ("Enter", "Space"):
            page.go_to("Drop images")
            page.press(key)
            chooser = page.event("Page.fileChooserOpened")
            page.send("DOM.setFileInputFiles", files=[str(photo)], backendNodeId=chooser["backendNodeId"])
        page.until(
            '[...document.querySelectorAll("figcaption")].filter((each) => / ms/.test(each.textContent)).length > 1'
        )
        stops = page.stops()
        order = [stop["order"] for stop in stops]
        assert order == sorted(order) and len(order) == page.value(REACHABLE) == 2 + 3 + 2 + 3 + 3 + 2 * 2
        page.go_to("disc")
        page.press("Space")
        assert page.value(caption).startswith("photo.png: 1 square;")
        # Makes the page rebuild the list of classes with the next image.
        page.value('document.getElementById("class-list").dataset.key = ""')
        page.send("DOM.setFileInputFiles", files=[str(photo)], backendNodeId=chooser["backendNodeId"])
        page.until('document.getElementById("class-list").dataset.key')
        assert page.focus()["name"] == "disc"
        page.go_to("Remove photo.png")
        page.press("Enter")
        page.go_to("Score from")
        page.press("End")
        assert page.value(caption).startswith("photo.png: no detections")
        page.go_to("Model", "select")
        page.press("ArrowDown")
        assert page.value('document.getElementById("model").value') == "others"
        page.until(f'/ ms/.test({caption}) && document.querySelectorAll("#class-list input").length === 3')
        page.go_to("Remove photo.png")
        page.press("Enter")
        assert page.focus()["name"] == "Remove photo.png"  # of the next image
        page.press("Space")
        assert page.focus()["name"].startswith("Drop images")
        page.send("Page.navigate", url=f"{address}/docs")
        page.until('document.querySelectorAll("#operations section").length')
        order = [stop["order"] for stop in page.stops()]
        assert order == sorted(order) and len(order) == page.value(REACHABLE) > 10


@needs_browser
def test_boxes_and_masks_are_drawn_at_their_positions(serve):
    found = visit(
        serve(boxes=Masked().loaded()).app,
        PREDICTED
        + """
change("score", "0.05", "input");
for (const box of [...document.querySelectorAll("#class-list input")].slice(0, 2)) box.click();
const context = document.querySelector("canvas").getContext("2d");
report.size = [context.canvas.width, context.canvas.height];
const { data } = context.getImageData(0, 0, ...report.size);
const at = (x, y) => [...data].slice(4 * ((3 * y + 1) * report.size[0] + 3 * x + 1)).slice(0, 3);
report.edge = at(175, 140);
report.inside = at(160, 130);
report.between = at(160, 131);
report.outside = at(10, 10);
""",
    )
    original = cv2.imdecode(np.frombuffer(picture(160, 240), np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)
    bar = np.array(color(2))
    assert found["size"] == [720, 480]  # a small image is enlarged
    assert np.abs(found["edge"] - bar).max() < 60
    masked = original[130, 160] + (bar - original[130, 160]) * 115 / 255
    assert np.abs(found["inside"] - masked).max() <= 3
    assert np.abs(found["between"] - original[131, 160]).max() <= 3
    assert np.abs(found["outside"] - original[10, 10]).max() <= 3


@needs_browser
def test_colors_masks_and_label_positions(serve):
    """Compares colors with Python's drawings and masks with pycocotools' RLE; checks that labels do not overlap."""
    from pycocotools import mask as coco

    generator = np.random.default_rng(0)
    masks = [generator.random((37, 23)) < share for share in (0.0, 0.02, 0.5, 1.0)]
    encoded = [coco.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in masks]
    counts = [rle["counts"].decode() for rle in encoded]
    found = visit(
        serve().app,
        f"""
const {{ colorOf, placeLabels }} = await import("/static/draw.js");
const {{ paint }} = await import("/static/rle.js");
report.colors = [...Array(50).keys()].map(colorOf);
report.masks = {counts!r}.map((counts) => {{
  const data = new Uint8ClampedArray(4 * 37 * 23);
  paint({{ size: [37, 23], counts }}, data, [255, 0, 0, 1]);
  return [...data].filter((_, place) => place % 4 === 0);
}});
const boxes = [...Array(60).keys()].map((n) => [n % 7 * 9, n % 5 * 11, n % 7 * 9 + 90, n % 5 * 11 + 80]);
report.places = placeLabels(boxes, boxes.map(() => [40, 15]), 300, 200);
""",
    )
    assert found["colors"] == [list(color(label)) for label in range(50)]
    for mask, painted in zip(masks, found["masks"]):
        np.testing.assert_array_equal(np.array(painted).reshape(37, 23) > 0, mask)
    places = [place for place in found["places"] if place]
    assert len(places) > 10
    for number, (x, y) in enumerate(places):
        assert 0 <= x <= 300 - 40 and 0 <= y <= 200 - 15
        assert all(abs(x - a) >= 40 or abs(y - b) >= 15 for a, b in places[:number])


@needs_browser
def test_models_are_switched_and_errors_shown(serve):
    """Checks that a classifier shows a table of classes and a rejected upload the server's error message."""
    model = resdet.build("shapes_resnet20", "model.backbone=cifar_resnet8", "model.num_classes=3")
    model.classes = ["dog", "cat", "bird"]
    classes = Loaded(model.eval(), model, tasks[model.task].predict_options)
    found = visit(
        serve(boxes=StandIn().loaded(), classes=classes).app,
        PREDICTED
        + f"""
change("model", "classes", "change");
await until(() => document.querySelectorAll("meter").length === 3);
report.rows = [...document.querySelectorAll("figure td:first-child")].map((each) => each.textContent);
report.slider = element("score-field").offsetHeight;
choose({uploaded("broken.png", b"no image")});
await until(() => document.querySelector(".error"));
report.error = document.querySelector(".error").textContent;
report.status = element("status").getAttribute("aria-live");
""",
    )
    assert sorted(found["rows"]) == ["bird", "cat", "dog"] and found["slider"] == 0
    assert "is not an image" in found["error"] and found["status"] == "polite"


@needs_browser
def test_errors_and_times_stay_with_their_results(serve):
    """Checks that a moved slider keeps an error, and that another model clears it and the times of the former one."""
    script = f"""{PREDICTED}
choose({uploaded("broken.png", b"no image")});
await until(() => document.querySelector(".error"));
change("score", "0.6", "input");
report.kept = document.querySelector(".error")?.textContent;
change("model", "second", "change");
report.cleared = captions();
"""
    found = visit(serve(first=StandIn().loaded(), second=StandIn().loaded()).app, script)
    assert "is not an image" in found["kept"]
    assert found["cleared"][0] == "photo.png: not predicted yet" and found["cleared"][1].endswith("not predicted yet")


@needs_browser
def test_a_server_that_does_not_answer_is_a_sentence(serve):
    script = f"""{LOADED}
window.fetch = () => Promise.reject(new TypeError("Failed to fetch"));
choose({PHOTO});
await until(() => document.querySelector(".error"));
report.captions = captions();
"""
    found = visit(serve().app, script)
    assert found["captions"][0].startswith("photo.png: The server does not answer: check the network")


@needs_browser
def test_the_page_waits_for_models_that_are_loading(serve):
    """Checks also that the chosen model stays chosen."""
    script = """
await until(() => element("model").options.length);
const [answer, options] = [window.fetch, () => [...element("model").options].map((each) => each.textContent)];
let asked = 0;
window.fetch = async (...request) => {
  const response = await answer(...request);
  const content = await response.clone().json();
  if (!content.models || ++asked > 2) return response;
  content.models[0] = { ...content.models[0], ready: false, task: null, options: [] };
  return new Response(JSON.stringify(content), { status: 200, headers: response.headers });
};
change("model", "second", "change");
change("token", "", "change");
await until(() => asked);
await until(() => options()[0].includes("loading"));
report.before = [options(), element("model").value];
await until(() => !options()[0].includes("loading"));
report.after = [options(), element("model").value, asked];
"""
    found = visit(serve(first=StandIn().loaded(), second=StandIn().loaded()).app, script)
    assert found["before"] == [["first (loading)", "second (detection)"], "second"]
    assert found["after"] == [["first (detection)", "second (detection)"], "second", 3]


@needs_browser
def test_images_wait_for_a_model_that_is_loading(serve):
    script = f"""{LOADED}
const answer = window.fetch;
let ready = false, asked = 0;
window.fetch = async (path, ...options) => {{
  const response = await answer(path, ...options);
  if (path.startsWith("/v1/predict")) asked += 1;
  if (path !== "/v1/models") return response;
  const content = await response.json();
  Object.assign(content.models[0], ready ? {{}} : {{ ready, task: null }});
  return new Response(JSON.stringify(content), {{ status: 200, headers: response.headers }});
}};
change("token", "", "change");
await until(() => element("model").textContent.includes("loading"));
choose({PHOTO});
await until(() => element("status").textContent);
report.before = [element("status").textContent, asked];
ready = true;
await until(() => captions()[0].includes(" ms"));
report.after = [element("status").textContent, asked];
"""
    found = visit(serve(boxes=StandIn().loaded()).app, script)
    assert found == {"before": ["boxes is not ready.", 0], "after": ["1 image predicted.", 1]}


HELD = """
const answer = window.fetch;
let asked = 0, release;
const released = new Promise((done) => { release = done; });
window.fetch = async (path, ...options) => {
  if (path.startsWith("/v1/predict")) { asked += 1; await released; }
  return answer(path, ...options);
};
const predicted = () => captions().filter((text) => text.includes(" ms")).length;
"""


@needs_browser
def test_removed_images_are_not_predicted(serve):
    script = f"""{LOADED} {HELD}
choose({", ".join([PHOTO] * 9)});
await until(() => asked === 4 && element("status").textContent.startsWith("Predicting"));
element("clear").click();
report.status = element("status").textContent;
choose({PHOTO});
release();
await until(predicted);
report.asked = asked;
"""
    found = visit(serve(boxes=StandIn().loaded()).app, script)
    assert found == {"status": "", "asked": 4 + 1}


@needs_browser
def test_images_that_wait_are_predicted_once_after_the_model_changes(serve):
    script = f"""{LOADED} {HELD}
choose({", ".join([PHOTO] * 6)});
await until(() => asked === 4);
change("model", "second", "change");
release();
await until(() => predicted() === 6);
report.asked = asked;
"""
    second = StandIn()
    found = visit(serve(first=StandIn().loaded(), second=second.loaded()).app, script)
    assert found["asked"] == 4 + 6 and sum(map(len, second.batches)) == 1 + 6  # one is the warmup


@needs_browser
def test_results_arrive_after_the_models_were_asked_again(serve):
    script = f"""{LOADED} {HELD}
choose({PHOTO});
await until(() => asked);
element("model").replaceChildren();
change("token", "", "change");
{LOADED}
release();
await until(predicted);
report.captions = captions();
"""
    found = visit(serve(boxes=StandIn().loaded()).app, script)
    assert found["captions"][0].startswith("photo.png: 1 disc")


@needs_browser
def test_downloads(serve):
    """Checks that the COCO and CSV files contain the displayed detections."""
    found = visit(
        serve(boxes=Masked().loaded()).app,
        PREDICTED
        + """
const [blobs, names] = [[], []];
URL.createObjectURL = (blob) => { blobs.push(blob); return "#"; };
// A download in progress would stop virtual time.
HTMLAnchorElement.prototype.click = function () { names.push(this.download); };
element("coco").click();
element("csv").click();
[report.coco, report.csv] = [JSON.parse(await blobs[0].text()), await blobs[1].text()];
report.names = names;
""",
    )
    assert [Path(name).suffix for name in found["names"]] == [".json", ".csv"]
    coco = found["coco"]
    assert coco["images"] == [{"id": 1, "file_name": "photo.png", "width": 240, "height": 160}]
    assert [each["category_id"] for each in coco["annotations"]] == [1, 2, 1]
    assert coco["annotations"][0]["bbox"] == [40, 30, 100, 80]
    assert coco["annotations"][0]["area"] == 40 * 93  # pixels of the mask
    assert coco["categories"] == [{"id": 1, "name": "disc"}, {"id": 2, "name": "square"}]
    lines = found["csv"].splitlines()
    assert lines[0] == "image,name,label,category_id,score,x1,y1,x2,y2" and len(lines) == 4
    assert lines[1].startswith("photo.png,disc,0,1,0.89") and lines[1].endswith(",40,30,140,110")


@needs_browser
def test_the_page_requests_the_token(serve):
    """Checks also that an image chosen before waits for the token."""
    script = """
await until(() => !element("token-field").hidden);
report.asked = element("status").textContent;
choose(PHOTO);
await until(() => captions().length);
report.before = captions();
change("token", "secret", "change");
await until(() => element("model").options.length);
report.models = element("model").options.length;
await until(() => captions().some((text) => text.includes(" ms")));
""".replace("PHOTO", PHOTO)
    with listening(probed(serve(token="secret").app, script)) as address:
        found = pages.report_of(f"{address}/probe", VIRTUAL)
    assert "Authorization: Bearer" in found["asked"] and found["models"] == 1
    assert "undefined" not in found["before"][0]


@needs_browser
def test_the_documentation_lists_each_operation(serve):
    with listening(serve().app) as address:
        dom = pages.dom_of(f"{address}/docs", VIRTUAL)
    for words in ("POST /v1/predict", "GET /metrics", "json | coco | csv | image", "Retry-After", "curl --data-binary"):
        assert words in dom


def test_pages_load_nothing_from_other_servers(serve):
    """Checks that the files have no external URLs and that each reference is a path that the server returns."""
    server = serve()
    for path in FILES:
        response = server.get(path)
        text = response.body.decode()
        assert response.status == 200 and "default-src 'none'" in response.headers["content-security-policy"]
        assert "http://" not in text and "https://" not in text and "@import" not in text
    for path in ("/", "/docs"):
        requests = pages.Page(server.get(path).body.decode()).requests()
        own = [name for name in requests if name != "data:,"]
        assert own and all(server.get(name).status == 200 for name in own)


def test_all_files_are_served():
    assert {path.name for path in STATIC.iterdir()} == {Path(name).name for _, name in FILES.values()} - {"base.css"}


RECORD = """
const stage = Object.assign(document.createElement("canvas"), { width: 96, height: 64 });
const context = stage.getContext("2d");
const recorder = new MediaRecorder(stage.captureStream(20), { mimeType: "video/webm" });
const parts = [];
recorder.ondataavailable = ({ data }) => parts.push(data);
const stopped = new Promise((done) => { recorder.onstop = done; });
recorder.start();
for (let n = 0; n < 20; n++) {
  context.fillStyle = n % 2 ? "red" : "blue";
  context.fillRect(0, 0, 96, 64);
  await new Promise((done) => setTimeout(done, 50));
}
recorder.stop();
await stopped;
const transfer = new DataTransfer();
transfer.items.add(new File(parts, "clip.webm", { type: "video/webm" }));
"""


@needs_browser
def test_frames_of_a_video_are_predicted(serve):
    """Checks that the first frame is predicted before playback, and others during it."""
    stand_in = StandIn()
    script = f"""{LOADED} {RECORD}
element("files").files = transfer.files;
element("files").dispatchEvent(new Event("change"));
await until(() => captions().some((text) => text.includes(" ms")));
report.first = captions();
await Object.assign(document.querySelector("video"), {{ loop: true }}).play();  // until a frame was predicted
await until(() => captions().some((text) => /0\\.[1-9]\\d s: /.test(text)));
report.size = [document.querySelector("canvas").width, document.querySelector("canvas").height];
"""
    found = visit_in_real_time(serve(boxes=stand_in.loaded()).app, script)
    assert found["first"][0].startswith("0.00 s: clip.webm: 1 disc") and found["size"] == [672, 448]
    assert len(stand_in.batches) > 2 and stand_in.batches[1:] == [[(64, 96)]] * (len(stand_in.batches) - 1)
