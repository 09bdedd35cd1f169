"""Compares the outputs and latency of exported models with those of the original.

The reference is the model in float64, so that only the exported model has rounding errors: in float32, two correct
programs may differ by more than the tolerances if the weights amplify these errors.
"""

import copy
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor

from resdet.detection.inference.compare import pair
from resdet.errors import Error
from resdet.results import markdown
from resdet.results.result import Result
from resdet.timing import Case, compare

PIXELS, SCORES, IOU = 0.01, 1e-4, 0.99  # tolerances of boxes and scores, minimum mean IoU of masks
NEIGHBOR = 1.5  # pixels: neighboring positions of a keypoint are at most a pixel apart
SHARE = 0.95  # fraction of detections and keypoints that must agree: rounding decides between near-equal candidates
ROUNDS = 5


def exact(model: Any) -> Any:
    """Returns a copy of the model that computes in float64."""
    return copy.deepcopy(model).double()


def compare_results(expected: Result, actual: Result) -> tuple[bool, str]:
    """Returns whether the detections in an image agree, and a note on the differences."""
    if not len(expected) or not len(actual):
        return len(expected) == len(actual), f"{len(expected)} detections, exported model {len(actual)}"
    pairs = pair(expected, actual, PIXELS, SCORES)
    note = pairs.note(len(expected))
    agrees = len(pairs) >= SHARE * len(expected) and (pairs.mean_iou is None or pairs.mean_iou >= IOU)
    if pairs.keypoints is not None and len(pairs):
        share = float((pairs.keypoints <= NEIGHBOR).mean())
        note += f", {100 * share:.1f} % of the keypoints within {NEIGHBOR} pixels"
        agrees = agrees and share >= SHARE
    return agrees, note


def compare_scores(expected: Tensor, actual: Tensor) -> tuple[bool, str]:
    """Returns whether a classifier's logits [B, C] give the same probabilities, and a note on the differences."""
    difference = (expected.softmax(1) - actual.softmax(1)).abs().max().item()
    same = torch.equal(expected.argmax(1), actual.argmax(1))
    return same and difference <= SCORES, f"{'same' if same else 'different'} top class, scores within {difference:.1e}"


def compare_exactly(expected: tuple[Tensor, ...], actual: tuple[Tensor, ...]) -> tuple[bool, str]:
    """Returns whether tensors are equal bit for bit, and a note on the differences."""
    same = all(torch.equal(a, b) for a, b in zip(expected, actual, strict=True))
    return same, "bitwise equal" if same else "not equal"


def require_agreement(agrees: bool, note: str) -> None:
    if not agrees:
        raise Error(
            f"The exported model's outputs differ from the checkpoint's ({note}): nothing was written; check the model."
        )


def latencies(sides: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Returns the median milliseconds of a few rounds per side."""
    seconds = compare(Case("export", 1, sides), ROUNDS, log=lambda text: None)
    return {name: 1000 * median(times) for name, times in seconds.items()}


def cost_table(whole: dict[str, float], small: dict[str, float]) -> str:
    """Formats metrics in float32 and int8, and their differences, as a Markdown table."""
    numbers = {name: (before, small[name], before - small[name]) for name, before in whole.items()}
    rows = [[name, *(f"{value:.4f}" for value in values)] for name, values in numbers.items()]
    return markdown.table(["", "float32", "int8", "cost"], rows)
