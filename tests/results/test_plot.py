"""Tests the plotter."""

import numpy as np
import pytest

from resdet.results.plot import BOTTOM, COLORS, HEIGHT, TOP, Line, plot


@pytest.mark.parametrize("values", [[-4.0, -1.0], [-1.0, 3.0], [0.0, 0.0], [2.0, 5.0], [-3.0]])
def test_lines_are_drawn_within_the_axes(values):
    drawing = plot([Line("line", range(len(values)), values, 0)], "", "x", "y")
    (line,) = [stroke.points for stroke in drawing.strokes if stroke.color == COLORS[0]][:1]
    assert (line[:, 1] >= TOP).all() and (line[:, 1] <= HEIGHT - BOTTOM).all()
    assert (np.diff(line[:, 1]) <= 0).all()  # higher values are drawn higher
