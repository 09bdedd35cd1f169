"""Selects one box per class from the anchors' scores and boxes (appendix C): views, ensembles, R-CNN, voting.

Vectorized over classes and regions, with loops over views, nets, and chunks of regions.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from resdet.backbones.modes import evaluating
from resdet.detection.heads.matcher import take
from resdet.errors import ConfigError, require
from resdet.images.crops import Image, rectangle
from resdet.images.decode import as_image
from resdet.images.inputs import images_in
from resdet.images.statistics import IMAGENET_MEAN
from resdet.images.warp import warp
from resdet.localization.config import LocateConfig
from resdet.localization.data.regions import SOURCE_SCALE
from resdet.localization.rcnn_model import LocalizerRCNN
from resdet.localization.rpn_model import Localizer
from resdet.ops import boxes as box_ops
from resdet.ops.nms import nms
from resdet.results.result import Result
from resdet.structures import Proposals, bucket

MIN_SIZE = 1.0  # minimum width and height of proposals, in pixels of the image


class View(NamedTuple):
    """A resized part of each image: x in an image is (x in the view + shift) / scale."""

    pixels: Tensor  # [B, 3, h, w] uint8
    scale: Tensor  # [B, 2] float32, across and down
    shift: Tensor  # [B, 2] float32

    def to(self, device: torch.device) -> "View":
        return View(*(field.to(device, non_blocking=True) for field in self))


class ViewBuilder:
    """Builds the views of an image: those of the RPN and, for R-CNN, last the whole image to cut regions from."""

    def __init__(self, config: LocateConfig, size: int, short: int, source_short: int | None):
        """`size` of the center crop, `short` side before it, and `source_short` side of the image for R-CNN's
        regions."""
        self.config, self.size, self.short, self.source_short = config, size, short, source_short

    def __call__(self, image: Image) -> list[View]:
        if self.config.testing == "center":
            views = [self.center(image)]
        else:
            views = [self.whole(image, short) for short in self.config.scales]
        return views + ([self.whole(image, self.source_short)] if self.source_short else [])

    def center(self, image: Image) -> View:
        whole = rectangle(image, self.short)
        top, left = (round((side - self.size) / 2) for side in whole.shape[:2])
        return build_view(whole[top : top + self.size, left : left + self.size], whole.shape, image.size, (left, top))

    def whole(self, image: Image, short: int) -> View:
        pixels = rectangle(image, short)
        return build_view(pixels, pixels.shape, image.size, (0, 0))


def build_view(pixels: np.ndarray, whole: Sequence[int], full: tuple[int, int], corner: tuple[int, int]) -> View:
    """Crops the part at `corner` of an image with size `full` (width, height), resized to `whole` (height, width)."""
    scale = np.divide(whole[1::-1], full)
    part = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]
    return View(part, torch.tensor(scale[None], dtype=torch.float32), torch.tensor([corner], dtype=torch.float32))


class Locator:
    """A localizer, or an ensemble of either RPNs or R-CNNs with their RPNs.

    The nets of an ensemble score the same anchors, and then the same proposals; scores and boxes are averaged.
    """

    def __init__(self, models: Sequence[Localizer | LocalizerRCNN], config: LocateConfig | None = None):
        first = models[0]
        self.config = config or first.locating
        self.heads = [model for model in models if isinstance(model, LocalizerRCNN)]
        if self.heads and len(self.heads) < len(models):
            raise ConfigError("An ensemble needs localizers of one kind: give only RPNs, or only R-CNNs.")
        self.proposers = [model.proposer for model in self.heads] or list(cast(Sequence[Localizer], models))
        self.classes = first.classes
        check_ensemble(models, self.proposers)
        if len({head.config.context for head in self.heads}) > 1:
            raise ConfigError("An ensemble needs R-CNNs of the same model.context.")
        self.device = first.device
        source_short = SOURCE_SCALE * first.size if self.heads else None
        self.build_views = ViewBuilder(self.config, self.proposers[0].size, self.proposers[0].short, source_short)

    @property
    def batched(self) -> bool:
        """Whether the views of several images have one size."""
        return self.config.testing == "center" and not self.heads

    def __call__(self, views: Sequence[View], sizes: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Returns boxes [B, K, 4], in pixels of the images, and scores [B, K] for the classes [B, K]; `sizes` [B, 2]
        are the images' heights and widths."""
        shape = classes.shape
        if self.heads:
            proposals = self.rescore(views[-1], self.propose(views[:-1], sizes, classes), sizes, classes)
        else:
            boxes, scores = self.candidates(views, sizes, classes)
            proposals = Proposals(boxes.flatten(0, 1), scores.flatten(0, 1), large(boxes).flatten(0, 1))
        boxes, scores = vote(proposals, self.config.vote)
        return boxes.unflatten(0, shape), scores.unflatten(0, shape)

    def candidates(self, views: Sequence[View], sizes: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the best boxes [B, K, M, 4] of all views, in pixels of the images, and their scores [B, K, M]."""
        all_boxes, all_scores = [], []
        for view in views:
            scores, boxes = mean(model.candidates(view.pixels, classes) for model in self.proposers)
            best, chosen = scores.topk(min(self.config.candidates, scores.shape[2]), dim=2)
            boxes = take(boxes.flatten(0, 1), chosen.flatten(0, 1)).unflatten(0, classes.shape)
            shift, scale = (field.repeat(1, 2)[:, None, None] for field in (view.shift, view.scale))
            all_boxes.append((boxes + shift) / scale)
            all_scores.append(best)
        return box_ops.clip(torch.cat(all_boxes, 2), sizes), torch.cat(all_scores, 2)

    def propose(self, views: Sequence[View], sizes: Tensor, classes: Tensor) -> Proposals:
        """Returns the best boxes [B·K, P, 4] of each image and class after NMS over all views."""
        boxes, scores = (part.flatten(0, 1) for part in self.candidates(views, sizes, classes))
        groups = torch.zeros_like(scores, dtype=torch.int64)
        kept, valid = nms(boxes, scores, groups, large(boxes), self.config.nms, self.config.proposals)
        return Proposals(take(boxes, kept), take(scores, kept), valid)

    def rescore(self, image: View, proposals: Proposals, sizes: Tensor, classes: Tensor) -> Proposals:
        """Returns R-CNN's scores and boxes for the proposals of one image."""
        kept = bucket(int(proposals.valid.sum(1).max()), proposals.valid.shape[1])
        boxes, valid = proposals.boxes[:, :kept].flatten(0, 1), proposals.valid[:, :kept]
        labels = classes[0].repeat_interleave(kept)
        parts = []
        for chunk, chunk_labels in zip(*(rows.split(self.heads[0].config.regions) for rows in (boxes, labels))):
            regions = self.regions(image, chunk)
            parts.append(mean(model.rescore(regions, chunk, chunk_labels) for model in self.heads))
        scores, refined = (torch.cat(part) for part in zip(*parts))
        refined = box_ops.clip(refined.unflatten(0, valid.shape), sizes.expand(len(valid), 2))
        return Proposals(refined, scores.unflatten(0, valid.shape), valid)

    def regions(self, image: View, boxes: Tensor) -> Tensor:
        """Warps the boxes [R, 4] of an image to regions [R, 3, S, S], the inputs of R-CNN."""
        head, scaled = self.heads[0], boxes * image.scale.repeat(1, 2)
        return warp(image.pixels[0], scaled, head.size, head.config.context, IMAGENET_MEAN)


def check_ensemble(models: Sequence[Localizer | LocalizerRCNN], proposers: Sequence[Localizer]) -> None:
    for model, proposer in zip(models, proposers):
        if model.classes != models[0].classes:
            raise ConfigError("An ensemble needs nets of the same classes.")
        same = proposer.rpn.stride == proposers[0].rpn.stride
        cell, first = (cast(Tensor, each.rpn.anchors.cell0).cpu() for each in (proposer, proposers[0]))
        if not same or not torch.equal(cell, first):
            raise ConfigError("An ensemble needs RPNs of the same anchors: model.rpn.sizes, ratios and stride.")
        if (model.size, proposer.size) != (models[0].size, proposers[0].size):
            raise ConfigError("An ensemble needs nets of the same data.size.")


def mean(pairs: Any) -> tuple[Tensor, Tensor]:
    """Averages the scores and boxes of the nets, given as (scores, boxes) pairs."""
    scores, boxes = zip(*pairs)
    return sum(scores) / len(scores), sum(boxes) / len(boxes)


def large(boxes: Tensor) -> Tensor:
    """Whether boxes [..., 4] have the minimum size, bool [...]."""
    return (boxes[..., 2:] - boxes[..., :2] >= MIN_SIZE).all(-1)


def vote(proposals: Proposals, iou: float | None) -> tuple[Tensor, Tensor]:
    """Returns the best box of each row [N, 4], averaged with the boxes of at least this IoU, and its score [N].

    For a row without a valid box, returns its first box with score 0.
    """
    scores = proposals.scores * proposals.valid
    best, chosen = scores.max(1, keepdim=True)
    boxes = take(proposals.boxes, chosen)
    if iou is not None:
        near = (box_ops.iou(boxes, proposals.boxes)[:, 0] >= iou) & proposals.valid
        weights = scores.clamp(min=torch.finfo(scores.dtype).tiny) * near
        voted = box_ops.weighted_mean(proposals.boxes, weights)[:, None]
        boxes = torch.where(near.any(1)[:, None, None], voted, boxes)
    return boxes[:, 0], best[:, 0]


@torch.inference_mode()
def predict(
    model: Localizer | LocalizerRCNN,
    images: Any,
    classes: Sequence[int | Sequence[int]],
    device: str | torch.device | None = None,
) -> list[Result]:
    """Returns the best box of each given class. Moves the model to `device`, if given."""
    if device is not None:
        model.to(device)
    inputs = [*images_in(images)]
    if len(inputs) != len(classes):
        raise ConfigError(
            f"There are {len(inputs)} images but classes for {len(classes)}: give classes for each image."
        )
    labels = [np.atleast_1d(np.asarray(given, np.int64)) for given in classes]
    last = len(model.classes) - 1
    for given in labels:
        known = given.min(initial=0) >= 0 and given.max(initial=0) <= last
        require(known, "classes", given.tolist(), f"give class numbers from 0 to {last}")
    with evaluating([model]):
        locator = Locator([model])
        return [locate(locator, image, given) for image, given in zip(inputs, labels)]


def locate(locator: Locator, image: Any, labels: np.ndarray) -> Result:
    """Returns the boxes of the given classes, in order."""
    opened = as_image(image)
    result = locate_in(locator, locator.build_views(opened) if len(labels) else [], opened.size[::-1], labels)
    result.image = image
    return result


def locate_in(locator: Locator, views: Sequence[View], size: tuple[int, int], labels: np.ndarray) -> Result:
    """Runs `locate` on the views of an image of this height and width."""
    if not len(labels):
        return Result.of(np.zeros((0, 4)), np.zeros(0), labels, locator.classes, size)
    views = [view.to(locator.device) for view in views]
    sizes = torch.tensor([size], dtype=torch.float32, device=locator.device)
    boxes, scores = locator(views, sizes, torch.as_tensor(labels, device=locator.device)[None])
    return Result.of(boxes[0].cpu().numpy(), scores[0].cpu().numpy(), labels, locator.classes, size)
