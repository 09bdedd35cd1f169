"""Inference of detectors on one image, from pixels to boxes and pasted masks, through each library's public API."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from resdet.bench.detection import sample_image, tensor_of, twins
from resdet.bench.nets import EAGER, fast_path, inference
from resdet.detection.inference.compare import DetectionTuple, pair
from resdet.results.result import Result
from resdet.timing import Case, Side

SIZES = ((480, 640), (800, 1333))  # heights and widths that neither library resizes
SHARE = 0.97  # minimum fraction of agreeing detections
PIXELS, SCORES, IOU = 0.1, 1e-3, 0.99  # tolerances of boxes and scores, minimum mean IoU of masks


def cases(sizes: tuple[tuple[int, int], ...] = SIZES, body: str = "resnet50", device: str = "cpu") -> Iterator[Case]:
    """Yields eager cases only: torchvision's detectors do not compile with fullgraph=True."""
    for masks in (False, True):
        for height, width in sizes:
            torch.compiler.reset()
            yield from cases_of(masks, height, width, body, device)


def cases_of(masks: bool, height: int, width: int, body: str, device: str = "cpu") -> Iterator[Case]:
    """Yields the cases of an image size; detections are compared on the CPU, since GPU convolutions use TF32."""
    pixels = sample_image(height, width)
    image = tensor_of(pixels)
    peer, model = twins(masks, height, width, body)
    name = f"{'Mask' if masks else 'Faster'} R-CNN {width}×{height}, {{}}".format

    eager = inference(lambda: peer([image]))
    note = agreement(eager()[0], model.predict([pixels])[0])
    image, peer, model = image.to(device), peer.to(device), model.to(device)
    sides: dict[str, Side] = {"torchvision": eager, "resdet": lambda: model.predict([pixels])}
    yield Case(name("defaults (eager, fp32)"), 1, sides, note)
    for variant in (variant.on(device) for variant in EAGER):
        peer_variant, model_variant = variant.prepare(peer), variant.prepare(model)
        sides = {
            "torchvision": inference(lambda: peer_variant([image]), variant),
            "resdet": inference(lambda: model_variant.predict([pixels]), variant),
        }
        yield Case(name(variant), 1, sides)
    fast = fast_path(model, device)
    sides = {"torchvision": eager, "resdet": lambda: fast.predict([pixels])}
    yield Case(name("resdet's fast path, peer's defaults"), 1, sides)


def agreement(output: dict[str, Tensor], result: Result) -> str:
    """Returns a note on how well the detections of an image agree; raises RuntimeError if they do not.

    The lowest-ranked detections may differ, since their scores are nearly equal.
    """
    masks = None if result.masks is None else output["masks"][:, 0].numpy() > 0.5
    expected = DetectionTuple(output["boxes"].numpy(), output["scores"].numpy(), output["labels"].numpy() - 1, masks)
    pairs = pair(expected, result, PIXELS, scores=np.inf)
    note, iou = pairs.note(len(expected.boxes)), pairs.mean_iou
    close = pairs.scores.max(initial=0) < SCORES and (iou is None or iou > IOU)
    if len(pairs) < SHARE * len(expected.boxes) or not close:
        raise RuntimeError(f"The detectors with the same weights do not agree: {note}.")
    return f"same weights: {note}"
