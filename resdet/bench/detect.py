"""Inference of detectors on one image, from its pixels to boxes and pasted masks, as a user meets each library."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from resdet.bench.detection import picture, tensor_of, twins
from resdet.bench.nets import EAGER, Variant
from resdet.detection.inference.compare import DetectionTuple, pair
from resdet.fast import accelerate
from resdet.results.result import Result
from resdet.timing import Case

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
    """How well the detections of an image agree; an error where they do not. The last of a hundred may be another one,
    where its score is all but equal."""
    masks = None if ours.masks is None else theirs["masks"][:, 0].numpy() > 0.5
    expected = DetectionTuple(theirs["boxes"].numpy(), theirs["scores"].numpy(), theirs["labels"].numpy() - 1, masks)
    pairs = pair(expected, ours, PIXELS, scores=np.inf)
    apart, scores = (values.max(initial=0) for values in (pairs.pixels, pairs.scores))
    note = f"{len(pairs)} of {len(expected.boxes)} detections agree: boxes within {apart:.0e} pixels"
    note += f", scores within {scores:.0e}"
    overlap = 1.0
    if pairs.ious is not None and len(pairs):
        overlap = pairs.ious.mean()  # the mean: of a mask of a few pixels float32's rounding may turn one
        note += f", masks with a mean IoU of {overlap:.4f}"
    if not (len(pairs) >= SHARE * len(expected.boxes) and scores < SCORES and overlap > IOU):
        raise RuntimeError(f"The detectors with the same weights do not agree: {note}.")
    return f"same weights: {note}"
