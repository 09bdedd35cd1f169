"""What is exported of a model: one module from images to arrays, and what its host must know to use it."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

import resdet
from resdet.data.scenes.buckets import rounded_up
from resdet.errors import ConfigError, Error
from resdet.models.classifier import Classifier
from resdet.models.detector import Detector
from resdet.ops import boxes as box_ops
from resdet.ops.masks import paste_probabilities, paste_probabilities_as_torchvision
from resdet.structures import Images

Place = Literal["inside", "outside"]


@dataclass(frozen=True)
class Form:
    """What an exported file shall be like."""

    shape: tuple[int, int] | None = None  # height and width of its images; None: the model's test size
    dynamic_batch: bool = False  # any number of images at once, instead of one
    nms: Place = "inside"  # a detector's last suppression; that of its proposals is always in the graph
    masks: Place = "outside"  # where the mask of a box becomes one of the whole image


DEFAULT = Form()


class ClassifierGraph(nn.Module):
    """logits [B, C] of uint8 RGB images [B, 3, H, W]."""

    inputs, outputs = ["images"], ["logits"]

    def __init__(self, model: Classifier):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor]:
        return (self.model(images),)


class DetectorGraph(nn.Module):
    """Detections of images [B, 3, H, W] of which `sizes` [B, 2] (height, width) is not padding.

    boxes [B, D, 4], scores [B, D], labels [B, D], valid [B, D], and masks: probabilities in the boxes [B, D, m, m], or
    in the images [B, D, H, W].
    """

    inputs = ["images", "sizes"]

    def __init__(self, model: Detector, masks: Place):
        super().__init__()
        self.model, self.paste = model, masks == "inside"
        self.outputs = ["boxes", "scores", "labels", "valid"] + ["masks"] * model.draws_masks
        self.register_buffer("score", torch.tensor(model.score))

    def forward(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
        found, maps = self.model.detect(Images(images, sizes), self.score)
        if not self.model.draws_masks:
            return tuple(found)
        masks = self.model.masks(maps, found.boxes, found.labels)
        if self.paste:
            as_torchvision = self.model.input.resize == "torchvision"
            draw = paste_probabilities_as_torchvision if as_torchvision else paste_probabilities
            masks = draw(masks, found.boxes, *images.shape[2:])
        return *found, masks


class RegionsGraph(nn.Module):
    """What the last suppression chooses from: boxes [B, N, C or 1, 4] and scores [B, N, C] of all regions."""

    inputs, outputs = ["images", "sizes"], ["boxes", "scores"]

    def __init__(self, model: Detector):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        model, batch = self.model, Images(images, sizes)
        maps = model.maps(batch)
        proposals = model.rpn.propose(model.rpn(maps, images.shape[2:]), sizes, training=False)
        scores, boxes, deltas = model.regions.classify(maps, proposals.boxes, sizes)
        decoded = box_ops.decode(boxes[:, :, None], deltas, model.regions.weights[-1])
        real = proposals.valid[..., None] & torch.isfinite(scores)
        return box_ops.clip(decoded, sizes), torch.where(real, scores, 0.0)


def graph_of(model: Any, form: Form) -> nn.Module:
    """The module to export, in eval mode."""
    if isinstance(model, Classifier):
        if (form.nms, form.masks) != (DEFAULT.nms, DEFAULT.masks):
            raise ConfigError("--nms and --masks are for detectors, and this is a classifier: leave them out.")
        return ClassifierGraph(model).eval()
    if not isinstance(model, Detector):
        raise Error(f"A {type(model).__name__} cannot be exported: classifiers and detectors can.")
    if form.masks == "inside" and not model.draws_masks:
        raise ConfigError("--masks inside is for detectors that draw masks, and this one does not: leave it out.")
    if form.nms == "inside":
        return DetectorGraph(model, form.masks).eval()
    if model.draws_masks:
        raise ConfigError("Masks are drawn in the boxes that suppression leaves: with masks, choose --nms inside.")
    return RegionsGraph(model).eval()


def shape_of(model: Any, form: Form) -> tuple[int, int]:
    """Height and width of the exported images."""
    if isinstance(model, Classifier):
        if form.shape not in (None, (model.size, model.size)):
            height, width = form.shape
            raise ConfigError(f"--shape is {height}x{width}: this classifier takes {model.size}x{model.size} alone.")
        return model.size, model.size
    least = rounded_up(*(form.shape or (model.input.short, model.input.long)), model.input.divisor)
    if form.shape not in (None, least):
        height, width = form.shape
        raise ConfigError(
            f"--shape is {height}x{width}: give multiples of {model.input.divisor}, as {least[0]}x{least[1]}."
        )
    return least


def example_of(model: Any, form: Form) -> tuple[Tensor, ...]:
    """Inputs of the graph; two images where their number is to stay open, since one is taken for a constant."""
    batch, (height, width) = 2 if form.dynamic_batch else 1, shape_of(model, form)
    if isinstance(model, Classifier):
        return (torch.zeros(batch, 3, height, width, dtype=torch.uint8),)
    # torchvision's way of resizing leaves fractions.
    dtype = torch.float32 if model.input.resize == "torchvision" else torch.uint8
    sizes = torch.tensor([[height, width]], dtype=torch.float32).repeat(batch, 1)
    return torch.zeros(batch, 3, height, width, dtype=dtype), sizes


def describe(model: Any, form: Form) -> dict[str, Any]:
    """All that a host must know beside the graph, in plain types."""
    common = {
        "version": resdet.__version__,
        "task": "classification" if isinstance(model, Classifier) else "detection",
        "classes": model.classes,
        "shape": list(shape_of(model, form)),
        "batch": None if form.dynamic_batch else 1,
        "pixels": "RGB, 0 to 255, normalised in the graph",
        "experiment": model.experiment,
    }
    if isinstance(model, Classifier):
        return common | {"size": model.size, "short": model.short}
    box = model.regions.config
    return common | {
        "category_ids": model.category_ids,
        "input": dataclasses.asdict(model.input),
        "score": model.score,
        "nms": form.nms,
        "suppression": {"candidates": box.candidates, "iou": box.nms, "detections": box.detections},
        "masks": form.masks if model.draws_masks else None,
    }
