"""Tests the sheet of detections: positions of images and boxes computed by hand, and agreement of SVG, PNG and CSV."""

import base64
import csv
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from resdet import config, hub
from resdet.detection.data.sources import open_scenes
from resdet.reproduce import detections, figures
from resdet.reproduce.tables import FIGURES
from resdet.results import plot
from resdet.results.result import Result
from resdet.results.visualizer import color

SVG = "{http://www.w3.org/2000/svg}"
CLASSES = ["cat", "dog & bone"]


def gray(width, height, boxes, labels, scores=(0.9, 0.7)):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    result = Result.of(boxes, np.array(scores[: len(boxes)]), np.array(labels, int), CLASSES, (height, width))
    return np.full((height, width, 3), 128, np.uint8), result


@pytest.fixture
def shown():
    """Returns five images: the second is tall, the fourth small, and the last alone in its row."""
    return [
        gray(480, 240, [[40, 60, 200, 180], [300, 40, 480, 240]], [0, 1]),
        gray(240, 480, [[-10, 0, 250, 100]], [1]),
        gray(480, 360, [], []),
        gray(60, 40, [[10, 10, 50, 30]], [0]),
        gray(480, 240, [[0, 0, 480, 240]], [1]),
    ]


def test_boxes_are_drawn_on_their_images(shown):
    """Compares with the layout computed by hand: columns of 240 pixels, gaps of 8, a header of 32."""
    drawing = detections.compose(shown, "a title")
    places = [(photo.x, photo.y, photo.width, photo.height) for photo in drawing.bitmaps]
    assert places == [
        (8, 32, 240, 120), (256, 32, 240, 480), (504, 32, 240, 180), (752, 32, 240, 160), (8, 520, 240, 120)
    ]  # fmt: skip
    assert (drawing.width, drawing.height) == (1000, 648)
    boxes = [(*stroke.points.min(0), *stroke.points.max(0)) for stroke in drawing.strokes]
    assert boxes == [
        (158, 52, 248, 152), (28, 62, 108, 122),  # the highest score on top
        (256, 32, 496, 132),  # clipped to the image
        (792, 72, 952, 152),
        (8, 520, 248, 640),
    ]  # fmt: skip
    assert [word.text for word in drawing.texts] == [
        "a title", "dog & bone 0.70", "cat 0.90", "dog & bone 0.90", "cat 0.90", "dog & bone 0.90",
    ]  # fmt: skip


def test_captions_stay_inside_their_images(shown):
    drawing = detections.compose(shown, "")
    owners = [0, 0, 1, 3, 4]
    for word, number in zip(drawing.texts[1:], owners):
        left, top, width, height = plot.background_of(word)
        photo = drawing.bitmaps[number]
        assert photo.x <= left and left + width <= photo.x + photo.width + 1e-6
        assert photo.y <= top + 1 and top + height <= photo.y + photo.height


def test_svg_and_png_agree(shown, tmp_path):
    shown[2][0][:] = np.linspace(0, 255, 480).astype(np.uint8)[None, :, None]
    svg, png = plot.save(detections.compose(shown, "a title"), tmp_path / "sheet")
    tree = ElementTree.parse(svg).getroot()
    drawn = cv2.imread(str(png))[..., ::-1].astype(int)
    assert drawn.shape == (2 * 648, 2 * 1000, 3)
    photographs = list(tree.iter(f"{SVG}image"))
    assert len(photographs) == 5 and len(list(tree.iter(f"{SVG}polyline"))) == 5
    kind, _, data = photographs[2].get("href").partition(",")
    inside = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert kind == "data:image/jpeg;base64" and inside.shape == (360, 480, 3)
    assert np.abs(inside - drawn[64 : 64 + 360, 1008 : 1008 + 480]).mean() < 3
    assert {element.text for element in tree.iter(f"{SVG}text")} == {"a title", "cat 0.90"} | {
        f"dog & bone {score}" for score in ("0.70", "0.90")
    }
    for row, column, label in ((2 * 100, 2 * 28, 0), (2 * 132, 2 * 300, 1)):  # a left and a lower edge
        assert np.abs(drawn[row, column] - color(label)).max() <= 3
    assert drawn[2 * 110, 2 * 50].tolist() == [128] * 3


def test_a_sheet_of_validation_images(tmp_path, monkeypatch):
    """Uses a stand-in that returns the annotations with made-up scores."""
    words = ["data.train_images=2", "data.val_images=14", "data.size=64", f"data.root={tmp_path / 'data'}"]
    experiment = config.load("shapes_mask_r18_fpn", *words)
    source = open_scenes(experiment.data, "val")
    asked = []

    def predict(images, score):
        asked.append((images[0], score))
        index = next(i for i in range(14) if np.array_equal(source.image(i).decode(), images[0]))
        things = source.objects(index)
        scores = np.linspace(0.99, 0.7, len(things.labels))
        return [Result.of(things.boxes, scores, things.labels, source.classes, images[0].shape[:2])]

    model = SimpleNamespace(experiment=config.to_dict(experiment), predict=predict)
    monkeypatch.setattr(hub, "load", lambda path, expect: model)
    svg, png, table = figures.draw(FIGURES["detections_coco"], {"coco_r101": Path("net.pth")}, tmp_path / "out")
    assert len(asked) == 12 and {score for _, score in asked} == {0.6}
    assert [path.name for path in (svg, png, table)] == [f"detections_coco.{kind}" for kind in ("svg", "png", "csv")]
    rows = list(csv.DictReader(table.open()))
    for name, index in (("000001", 0), ("000014", 13)):
        things, own = source.objects(index), [row for row in rows if name in row["image"]]
        assert [row["class"] for row in own] == [source.classes[label] for label in things.labels]
        found = [[float(row[key]) for key in ("x1", "y1", "x2", "y2")] for row in own]
        np.testing.assert_allclose(found, things.boxes, atol=0.051)
    assert len(list(ElementTree.parse(svg).iter(f"{SVG}polyline"))) == len(rows) > 12
