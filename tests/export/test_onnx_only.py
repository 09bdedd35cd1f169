"""Tests the example that runs an exported detector without resdet against resdet's own loader."""

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from export.small import KEYPOINTS, SHAPE, detector, picture

from resdet.export import Form, onnx_model, to_onnx

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

EXAMPLE = Path(__file__).parents[2] / "examples" / "deploy" / "onnx_only.py"


@pytest.mark.parametrize("size", [(128, 192), (100, 90), (40, 50)])
def test_the_example_gives_the_detections_of_resdet(mask_rcnn, size):
    """Uses larger and smaller images than the graph, and a portrait, which the graph makes small."""
    image = picture(*size)
    expected = onnx_model.load(mask_rcnn.path).predict(image, 0.1)
    found = runpy.run_path(str(EXAMPLE))["Detector"](str(mask_rcnn.path)).detect(image, 0.1)
    assert len(expected)
    np.testing.assert_allclose(found["boxes"], expected.boxes, atol=1e-3)
    np.testing.assert_allclose(found["scores"], expected.scores, atol=1e-6)
    np.testing.assert_array_equal(found["labels"], expected.labels)
    assert found["masks"].shape == expected.masks.shape
    assert (found["masks"] != expected.masks).mean() < 0.01  # OpenCV rounds positions to 1/32 of a cell


def test_the_example_gives_the_masks_that_the_graph_pastes(pasting):
    image = picture(100, 90)
    expected = onnx_model.load(pasting.path).predict(image, 0.0)
    found = runpy.run_path(str(EXAMPLE))["Detector"](str(pasting.path)).detect(image, 0.0)
    assert expected.masks.any() and found["masks"].shape == expected.masks.shape
    np.testing.assert_array_equal(found["masks"], expected.masks)


def test_the_example_gives_the_keypoints_of_resdet(tmp_path):
    to_onnx(detector("fpn", False, KEYPOINTS), tmp_path / "model.onnx", Form(SHAPE))
    image = picture(128, 160)
    expected = onnx_model.load(tmp_path / "model.onnx").predict(image, 0.0)
    found = runpy.run_path(str(EXAMPLE))["Detector"](str(tmp_path / "model.onnx")).detect(image, 0.0)
    assert len(expected) and "masks" not in found
    apart = np.abs(found["keypoints"] - expected.keypoints)
    assert (apart[..., :2].max(2) < 3).mean() > 0.9  # a flat heatmap may have its maximum in two places
    np.testing.assert_allclose(found["keypoints"][..., 2], expected.keypoints[..., 2], atol=1e-3)


def test_the_example_places_keypoints_at_the_centers_of_pixels():
    """Uses a maximum in column 5 and row 3 of 14, in a box of 14 × 42 pixels and in a box without area, which counts
    as one pixel."""
    heatmaps = np.zeros((2, 1, 14, 14), np.float32)
    heatmaps[:, 0, 3, 5] = 1
    keypoints = runpy.run_path(str(EXAMPLE))["locate"](heatmaps, np.array([[10.0, 20, 24, 62], [10, 20, 10, 20]]))
    np.testing.assert_allclose(keypoints[0], [[15.5, 30.5, 1]], atol=1e-5)
    np.testing.assert_allclose(keypoints[1, :, :2], [[10.5, 20.5]], atol=1e-5)


def test_the_example_imports_neither_resdet_nor_torch():
    code = f"import runpy, sys; runpy.run_path({str(EXAMPLE)!r}); print({{'resdet', 'torch'}} & {{*sys.modules}})"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
