"""Tests what the page draws in a browser: boxes, masks, colors, labels and videos."""

import cv2
import numpy as np
from serve.browsing import LOADED, PREDICTED, Masked, needs_browser, visit, visit_in_real_time
from serve.serving import StandIn, picture

from resdet.results.visualizer import color


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
