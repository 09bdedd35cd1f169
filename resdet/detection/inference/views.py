"""Views of an image for test-time augmentation: scales (appendix B) and mirror images.

Views take and return boxes in pixels of the original image, so that outputs of several views or detectors for a box can
be averaged.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from resdet.detection.data.keypoints import mirror_of
from resdet.detection.heads.roi_heads import RoIPredictions, Stage
from resdet.detection.inference.predictor import pad
from resdet.detection.model import Detector
from resdet.ops import boxes as box_ops
from resdet.structures import Images

Resized = Callable[[int, int, str], np.ndarray]  # short side, limit of the long side, style -> pixels [h, w, 3]


class Scored(NamedTuple):
    """Class scores and regressed boxes for N boxes."""

    scores: Tensor  # [N, C] probabilities
    boxes: Tensor  # [N, C, 4] regressed box per class


class View:
    """An image at one size, mirrored or not."""

    def __init__(self, net: Detector, pixels: np.ndarray, original: tuple[int, int], mirrored: bool):
        """`pixels`: the resized image; `original`: height and width of the original image."""
        self.net, self.mirrored = net, mirrored
        # np.ascontiguousarray would keep the negative stride of an image that is one pixel wide.
        pixels = np.array(pixels[:, ::-1], order="C") if mirrored else pixels
        self.images = Images(*(field.to(net.device) for field in pad([torch.from_numpy(pixels)], net.input.divisor)))
        self.maps = net.maps(self.images)
        size = torch.tensor(original, dtype=torch.float32, device=net.device)
        self.scale = (self.images.sizes[0] / size).flip(0).repeat(2)

    def propose(self) -> Tensor:
        """Returns proposals, [N, 4]."""
        proposals = self.net.propose(self.maps, self.images)
        return self.to_image(proposals.boxes[0, proposals.valid[0]])

    def classify(self, boxes: Tensor) -> Scored:
        rois = self.to_view(boxes)[None]
        return self.scored(self.net.roi_heads.classify(self.maps, rois, self.images.sizes))

    def scored(self, predictions: RoIPredictions) -> Scored:
        """Decodes predictions for RoIs in pixels of the view."""
        scores, boxes = predictions.scores, self.net.roi_heads.decode(predictions, self.images.sizes)
        return Scored(scores[0].nan_to_num(0), self.to_image(boxes.expand(-1, -1, scores.shape[2], -1)[0]))

    def masks(self, boxes: Tensor, labels: Tensor) -> Tensor:
        """Returns mask probabilities [N, m, m] in boxes [N, 4]."""
        masks = self.net.masks(self.maps, self.to_view(boxes)[None], labels[None])[0]
        return masks.flip(-1) if self.mirrored else masks

    def heatmaps(self, boxes: Tensor, labels: Tensor) -> Tensor:
        """Returns keypoint logits [N, K, m, m] in boxes [N, 4]."""
        heatmaps = self.net.heatmaps(self.maps, self.to_view(boxes)[None], labels[None])[0]
        if not self.mirrored:
            return heatmaps
        mirror = torch.from_numpy(mirror_of(self.net.keypoints.keypoint_names)).to(heatmaps.device)
        return heatmaps[:, mirror].flip(-1)

    def to_view(self, boxes: Tensor) -> Tensor:
        """Maps boxes [..., 4] from the image to the view."""
        boxes = boxes * self.scale
        return self.mirror(boxes) if self.mirrored else boxes

    def to_image(self, boxes: Tensor) -> Tensor:
        """Maps boxes [..., 4] from the view to the image."""
        return (self.mirror(boxes) if self.mirrored else boxes) / self.scale

    def mirror(self, boxes: Tensor) -> Tensor:
        left, top, right, bottom = boxes.unbind(-1)
        width = self.images.sizes[0, 1]
        return torch.stack([width - right, top, width - left, bottom], -1)


class MultiScale:
    """Pools each RoI at its two most suitable scales, and merges the outputs of conv5_x or fc7 by maxout before the
    predictor (appendix B).

    Proposals, masks, keypoints and global context use the view at the detector's training size.
    """

    def __init__(self, base: View, scales: Sequence[View]):
        """`base`: the view at the detector's training size; `scales`: views by ascending size."""
        self.base, self.scales = base, scales
        self.propose, self.masks, self.heatmaps = base.propose, base.masks, base.heatmaps
        self.stage = cast(Stage, base.net.roi_heads.stages[0])

    def classify(self, boxes: Tensor) -> Scored:
        rois, vectors = self.base.to_view(boxes)[None], self.vectors(boxes)
        if self.base.net.roi_heads.config.context:
            vectors = torch.cat([vectors, self.context(rois[:, :0])])
        logits, deltas = self.stage.predict(vectors, 1)
        return self.base.scored(RoIPredictions(logits.float().softmax(-1)[..., :-1], rois, deltas.float()))

    def vectors(self, boxes: Tensor) -> Tensor:
        """Returns the elementwise maximum over the two scales of each RoI: [N, width]."""
        heads = self.base.net.roi_heads
        rois = torch.stack([view.to_view(boxes) for view in self.scales])  # [S, N, 4]
        chosen = suitable_scales(box_ops.area(rois), heads.config.canonical_size)
        merged = self.base.maps[0].new_full((len(boxes), cast(int, self.stage.head.width)), -torch.inf)
        for view, selected, view_rois in zip(self.scales, chosen, rois):
            rows = selected.nonzero()[:, 0]
            if len(rows):
                vectors = self.stage.head(heads.pooler(view.maps, view_rois[None, rows]))
                merged[rows] = torch.maximum(merged[rows], vectors)
        return merged

    def context(self, no_rois: Tensor) -> Tensor:
        """Returns the vector of the whole image [1, width]; `no_rois` is [1, 0, 4]."""
        pooled = self.base.net.roi_heads.pool(self.base.maps, no_rois, self.base.images.sizes)
        return self.stage.head(pooled)


def suitable_scales(areas: Tensor, canonical: float) -> Tensor:
    """Returns the two scales at which an RoI's area [S, N] is nearest to canonical² pixels: [S, N] bool.

    The two are adjacent, since areas grow with the scale.
    """
    nearest = (areas - canonical**2).abs().topk(min(2, len(areas)), 0, largest=False).indices
    return torch.zeros_like(areas, dtype=torch.bool).scatter_(0, nearest, True)


def views_of(
    net: Detector, resized: Resized, original: tuple[int, int], scales: Sequence[int], flip: bool
) -> list[View | MultiScale]:
    """Creates views of an image at these short sides (empty: model.input.min_size), with `flip` also mirrored.

    Detectors with one level and one stage (C4, DC5, VGG) merge the scales into one view by maxout; pyramids and
    cascades have one view per scale.
    """
    shorts = sorted({*scales}) or [net.input.min_size]
    merges = len(scales) > 0 and len(net.levels) == 1 and net.roi_heads.rounds == 1
    views: list[View | MultiScale] = []
    for mirrored in (False, True) if flip else (False,):
        sizes = {*shorts, net.input.min_size} if merges else {*shorts}
        by_size = {short: View(net, at_scale(net, resized, short), original, mirrored) for short in sizes}
        scaled = [by_size[short] for short in shorts]
        views += [MultiScale(by_size[net.input.min_size], scaled)] if merges else scaled
    return views


def at_scale(net: Detector, resized: Resized, short: int) -> np.ndarray:
    """Returns the pixels at a short side, with the limit of the long side scaled accordingly."""
    input = net.input
    return resized(short, round(input.max_size * short / input.min_size), input.resize)
