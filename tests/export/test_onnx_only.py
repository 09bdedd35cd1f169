"""Tests the example that runs an exported detector without resdet against resdet's own loader."""

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from export.small import picture

from resdet.export import onnx_model

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

EXAMPLE = Path(__file__).parents[2] / "examples" / "deploy" / "onnx_only.py"


@pytest.mark.parametrize("size", [(128, 192), (100, 90), (40, 50)])
def test_the_example_gives_the_detections_of_resdet(mask_rcnn, size):
    """Uses larger and smaller images than the graph, and a portrait, which the graph makes small."""
    image = picture(*size)
    expected = onnx_model.load(mask_rcnn.path).predict(image, 0.1)
    boxes, scores, labels = runpy.run_path(str(EXAMPLE))["Detector"](str(mask_rcnn.path)).detect(image, 0.1)
    assert len(expected)
    np.testing.assert_allclose(boxes, expected.boxes, atol=1e-3)
    np.testing.assert_allclose(scores, expected.scores, atol=1e-6)
    np.testing.assert_array_equal(labels, expected.labels)


def test_the_example_imports_neither_resdet_nor_torch():
    code = f"import runpy, sys; runpy.run_path({str(EXAMPLE)!r}); print({{'resdet', 'torch'}} & {{*sys.modules}})"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
