"""Tests calibration against hotcoco and by hand, and the parts of reports as HTML, Markdown and JSON."""

import re
from types import SimpleNamespace

import coco_scenes
import numpy as np
import pytest
import torch
from report import pages
from torchvision.ops import box_convert

from resdet.detection.evaluation.coco_engines import hotcoco_evaluator
from resdet.detection.evaluation.results import Results
from resdet.detection.report.matches import Matches
from resdet.files.keyed_cache import cached_json
from resdet.report.content import to_json, to_markdown
from resdet.report.curves import series
from resdet.report.html import page
from resdet.results import sections
from resdet.results.box_format import xywh_to_xyxy
from resdet.results.calibration import calibrate
from resdet.results.confusion import LARGEST, confusion_parts
from resdet.results.plot import BOTTOM, COLORS, HEIGHT, TOP, Line, plot


@pytest.mark.parametrize("seed", range(4))
def test_calibration_matches_hotcoco(seed):
    truth, entries = coco_scenes.make(seed)
    for entry in entries:
        entry["score"] = min(entry["score"] + 0.0123, 0.999)  # no score on the border of two bins
    results = Results.from_list(entries)
    matches = Matches.of(truth, results)
    kept = ~matches.ignored[0]
    _, evaluator = hotcoco_evaluator(truth, results, "bbox")
    evaluator.evaluate()
    expected = evaluator.calibration(n_bins=10, iou_threshold=0.5)
    found = calibrate(matches.scores[kept], matches.hit[0, kept])
    assert found.error == pytest.approx(expected["ece"])
    filled = [row for row in expected["bins"] if row["count"]]
    assert found.counts.tolist() == [row["count"] for row in filled]
    np.testing.assert_allclose(found.accuracy, [row["avg_accuracy"] for row in filled])


def test_calibration_by_hand():
    found = calibrate(np.array([0.95, 0.85, 0.85, 1.0]), np.array([True, False, True, True]))
    assert found.counts.tolist() == [2, 2] and found.accuracy.tolist() == [0.5, 1]
    assert found.error == pytest.approx((2 * 0.35 + 2 * 0.025) / 4)
    assert calibrate(np.zeros(0), np.zeros(0, bool)).error == 0


def test_confusion_matrix_and_table_by_hand():
    names = ["a", "b"]
    matrix, table = confusion_parts([*names, "background"], [*names, "missed"], [[5, 2, 1], [0, 4, 3], [7, 0, 0]])
    assert matrix.counts[2] == [7, 0, 0]
    assert table.rows == [("background", "a", 7), ("b", "missed", 3), ("a", "b", 2), ("a", "missed", 1)]
    many = [str(number) for number in range(LARGEST + 1)]
    assert len(confusion_parts(many, many, np.eye(len(many), dtype=int).tolist())) == 1


def test_large_images_are_scaled_down_with_their_boxes():
    pixels = np.random.default_rng(0).integers(0, 256, (960, 480, 3), dtype=np.uint8)  # the worst case for JPEG
    mark = sections.Mark((0, 480, 240, 960), "thing")
    outside = [
        sections.Mark(box, "outside") for box in ((480, 0, 500, 9), (0, 960, 9, 970), (-9, 0, 0, 9), (0, -9, 9, 0))
    ]
    shown = sections.picture(pixels, "name", "caption", {"truth": [mark, *outside]})
    assert (shown.width, shown.height) == (240, 480)
    assert [each.box for each in shown.layers["truth"]] == [(0, 240, 120, 480)]
    assert len(shown.jpeg) <= sections.BYTES


def test_small_images_are_enlarged_with_their_boxes():
    shown = sections.picture(
        np.zeros((60, 100, 3), np.uint8), "name", "", {"truth": [sections.Mark((10, 20, 30, 40), "")]}
    )
    assert (shown.width, shown.height) == (400, 240)  # by the largest integer within 480 pixels
    assert [each.box for each in shown.layers["truth"]] == [(40, 80, 120, 160)]
    tiny = sections.picture(np.zeros((3, 4, 3), np.uint8), "name", "")
    assert (tiny.width, tiny.height) == (32, 24)


