"""Inference of detectors on one batch: boxes of Faster R-CNN, and the parts of mask prediction in Mask R-CNN."""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from resdet.bench.detect_train import Inputs
from resdet.bench.gpu_stages.detectors import Pair
from resdet.bench.gpu_stages.stage import NEEDS_CUDA, Call, Stage, captured
from resdet.bench.nets import Variant, inference
from resdet.detection.inference.predictor import results_of
from resdet.detection.model import Detector
from resdet.fast import accelerate
from resdet.ops.masks import paste
from resdet.ops.rle import encode
from resdet.structures import Images


def run(stage: Stage) -> None:
    faster, mask = Pair.make(stage, masks=False), Pair.make(stage, masks=True)
    batches = (len(faster.inputs.images), 1)
    for batch in batches:
        boxes(stage, faster, first(faster.inputs, batch))
    for batch in batches:
        masks(stage, mask, first(mask.inputs, batch))
    for batch in batches:
        compiled(stage, faster, first(faster.inputs, batch))


class Given(NamedTuple):
    """A batch of images as inputs of torchvision and of resdet."""

    tensors: list[Tensor]
    images: Images


def first(inputs: Inputs, batch: int) -> Given:
    images = cast(Images, inputs.batch.images)
    return Given(inputs.images[:batch], Images(images.pixels[:batch], images.sizes[:batch]))


def boxes(stage: Stage, pair: Pair, given: Given) -> None:
    name = f"{pair.name}, batch {len(given.tensors)}, {{}}".format
    for variant in variants(stage):
        stage.time(name(f"torchvision, {precision(variant)}"), lambda: torchvision(pair.peer, given, variant))
    plain, fast = lambda: copy.deepcopy(pair.model), lambda: folded(stage, pair.model)
    for label, model in (("fp32", plain), (f"{stage.precision}, folded", fast)):
        stage.time(name(f"resdet, {label}"), lambda: detection(model(), given))
        stage.time_captured(name(f"resdet, {label}, captured"), lambda: detection(model(), given))


def compiled(stage: Stage, pair: Pair, given: Given) -> None:
    name = f"{pair.name}, batch {len(given.tensors)}, resdet, {stage.precision}, folded, compiled{{}}".format
    if not stage.cuda:
        stage.add(name(""), {"note": NEEDS_CUDA})
        return
    torch.compiler.reset()
    calls: list[Call] = []

    def make() -> Call:
        calls.append(detection(folded(stage, pair.model, compile=True), given))
        return calls[0]

    stage.time_compiled(name(""), make)
    stage.attempt(name(", captured"), lambda: stage.timed(captured(calls[0])))


def variants(stage: Stage) -> list[Variant]:
    """float32, and bfloat16 if the device supports it."""
    return [Variant(bf16, False, stage.device) for bf16 in sorted({False, stage.variant.bf16})]


def precision(variant: Variant) -> str:
    return "bf16" if variant.bf16 else "fp32"


def torchvision(peer: nn.Module, given: Given, variant: Variant) -> Call:
    model = variant.prepare(peer).eval()
    return inference(lambda: model(given.tensors), variant)


def folded(stage: Stage, model: Detector, compile: bool = False) -> Detector:
    dtype = torch.bfloat16 if stage.precision == "bf16" else torch.float32
    return accelerate(copy.deepcopy(model), dtype, compile=compile)


def detection(model: Detector, given: Given) -> Call:
    return inference(lambda: model.detect(given.images))


def masks(stage: Stage, pair: Pair, given: Given) -> None:
    """Times whole predictions with masks pasted into the image, and the parts of resdet's."""
    batch = len(given.tensors)
    name = f"{pair.name}, batch {batch}, {{}}".format
    originals = [tuple(image.shape[1:]) for image in given.tensors]
    for variant in variants(stage):
        label = name(f"torchvision, {precision(variant)}, masks pasted")
        stage.time(label, lambda: torchvision(pair.peer, given, variant))
    whole = lambda model: inference(lambda: results_of(model, given.images, cast(Any, originals)))
    stage.time(name("resdet, fp32, results with RLE"), lambda: whole(copy.deepcopy(pair.model)))
    resdet_name = name(f"resdet, {stage.precision}, folded, {{}}").format
    stage.time(resdet_name("results with RLE"), lambda: whole(folded(stage, pair.model)))
    for part, make in parts(folded(stage, pair.model), given).items():
        stage.time(resdet_name(f"part: {part}"), make)


def parts(model: Detector, given: Given) -> dict[str, Callable[[], Call]]:
    """Returns, by name, calls that each run one part of the prediction for the whole batch."""
    with torch.inference_mode():
        detections, maps = model.detect(given.images)
        drawn = model.masks(maps, detections.boxes, detections.labels)
    height, width = given.images.pixels.shape[2:]
    images = list(zip(drawn, detections.boxes))

    def pasted() -> list[Tensor]:
        return [part.masks for image in images for part in paste(*image, height, width)]

    with torch.inference_mode():
        whole = pasted()
        downloaded = [masks.cpu() for masks in whole]
    return {
        "boxes": lambda: inference(lambda: model.detect(given.images)),
        "mask head": lambda: inference(lambda: model.masks(maps, detections.boxes, detections.labels)),
        "paste": lambda: inference(pasted),
        "download of pasted masks": lambda: inference(lambda: [masks.cpu() for masks in whole]),
        "RLE on the device": lambda: inference(lambda: [encode(masks, (height, width)) for masks in whole]),
        "RLE of downloaded masks": lambda: inference(lambda: [encode(masks, (height, width)) for masks in downloaded]),
    }
