"""Post-training int8 quantization (1712.05877) of an ONNX file with onnxruntime and calibration images.

Feature maps and the weights of convolutions and linear layers become 8-bit integers; weights have a scale per channel.
The last layers, which compute boxes and scores, and all operations after them stay in float32.
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
    """Writes `source` in int8; `feeds`: graph inputs of the images for calibrating the ranges of feature maps."""
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    model = onnx.load(source)  # given a path, onnxruntime writes a temporary file with a fixed name next to it
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
    """Returns the names of all layers except the last ones, and of the operations between them."""
    chosen: list[str] = []
    outputs: set[str] = set()
    for node in graph.node:  # in topological order
        layer = node.op_type in LAYERS and not any(f"{last}.weight" in node.input[1] for last in LAST)
        if layer or (node.op_type in BETWEEN and outputs.issuperset(node.input)):
            chosen.append(node.name)
            outputs.update(node.output)
    return chosen


class Feeds:
    """Implements the interface of onnxruntime's CalibrationDataReader."""

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
    """Suppresses warnings that need no action.

    onnxruntime advises optimizing first, which the export does, and avoiding optional inputs; numpy warns about the
    infinite ranges in the levels of RoIs without area, which are not quantized.
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
    """Whether the x86 CPU multiplies int8 without saturating sums at 16 bits; always False except on Linux."""
    try:
        return "vnni" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
