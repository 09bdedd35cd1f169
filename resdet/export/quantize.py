"""Post-training int8 quantization (1712.05877) of an ONNX file by onnxruntime, with calibration images.

Feature maps and weights of convolutions and linear layers become 8-bit integers, weights with a scale per channel. The
last layers, which compute boxes and scores, and all operations after them stay in float32.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from resdet.errors import DataError
from resdet.files.atomic import write_atomically

LAYERS, BETWEEN = ("Conv", "Gemm"), ("Relu", "Add", "MaxPool")
WARNINGS, ERRORS = 2, 3  # onnxruntime's log levels
LAST = (
    "rpn.objectness", "rpn.deltas", "predictor.scores", "predictor.boxes", "mask_scores", "mask_head.masks",
    "mask_head.pixels", "backbone.fc",
)  # fmt: skip


def quantize(source: str | Path, path: str | Path, feeds: Iterable[dict[str, np.ndarray]]) -> None:
    """Writes `source` in int8; `feeds`: graph inputs of the images that calibrate the ranges of feature maps."""
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    model = onnx.load(source)  # given its path, onnxruntime writes a temporary file with a fixed name beside it
    chosen = quantized_nodes(model.graph)
    with quiet():
        write_atomically(
            path,
            lambda temporary: quantize_static(
                model,
                str(temporary),
                Feeds(feeds),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=[*LAYERS, *BETWEEN],
                nodes_to_quantize=chosen,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            ),
        )


def quantized_nodes(graph: Any) -> list[str]:
    """Names of all layers except the last ones, and of the operations between them."""
    chosen: list[str] = []
    outputs: set[str] = set()
    for node in graph.node:  # in topological order
        layer = node.op_type in LAYERS and not any(f"{last}.weight" in node.input[1] for last in LAST)
        if layer or (node.op_type in BETWEEN and outputs.issuperset(node.input)):
            chosen.append(node.name)
            outputs.update(node.output)
    return chosen


class Feeds:
    """Has the interface of onnxruntime's CalibrationDataReader."""

    def __init__(self, feeds: Iterable[dict[str, np.ndarray]]):
        self.feeds = iter(feeds)
        self.count = 0

    def get_next(self) -> dict[str, np.ndarray] | None:
        feed = next(self.feeds, None)
        self.count += feed is not None
        if feed is None and not self.count:
            raise DataError("There are no calibration images: give a folder or a config with images.")
        return feed


@contextmanager
def quiet() -> Iterator[None]:
    """Hides messages that need no action.

    onnxruntime advises to optimize first, which the export does, and to avoid optional inputs; numpy warns of infinite
    ranges, those of the levels of RoIs without area, which are not quantized.
    """
    import onnxruntime

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    onnxruntime.set_default_logger_severity(ERRORS)
    try:
        with np.errstate(invalid="ignore"):
            yield
    finally:
        logging.disable(before)
        onnxruntime.set_default_logger_severity(WARNINGS)


def has_vnni() -> bool:
    """Whether the x86 processor multiplies bytes without saturating sums to 16 bits; False except on Linux."""
    try:
        return "vnni" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