def test_captions_of_overlapping_boxes_do_not_overlap():
    """Draws an object and its detection at the same position, in two layers."""
    marks = {layer: [sections.Mark((100, 100, 180, 180), "a thing")] for layer in ("truth", "detections")}
    shown = sections.picture(np.zeros((480, 480, 3), np.uint8), "name", "", marks)
    text = page("title", [sections.Section("all", "All", [sections.Gallery("worst", "Worst", [shown])])])
    places = [(float(x), float(y)) for x, y in re.findall(r'<text x="([\d.]+)" y="([\d.]+)">a thing</text>', text)]
    assert len(places) == 2 and abs(places[0][1] - places[1][1]) >= 13
    assert all(100 <= x <= 180 and not 100 < y < 180 + 9 for x, y in places)  # above and below the box


HOSTILE = "<script>alert(\"1\")</script> & | 'x'"


def example() -> list[sections.Section]:
    pixels = np.zeros((20, 30, 3), np.uint8)
    marks = {"truth": [sections.Mark((1, 2, 10, 12), HOSTILE)], "detections": [sections.Mark((0, 0, 5, 5), "b 0.50")]}
    rows = [(HOSTILE, 0.5, 3), *((f"class {k}", None if k == 3 else k / 10, k) for k in range(9))]
    parts = [
        sections.Table("classes", "Classes", ("class", "AP", "objects"), rows, HOSTILE),
        sections.Chart("curve", "Curve", [Line(HOSTILE, [0, 1], [0, 1], 0), Line("dot", [1], [1], 1)], "x", "y"),
        sections.Matrix("matrix", "Matrix", ["a", HOSTILE], ["a", "b"], [[1, 0], [2, 3]]),
        sections.Gallery("worst", "Worst", [sections.picture(pixels, HOSTILE, "caption", marks)]),
        sections.Gallery("none", "None", []),
        sections.Text("config", "Config", HOSTILE),
    ]
    return [sections.Section("all", "All", parts, HOSTILE)]


def test_names_are_escaped_in_html(tmp_path):
    (tmp_path / "report.html").write_text(page(HOSTILE, example()), encoding="utf-8")
    found = pages.read(tmp_path / "report.html")
    assert found.count("script") == 1 and found.count("title") == 1
    assert found.words.count(HOSTILE) >= 6


def test_markdown_and_json_have_the_same_cells():
    content, text = to_json("title", example()), to_markdown("title", example())
    assert content["all"]["classes"][1] == {"class": "class 0", "AP": 0.0, "objects": 0}
    assert content["all"]["curve"]["lines"]["dot"] == {"x": [1], "y": [1]}
    assert "| class 3 | n/a | 3 |" in text and "| class 8 | 0.800 | 8 |" in text
    assert content["all"]["matrix"]["counts"] == [[1, 0], [2, 3]] and "| a | 1 | 0 |" in text
    assert content["all"]["worst"] == [{"image": HOSTILE, "caption": "caption"}]


ACTIONS = """
const head = (name) => [...document.querySelectorAll("th button")].find((button) => button.textContent === name);
const cells = () => [...document.querySelectorAll(".sortable tbody tr")].map((row) => row.cells[0].textContent);
head("AP").click();
report.ascending = cells();
head("AP").click();
report.descending = cells();
const filter = document.querySelector("input.filter");
filter.value = "CLASS 7";
filter.dispatchEvent(new Event("input"));
report.shown = [...document.querySelectorAll(".sortable tbody tr")].filter((row) => row.offsetHeight).length;
const display = () => [...document.querySelectorAll(".pictures g")].map((layer) => getComputedStyle(layer).display);
report.before = display();
document.querySelector(".toggles input").click();
report.after = display();
report.fits = document.documentElement.scrollWidth <= document.documentElement.clientWidth;
"""


