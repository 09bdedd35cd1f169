"""int8 after training (1712.05877): onnxruntime's static quantization of an ONNX file, on images that calibrate it.

Feature maps and weights of convolutions and linear layers become 8-bit whole numbers, weights with a scale for each
channel. The last layers, which say what boxes and scores are, and all that follows them stay in float32.
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
WARNINGS, ERRORS = 2, 3  # onnxruntime's levels
LAST = (
    "rpn.objectness", "rpn.deltas", "predictor.scores", "predictor.boxes", "mask_scores", "mask_head.masks",
    "mask_head.pixels", "backbone.fc",
)  # fmt: skip


def quantize(source: str | Path, path: str | Path, feeds: Iterable[dict[str, np.ndarray]]) -> None:
    """Writes `source` in int8; `feeds` are the inputs of the images that the ranges of feature maps are taken from."""
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    chosen = quantized_nodes(onnx.load(source).graph)
    with quiet():
        write_atomically(
            path,
            lambda temporary: quantize_static(
                str(source),
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
    """Names of the layers, the last ones apart, and of what lies between two of them."""
    chosen, made = [], set()
    for node in graph.node:  # each after those whose outputs it takes
        layer = node.op_type in LAYERS and not any(f"{last}.weight" in node.input[1] for last in LAST)
        if layer or (node.op_type in BETWEEN and made.issuperset(node.input)):
            chosen.append(node.name)
            made.update(node.output)
    return chosen


class Feeds:
    """onnxruntime's CalibrationDataReader, by its interface."""

    def __init__(self, feeds: Iterable[dict[str, np.ndarray]]):
        self.feeds = iter(feeds)
        self.count = 0

    def get_next(self) -> dict[str, np.ndarray] | None:
        feed = next(self.feeds, None)
        self.count += feed is not None
        if feed is None and not self.count:
            raise DataError("There are no images to calibrate with: name a folder or a config that has some.")
        return feed


@contextmanager
def quiet() -> Iterator[None]:
    """Without onnxruntime's advice to optimize first, which the export has done, and to have no optional inputs."""
    import onnxruntime

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    onnxruntime.set_default_logger_severity(ERRORS)
    try:
        yield
    finally:
        logging.disable(before)
        onnxruntime.set_default_logger_severity(WARNINGS)


def has_vnni() -> bool:
    """Whether this x86 processor multiplies bytes without rounding their sums to 16 bits; Linux tells."""
    try:
        return "vnni" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
