"""From the scores and boxes of anchors to one box a class (appendix C): views, scales, ensembles, R-CNN, voting.

All classes and regions are worked on at once; what is looped over are views, nets, and chunks of regions.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from resdet.backbones.modes import evaluating
from resdet.detection.heads.matcher import take
from resdet.errors import ConfigError
from resdet.images.crops import rectangle
from resdet.images.decode import as_image
from resdet.images.statistics import IMAGENET_MEAN
from resdet.images.warp import warp
from resdet.localization.config import LocateConfig
from resdet.localization.data.regions import PICTURE
from resdet.localization.rcnn_model import LocalizerRCNN
from resdet.localization.rpn_model import Localizer
from resdet.ops import boxes as box_ops
from resdet.ops.nms import nms
from resdet.results.result import Result
from resdet.structures import Proposals, bucket

MIN_SIZE = 1.0  # pixels of the image: smaller boxes are no proposals


class View(NamedTuple):
    """What is shown of images: x in an image is (x in the view + shift) / scale."""

    pixels: Tensor  # [B, 3, h, w] uint8
    scale: Tensor  # [B, 2] float32, across and down
    shift: Tensor  # [B, 2] float32

    def to(self, device: torch.device) -> "View":
        return View(*(field.to(device, non_blocking=True) for field in self))


class Show:
    """Turns an image into its views: what the RPN sees and, for R-CNN, the picture that regions are taken from."""

    def __init__(self, config: LocateConfig, size: int, short: int, picture: int | None):
        """`size` of the central crop, `short` side of its image, and of the `picture` that regions are taken from."""
        self.config, self.size, self.short, self.picture = config, size, short, picture

    def __call__(self, image: Any) -> list[View]:
        if self.config.testing == "center":
            views = [self.center(image)]
        else:
            views = [self.whole(image, short) for short in self.config.scales]
        return views + ([self.whole(image, self.picture)] if self.picture else [])

    def center(self, image: Any) -> View:
        whole = rectangle(image, self.short)
        top, left = (round((side - self.size) / 2) for side in whole.shape[:2])
        return view(whole[top : top + self.size, left : left + self.size], whole.shape, image.size, (left, top))

    def whole(self, image: Any, short: int) -> View:
        pixels = rectangle(image, short)
        return view(pixels, pixels.shape, image.size, (0, 0))


def view(pixels: np.ndarray, whole: Sequence[int], full: tuple[int, int], corner: tuple[int, int]) -> View:
    """A part at `corner` of an image of size `full` that was resized to height and width `whole`."""
    scale = np.divide(whole[1::-1], full)
    shown = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]
    return View(shown, torch.tensor(scale[None], dtype=torch.float32), torch.tensor([corner], dtype=torch.float32))


class Locator:
    """One localizer, or an ensemble of them: several RPNs, or several R-CNNs with theirs.

    The nets of an ensemble judge the same anchors, and then the same proposals; their scores and boxes are averaged.
    """

    def __init__(self, models: Sequence[Localizer | LocalizerRCNN], config: LocateConfig | None = None):
        first = models[0]
        self.config = config or first.locating
        self.heads = [model for model in models if isinstance(model, LocalizerRCNN)]
        if self.heads and len(self.heads) < len(models):
            raise ConfigError(
                "An ensemble is of localizers of one kind: RPNs, or R-CNNs, which have their RPNs inside."
            )
        self.proposers = [model.proposer for model in self.heads] or list(models)
        self.classes = first.classes
        check_alike(models, self.proposers)
        if len({head.config.context for head in self.heads}) > 1:
            raise ConfigError("An ensemble needs R-CNNs of the same model.context.")
        self.device = first.normalize.std.device
        picture = PICTURE * first.size if self.heads else None
        self.show = Show(self.config, self.proposers[0].size, self.proposers[0].short, picture)

    @property
    def together(self) -> bool:
        """Whether the views of several images are of one size."""
        return self.config.testing == "center" and not self.heads

    def __call__(self, views: Sequence[View], sizes: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes [B, K, 4], in pixels of the images, and scores [B, K] of the classes [B, K]; `sizes` [B, 2] are the
        images' heights and widths."""
        shape = classes.shape
        seen = views[:-1] if self.heads else views
        if self.heads:
            found = self.rescore(views[-1], self.propose(seen, sizes, classes), sizes, classes)
        else:
            boxes, scores = self.candidates(seen, sizes, classes)
            found = Proposals(boxes.flatten(0, 1), scores.flatten(0, 1), large(boxes).flatten(0, 1))
        boxes, scores = vote(found, self.config.vote)
        return boxes.unflatten(0, shape), scores.unflatten(0, shape)

    def candidates(self, views: Sequence[View], sizes: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """The best boxes [B, K, M, 4] of each view, in pixels of the images, and their scores [B, K, M]."""
        all_boxes, all_scores = [], []
        for seen in views:
            scores, boxes = mean(model.candidates(seen.pixels, classes) for model in self.proposers)
            best, chosen = scores.topk(min(self.config.candidates, scores.shape[2]), dim=2)
            boxes = take(boxes.flatten(0, 1), chosen.flatten(0, 1)).unflatten(0, classes.shape)
            shift, scale = (field.repeat(1, 2)[:, None, None] for field in (seen.shift, seen.scale))
            all_boxes.append((boxes + shift) / scale)
            all_scores.append(best)
        return box_ops.clip(torch.cat(all_boxes, 2), sizes), torch.cat(all_scores, 2)

    def propose(self, views: Sequence[View], sizes: Tensor, classes: Tensor) -> Proposals:
        """The best boxes of each image and class [B·K, P, 4] without near duplicates, those of all views together."""
        boxes, scores = (part.flatten(0, 1) for part in self.candidates(views, sizes, classes))
        groups = torch.zeros_like(scores, dtype=torch.int64)
        kept, valid = nms(boxes, scores, groups, large(boxes), self.config.nms, self.config.proposals)
        return Proposals(take(boxes, kept), take(scores, kept), valid)

    def rescore(self, picture: View, proposals: Proposals, sizes: Tensor, classes: Tensor) -> Proposals:
        """R-CNN's scores and boxes of the proposals of one image."""
        kept = bucket(int(proposals.valid.sum(1).max()), proposals.valid.shape[1])
        boxes, valid = proposals.boxes[:, :kept].flatten(0, 1), proposals.valid[:, :kept]
        labels = classes[0].repeat_interleave(kept)
        parts = []
        for each, own in zip(*(rows.split(self.heads[0].config.regions) for rows in (boxes, labels))):
            regions = self.regions(picture, each)
            parts.append(mean(model.rescore(regions, each, own) for model in self.heads))
        scores, refined = (torch.cat(part) for part in zip(*parts))
        refined = box_ops.clip(refined.unflatten(0, valid.shape), sizes.expand(len(valid), 2))
        return Proposals(refined, scores.unflatten(0, valid.shape), valid)

    def regions(self, picture: View, boxes: Tensor) -> Tensor:
        """Boxes [R, 4] of an image as R-CNN sees them, warped from its picture: [R, 3, S, S]."""
        head, seen = self.heads[0], boxes * picture.scale.repeat(1, 2)
        return warp(picture.pixels[0], seen, head.size, head.config.context, IMAGENET_MEAN)


def check_alike(models: Sequence[Any], proposers: Sequence[Localizer]) -> None:
    for model, proposer in zip(models, proposers):
        if model.classes != models[0].classes:
            raise ConfigError("An ensemble needs nets of the same classes.")
        same = proposer.rpn.stride == proposers[0].rpn.stride
        cells = (each.rpn.anchors.cell0 for each in (proposer, proposers[0]))
        if not same or not torch.equal(*(cell.cpu() for cell in cells)):
            raise ConfigError("An ensemble needs RPNs of the same anchors: model.rpn.sizes, ratios and stride.")
        if (model.size, proposer.size) != (models[0].size, proposers[0].size):
            raise ConfigError("An ensemble needs nets of the same data.size.")


def mean(pairs: Any) -> tuple[Tensor, Tensor]:
    """Of scores and of boxes, over the nets."""
    scores, boxes = zip(*pairs)
    return sum(scores) / len(scores), sum(boxes) / len(boxes)


def large(boxes: Tensor) -> Tensor:
    """[..., 4] -> [...]"""
    return (boxes[..., 2:] - boxes[..., :2] >= MIN_SIZE).all(-1)


def vote(found: Proposals, iou: float | None) -> tuple[Tensor, Tensor]:
    """The best box of each row [N, 4] and its score [N]; those that overlap it by `iou` are averaged with it.

    A row without a valid box gives its first one with score 0.
    """
    scores = found.scores * found.valid
    best, chosen = scores.max(1, keepdim=True)
    boxes = take(found.boxes, chosen)
    if iou is not None:
        near = (box_ops.iou(boxes, found.boxes)[:, 0] >= iou) & found.valid
        weights = scores.clamp(min=torch.finfo(scores.dtype).tiny) * near
        voted = box_ops.weighted_mean(found.boxes, weights)[:, None]
        boxes = torch.where(near.any(1)[:, None, None], voted, boxes)
    return boxes[:, 0], best[:, 0]


@torch.inference_mode()
def predict(model: Any, images: Sequence, classes: Sequence[int | Sequence[int]]) -> list[Result]:
    """The best box of each given class; `images` are paths and uint8 RGB arrays [H, W, 3]."""
    if len(images) != len(classes):
        raise ConfigError(f"There are {len(images)} images, and classes for {len(classes)}: give each image its own.")
    with evaluating([model]):
        locator = Locator([model])
        own = [np.atleast_1d(np.asarray(labels, np.int64)) for labels in classes]
        return [locate(locator, image, labels) for image, labels in zip(images, own)]


def locate(locator: Locator, image: Any, labels: np.ndarray) -> Result:
    """The box of each of the classes, in their order."""
    picture = as_image(image)
    if not len(labels):
        return Result.of(np.zeros((0, 4)), np.zeros(0), labels, locator.classes, picture.size[::-1], image)
    views = [seen.to(locator.device) for seen in locator.show(picture)]
    original = picture.size[::-1]
    sizes = torch.tensor([original], dtype=torch.float32, device=locator.device)
    boxes, scores = locator(views, sizes, torch.as_tensor(labels, device=locator.device)[None])
    return Result.of(boxes[0].cpu().numpy(), scores[0].cpu().numpy(), labels, locator.classes, original, image)
