"""Inference of detectors on one image, from its pixels to boxes and pasted masks, as a user meets each library."""

from typing import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from resdet.bench.compare import Case
from resdet.bench.detection import picture, tensor_of, twins
from resdet.bench.nets import EAGER, Variant
from resdet.inference.result import Result
from resdet.models.fast import accelerate
from resdet.ops.masks import overlaps

SIZES = ((480, 640), (800, 1333))  # heights and widths, to which neither library has to resize
SHARE = 0.97  # of the detections that must agree
PIXELS, SCORES, IOU = 0.1, 1e-3, 0.99  # how far boxes and scores may be apart, and masks must overlap on average


def cases(sizes: tuple[tuple[int, int], ...] = SIZES, body: str = "resnet50") -> Iterator[Case]:
    """torchvision's detectors do not compile whole: they get the layout and the precision alone."""
    for masks in (False, True):
        for height, width in sizes:
            torch.compiler.reset()
            yield from cases_of(masks, height, width, body)


def cases_of(masks: bool, height: int, width: int, body: str) -> Iterator[Case]:
    pixels = picture(height, width)
    image = tensor_of(pixels)
    theirs, ours = twins(masks, height, width, body)
    name = f"{'Mask' if masks else 'Faster'} R-CNN {width}×{height}, {{}}".format

    peer = inference(lambda: theirs([image]))
    note = agreement(peer()[0], ours.predict([pixels])[0])
    yield Case(name("defaults (eager, fp32)"), 1, {"torchvision": peer, "resdet": lambda: ours.predict([pixels])}, note)
    for variant in EAGER:
        detector, model = variant.prepare(theirs), variant.prepare(ours)
        sides = {
            "torchvision": inference(lambda: detector([image]), variant),
            "resdet": inference(lambda: model.predict([pixels]), variant),
        }
        yield Case(name(variant), 1, sides)
    fast = accelerate(ours)
    sides = {"torchvision": peer, "resdet": lambda: fast.predict([pixels])}
    yield Case(name("resdet's fast path, peer's defaults"), 1, sides)


def inference(call: Callable, variant: Variant = EAGER[0]) -> Callable:
    @torch.inference_mode()
    def run():
        with variant.autocast():
            return call()

    return run


def agreement(theirs: dict[str, Tensor], ours: Result) -> str:
    """How well the detections of an image agree; an error where they do not.

    Each of theirs is compared with the nearest of ours of the same class, as scores that are all but equal may change
    places; for the same reason the last of a hundred may be another one.
    """
    boxes, labels = theirs["boxes"].numpy(), theirs["labels"].numpy() - 1
    distances = np.abs(boxes[:, None] - ours.boxes).max(2)
    distances[labels[:, None] != ours.labels] = np.inf
    own, nearest = np.flatnonzero(distances.min(1) < PIXELS), distances.argmin(1)
    pairs = own, nearest[own]
    scores = np.abs(theirs["scores"].numpy()[pairs[0]] - ours.scores[pairs[1]]).max(initial=0)
    apart = distances[pairs].max(initial=0)
    note = f"{len(own)} of {len(boxes)} detections agree: boxes within {apart:.0e} pixels, scores within {scores:.0e}"
    overlap = 1.0
    if ours.masks is not None:
        # The mean: of a mask of a few pixels float32's rounding may turn one.
        overlap = overlaps(theirs["masks"][pairs[0], 0] > 0.5, torch.from_numpy(ours.masks[pairs[1]])).mean().item()
        note += f", masks with a mean IoU of {overlap:.4f}"
    if not (len(own) >= SHARE * len(boxes) and scores < SCORES and overlap > IOU):
        raise RuntimeError(f"The detectors with the same weights do not agree: {note}.")
    return f"same weights: {note}"
