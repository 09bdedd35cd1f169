"""Whether an exported model gives what the model gives, and how long each of them takes.

Against the model in float64, so that only the rounding of the exported one counts: in float32 two correct programs may
differ by more than the tolerances where the weights amplify it.
"""

import copy
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor

from resdet.detection.inference.compare import pair
from resdet.errors import ConfigError, Error
from resdet.results.result import Result
from resdet.timing import Case, compare

PIXELS, SCORES, IOU = 0.01, 1e-4, 0.99  # how far boxes and scores may be apart, and masks must overlap on average
SHARE = 0.95  # of the detections: rounding may decide which of two that are all but equal suppresses the other
ROUNDS = 5


def exact(model: Any) -> Any:
    """A copy of the model that computes in float64."""
    return copy.deepcopy(model).double()


def compare_results(expected: Result, found: Result) -> tuple[bool, str]:
    """Whether the detections of an image agree, and how well."""
    if not len(expected) or not len(found):
        return len(expected) == len(found), f"{len(expected)} detections, and {len(found)} exported ones"
    pairs = pair(expected, found, PIXELS, SCORES)
    note = f"{len(pairs)} of {len(expected)} detections agree, boxes within {pairs.pixels.max(initial=0):.1e} pixels"
    note += f", scores within {pairs.scores.max(initial=0):.1e}"
    overlap = 1.0
    if pairs.ious is not None and len(pairs):
        overlap = pairs.ious.mean()  # the mean: of a mask of a few pixels rounding may turn one
        note += f", masks with a mean IoU of {overlap:.4f}"
    return bool(len(pairs) >= SHARE * len(expected) and overlap >= IOU), note


def compare_scores(expected: Tensor, found: Tensor) -> tuple[bool, str]:
    """Whether a classifier's logits [B, C] mean the same probabilities."""
    apart = (expected.softmax(1) - found.softmax(1)).abs().max().item()
    same = torch.equal(expected.argmax(1), found.argmax(1))
    return same and apart <= SCORES, f"{'the same' if same else 'another'} class first, scores within {apart:.1e}"


def compare_exactly(expected: tuple[Tensor, ...], found: tuple[Tensor, ...]) -> tuple[bool, str]:
    """Whether tensors are equal to the last bit."""
    same = all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    return same, "equal to the last bit" if same else "not equal"


def demand(agrees: bool, note: str) -> None:
    if not agrees:
        raise Error(f"The exported model does not give what the checkpoint gives ({note}): nothing was written.")


def latencies(sides: dict[str, Callable[[], object]]) -> str:
    """The median of a few rounds of each side, in turns."""
    seconds = compare(Case("export", 1, sides), ROUNDS, say=lambda text: None)
    return ", ".join(f"{name} {1000 * median(times):.0f} ms" for name, times in seconds.items())


def check_classes(fit: bool) -> None:
    if not fit:
        raise ConfigError("The data of --calibrate has other classes than the model: name the data it was trained for.")


def cost_table(whole: dict[str, float], small: dict[str, float]) -> str:
    """Markdown: each figure in float32, in int8, and what is lost."""
    pairs = [(name, value, small[name]) for name, value in whole.items()]
    rows = [f"| {name} | {before:.4f} | {after:.4f} | {before - after:.4f} |" for name, before, after in pairs]
    return "\n".join(["| | float32 | int8 | cost |", "|---|---:|---:|---:|", *rows])
