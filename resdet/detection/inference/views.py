"""One picture as a detector sees it when it is tested with more care: at several scales, and mirrored (appendix B).

Views take and give boxes in the picture's own pixels, whatever they make of it themselves: so what several views, or
several detectors, say of the same box can be averaged.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from resdet.detection.inference.predictor import pad
from resdet.detection.model import Detector
from resdet.ops import boxes as box_ops
from resdet.structures import Images

Resized = Callable[[int, int, str], np.ndarray]  # short side, limit of the long one, style -> pixels [h, w, 3]


class Scored(NamedTuple):
    """What is said of N boxes."""

    scores: Tensor  # [N, C] probabilities
    boxes: Tensor  # [N, C, 4] what each becomes as an object of each class


class View:
    """A picture at one size, mirrored or not."""

    def __init__(self, net: Detector, pixels: np.ndarray, original: tuple[int, int], mirrored: bool):
        """`pixels` are the resized picture's, `original` its own height and width."""
        self.net, self.mirrored = net, mirrored
        pixels = np.ascontiguousarray(pixels[:, ::-1]) if mirrored else pixels
        device = net.normalize.std.device
        self.images = Images(*(field.to(device) for field in pad([torch.from_numpy(pixels)], net.input.divisor)))
        self.maps = net.maps(self.images)
        original = torch.tensor(original, dtype=torch.float32, device=device)
        self.scale = (self.images.sizes[0] / original).flip(0).repeat(2)

    def propose(self) -> Tensor:
        """Where objects may be, [N, 4]."""
        found = self.net.propose(self.maps, self.images)
        return self.outwards(found.boxes[0, found.valid[0]])

    def score(self, boxes: Tensor) -> Scored:
        inside = self.inwards(boxes)[None]
        return self.scored(*self.net.roi_heads.classify(self.maps, inside, self.images.sizes))

    def scored(self, scores: Tensor, boxes: Tensor, deltas: Tensor) -> Scored:
        """Of probabilities [1, N, C], regions [1, N, 4] and their deltas [1, N, C or 1, 4] in the view's pixels."""
        found = box_ops.decode(boxes[:, :, None], deltas, self.net.roi_heads.weights[-1])
        found = box_ops.clip(found, self.images.sizes).expand(-1, -1, scores.shape[2], -1)
        return Scored(scores[0].nan_to_num(0), self.outwards(found[0]))

    def masks(self, boxes: Tensor, labels: Tensor) -> Tensor:
        """Probabilities [N, m, m] in boxes [N, 4]."""
        masks = self.net.masks(self.maps, self.inwards(boxes)[None], labels[None])[0]
        return masks.flip(-1) if self.mirrored else masks

    def inwards(self, boxes: Tensor) -> Tensor:
        """Boxes [..., 4] of the picture, as they lie in the view."""
        boxes = boxes * self.scale
        return self.mirror(boxes) if self.mirrored else boxes

    def outwards(self, boxes: Tensor) -> Tensor:
        return (self.mirror(boxes) if self.mirrored else boxes) / self.scale

    def mirror(self, boxes: Tensor) -> Tensor:
        left, top, right, bottom = boxes.unbind(-1)
        width = self.images.sizes[0, 1]
        return torch.stack([width - right, top, width - left, bottom], -1)


class MultiScale:
    """Regions are seen at the two scales that suit their size best; what conv5_x, or fc7, makes of them is merged by
    maxout before classes and boxes are told (appendix B).

    Proposals, masks and global context are those of the detector's own size, on which they were learned.
    """

    def __init__(self, own: View, scales: Sequence[View]):
        """`scales` by growing size."""
        self.own, self.scales = own, scales
        self.propose, self.masks = own.propose, own.masks

    def score(self, boxes: Tensor) -> Scored:
        regions, inside = self.own.net.roi_heads, self.own.inwards(boxes)[None]
        vectors = self.vectors(boxes)
        if regions.config.context:
            vectors = torch.cat([vectors, self.context(inside[:, :0])])
        logits, deltas = regions.stages[0].predict(vectors, 1)
        return self.own.scored(logits.float().softmax(-1)[..., :-1], inside, deltas.float())

    def vectors(self, boxes: Tensor) -> Tensor:
        """[N, width], of each region the elementwise maximum over its two scales."""
        regions = self.own.net.roi_heads
        head = regions.stages[0].head
        inside = torch.stack([view.inwards(boxes) for view in self.scales])  # [S, N, 4]
        chosen = suitable_scales(box_ops.area(inside), regions.config.canonical_size)
        merged = self.own.maps[0].new_full((len(boxes), head.width), -torch.inf)
        for view, rows, seen in zip(self.scales, chosen, inside):
            rows = rows.nonzero()[:, 0]
            if len(rows):
                vectors = head(regions.pooler(view.maps, seen[None, rows]))
                merged[rows] = torch.maximum(merged[rows], vectors)
        return merged

    def context(self, no_regions: Tensor) -> Tensor:
        """The whole image's vector [1, width]; `no_regions` is [1, 0, 4]."""
        regions = self.own.net.roi_heads
        return regions.stages[0].head(regions.pool(self.own.maps, no_regions, self.own.images.sizes))


def suitable_scales(areas: Tensor, canonical: float) -> Tensor:
    """[S, N] bool, True for the two scales at which a region's area [S, N] is nearest to canonical² pixels.

    They are adjacent, as areas grow with the scale.
    """
    nearest = (areas - canonical**2).abs().topk(min(2, len(areas)), 0, largest=False).indices
    return torch.zeros_like(areas, dtype=torch.bool).scatter_(0, nearest, True)


def views_of(
    net: Detector, resized: Resized, original: tuple[int, int], scales: Sequence[int], flip: bool
) -> list[View | MultiScale]:
    """The views of a picture at these short sides (none: the detector's own), with `flip` the mirrored ones as well.

    Where regions come from one level and are told in one stage (C4, DC5, VGG), the scales make one view by maxout; a
    pyramid, or a cascade, has a view for each.
    """
    shorts = sorted({*scales}) or [net.input.min_size]
    merges = len(scales) > 0 and len(net.levels) == 1 and net.roi_heads.rounds == 1
    views = []
    for mirrored in (False, True) if flip else (False,):
        wanted = {*shorts, net.input.min_size} if merges else shorts
        seen = {short: View(net, at_scale(net, resized, short), original, mirrored) for short in wanted}
        scaled = [seen[short] for short in shorts]
        views += [MultiScale(seen[net.input.min_size], scaled)] if merges else scaled
    return views


def at_scale(net: Detector, resized: Resized, short: int) -> np.ndarray:
    """The picture at a short side; the limit of the long one is as many times the detector's own as the side is."""
    own = net.input
    return resized(short, round(own.max_size * short / own.min_size), own.resize)