@pytest.mark.skipif(pages.browser() is None, reason="no Chromium in PATH")
def test_tables_sort_and_filter_and_layers_toggle(tmp_path):
    (tmp_path / "report.html").write_text(page("title", example()), encoding="utf-8")
    found = pages.in_browser(tmp_path / "report.html", ACTIONS)
    numbers = [f"class {k}" for k in range(9) if k != 3]
    ascending = [name for name in found["ascending"] if name != HOSTILE]
    assert ascending == [*numbers, "class 3"]  # without a value: last
    assert [name for name in found["descending"] if name != HOSTILE] == [*numbers[::-1], "class 3"]
    assert found["shown"] == 1
    assert found["before"] == ["inline", "inline"] and found["after"] == ["none", "inline"]
    assert found["fits"]


def test_the_cache_is_recomputed_for_another_key(tmp_path):
    asked = []
    compute = lambda: asked.append(1) or len(asked)
    path = tmp_path / "folder/predictions.json"
    assert [cached_json(path, key, compute) for key in ("a", "a", "b", "b", "a")] == [1, 1, 2, 2, 3]
    path.write_text("{")
    assert cached_json(path, "a", compute) == 4


@pytest.mark.parametrize("damaged", ["[1]", '{"a": 1}', '{"key": "a"}', "1", "null"])
def test_a_damaged_cache_is_recomputed(tmp_path, damaged):
    path = tmp_path / "predictions.json"
    path.write_text(damaged)
    assert [cached_json(path, "a", lambda: 5), cached_json(path, "a", lambda: 6)] == [5, 5]


def test_results_that_cannot_be_cached_are_returned(tmp_path, capsys):
    (tmp_path / "file").touch()  # a folder in a file fails, whatever the permissions
    assert cached_json(tmp_path / "file/predictions.json", "a", lambda: 5) == 5
    assert "not cached" in capsys.readouterr().err


def test_names_that_are_not_utf8_are_escaped():
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    shown = sections.picture(np.zeros((20, 30, 3), np.uint8), name, "caption")
    content = [
        sections.Section(
            "images",
            "Images",
            [sections.Gallery("worst", "Worst", [shown]), sections.Table("names", "Names", ("name",), [(name,)])],
        )
    ]
    for text in (page(name, content), to_markdown(name, content)):
        assert "caf\\udce9.jpg" in text.encode("utf-8").decode("utf-8")


@pytest.mark.parametrize(("value", "order"), [(np.float64(0.5), ["0.5"]), (3, ["3.0"]), (float("nan"), []), (None, [])])
def test_cells_have_numeric_sort_values(value, order):
    text = page("title", [sections.Section("a", "A", [sections.Table("b", "B", ("value",), [(value,)])])])
    assert re.findall('data-value="([^"]*)"', text) == order


@pytest.mark.parametrize("values", [[-4.0, -1.0], [-1.0, 3.0], [0.0, 0.0], [2.0, 5.0], [-3.0]])
def test_lines_are_drawn_within_the_axes(values):
    drawing = plot([Line("line", range(len(values)), values, 0)], "", "x", "y")
    (line,) = [stroke.points for stroke in drawing.strokes if stroke.color == COLORS[0]][:1]
    assert (line[:, 1] >= TOP).all() and (line[:, 1] <= HEIGHT - BOTTOM).all()
    assert (np.diff(line[:, 1]) <= 0).all()  # higher values are drawn higher


def test_curves_leave_out_values_that_are_not_finite():
    values = (1.0, float("nan"), float("inf"), 2.0)
    log = [{"step": step, "kind": "val", "AP": value} for step, value in enumerate(values)]
    assert series(SimpleNamespace(log=[*log, {"step": 4, "kind": "val"}]), "val", "AP") == ([0, 3], [1.0, 2.0])


def test_xywh_to_xyxy_matches_torchvision():
    boxes = np.random.default_rng(0).uniform(0, 50, (5, 4))
    expected = box_convert(torch.from_numpy(boxes), "xywh", "xyxy").numpy()
    np.testing.assert_allclose(xywh_to_xyxy(boxes), expected)
    np.testing.assert_allclose(xywh_to_xyxy(boxes[0]), expected[0])
