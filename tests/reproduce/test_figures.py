"""Tests figures of curves, layer responses and the plotter, against hand-made logs and values computed directly."""

import csv
import json
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from torch import nn

import resdet
from resdet.backbones.layers import ConvNorm
from resdet.errors import DataError
from resdet.reproduce import figures
from resdet.reproduce.responses import response_deviations
from resdet.results import plot


def log(folder, errors):
    folder.mkdir()
    lines = [{"step": 10 * i, "kind": kind, "error": e} for i, e in enumerate(errors, 1) for kind in ("train", "val")]
    lines.append({"step": 99, "kind": "train", "loss": 1.0})  # a line without an error
    written = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(written + '{"step": 100, "kind"')  # a killed run
    return folder


def test_curves_of_two_runs(tmp_path):
    runs = {"plain20": log(tmp_path / "a", [0.5, 0.25]), "resnet20": log(tmp_path / "b", [0.4, 0.125])}
    svg, png, table = figures.draw_curves(runs, tmp_path / "figure", "two nets", top=20)
    rows = list(csv.reader(table.open()))
    assert rows[0] == ["curve", "step", "error"] and len(rows) == 1 + 2 * 2 * 2
    assert ["resnet20 val", "20", "12.5"] in rows
    import cv2

    assert cv2.imread(str(png)).shape == (2 * plot.HEIGHT, 2 * plot.WIDTH, 3)
    words = {element.text for element in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text")}
    assert {"two nets", "plain20 train", "resnet20 val", "error (%)"} <= words


@pytest.mark.parametrize("last, highest", [(0.125, "20"), (0.25, "50")])
def test_the_axis_ends_at_the_limit_if_every_curve_falls_below_it(tmp_path, last, highest):
    runs = {"plain20": log(tmp_path / "a", [0.5, last]), "resnet20": log(tmp_path / "b", [0.4, 0.125])}
    svg, *_ = figures.draw_curves(runs, tmp_path / "figure", "two nets", top=20)
    words = [element.text for element in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert highest in words and ("50" in words) == (highest == "50")


def test_errors_name_a_run_without_a_log(tmp_path):
    with pytest.raises(DataError, match="metrics.jsonl cannot be read"):
        figures.draw_curves({"none": tmp_path / "none"}, tmp_path / "figure", "nothing")


def test_points_are_at_their_axis_positions():
    line = plot.Line("a", [0, 25, 50, 100], [0, 40, 10, 20], 0)
    strokes = plot.plot([line], "", "x", "y", top=20).strokes
    *drawn, _ = [stroke.points for stroke in strokes if stroke.color == plot.COLORS[0]]  # the last is in the legend
    right, bottom = plot.WIDTH - plot.RIGHT, plot.HEIGHT - plot.BOTTOM
    at = lambda x, y: (plot.LEFT + x / 100 * (right - plot.LEFT), bottom + y / 20 * (plot.TOP - bottom))
    assert len(drawn) == 2  # 40 is above 20
    np.testing.assert_allclose(drawn[0], [at(0, 0), at(12.5, 20)])
    np.testing.assert_allclose(drawn[1], [at(25 + 25 * 2 / 3, 20), at(50, 10), at(100, 20)])


def test_a_line_above_the_limit_is_not_drawn():
    strokes = plot.plot([plot.Line("a", [0, 1], [30, 40], 0)], "", "x", "y", top=20).strokes
    assert len([stroke for stroke in strokes if stroke.color == plot.COLORS[0]]) == 1
    assert plot.pieces_below(20, plot.Line("none", [], [], 0)) == []


@pytest.mark.parametrize(
    "most, expected",
    [(20, [0, 5, 10, 15, 20]), (64000, [0, 10000, 20000, 30000, 40000, 50000, 60000]), (0.9, np.arange(10) / 10)],
)
def test_ticks_are_round(most, expected):
    found = plot.ticks(most)
    step = found[1] - found[0]
    assert found[0] == 0 and found[-1] <= most and 4 <= len(found) <= 11
    assert round(step / 10 ** np.floor(np.log10(step) + 1e-9), 6) in (1, 2, 5)


def test_png_and_svg_contain_the_same_line():
    picture = plot.Drawing([plot.Stroke(np.array([[10.0, 20.0], [60.0, 20.0]]), "#d62728", 2)], [], 80, 40)
    pixels = plot.to_pixels(picture, scale=1)
    assert pixels[20, 30].tolist() == [214, 39, 40] and (pixels[5] == 255).all()
    assert 'points="10.0,20.0 60.0,20.0"' in plot.to_svg(picture)


def test_dashes_cover_half_of_a_line():
    pieces = plot.dashes(np.array([[0.0, 0.0], [120.0, 0.0]]))
    assert sum(np.hypot(*(b - a)) for a, b in pieces) == pytest.approx(60)


class TwoLayers(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = ConvNorm(3, 4, 3, norm="bn")
        self.narrow = ConvNorm(4, 4, 1, norm="bn")  # 1×1: not counted
        self.second = ConvNorm(4, 5, 3, norm="bn")

    def forward(self, x):
        return self.second(torch.relu_(self.narrow(torch.relu_(self.first(x)))))


def test_responses_are_measured_after_the_norm_and_before_the_relu():
    torch.manual_seed(0)
    net = TwoLayers()
    images = torch.randn(6, 3, 8, 8)
    found = response_deviations(net, images.split(2))
    assert list(found) == ["first", "second"] and net.training
    net.eval()
    with torch.no_grad():
        first = net.first(images)
        second = net.second(net.narrow(first.relu()).relu())
    assert found["first"] == pytest.approx(first.std(correction=0).item(), rel=1e-4)
    assert found["second"] == pytest.approx(second.std(correction=0).item(), rel=1e-4)


def test_responses_of_resnet56_cover_its_3x3_layers_in_order():
    net = resdet.backbones.create("cifar_resnet56", num_classes=10)
    found = response_deviations(net, [torch.randn(1, 3, 32, 32)])
    assert len(found) == 55 and next(iter(found)) == "conv1"


def test_a_layer_with_small_weights_has_a_small_response():
    """Checks section 4.2 of the paper: the standard deviation shows how strongly a layer modifies the signal."""
    net = resdet.backbones.create("cifar_resnet20", num_classes=10)
    weak = net.conv3_x[1].conv2.norm
    with torch.no_grad():
        weak.weight.mul_(0.01)
    found = response_deviations(net, [torch.randn(4, 3, 32, 32)])
    assert min(found, key=found.get) == "conv3_x.1.conv2"
