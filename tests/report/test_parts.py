"""Tests the parts of reports as HTML, Markdown and JSON."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from report import pages

from resdet.report.content import to_json, to_markdown
from resdet.report.curves import series
from resdet.report.html import page
from resdet.results import sections
from resdet.results.plot import Line


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


def test_curves_leave_out_values_that_are_not_finite():
    values = (1.0, float("nan"), float("inf"), 2.0)
    log = [{"step": step, "kind": "val", "AP": value} for step, value in enumerate(values)]
    assert series(SimpleNamespace(log=[*log, {"step": 4, "kind": "val"}]), "val", "AP") == ([0, 3], [1.0, 2.0])
