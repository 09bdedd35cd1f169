"""Multi-task Network Cascades (1512.04412), which won COCO's segmentation for the paper: masks first, then classes.

Proposals are the first of five stages. The second draws a mask in each region, whatever its class; the third tells the
class of what the mask shows, and where the box should be. The fourth and fifth do so again, with the same weights, from
the boxes of the third. All is learned at once: gradients run back through the masks that classes are told from, and
through the boxes that the second round looks at.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resdet.detection.heads import losses
from resdet.detection.heads.box_head import Conv5Head, FastRCNNPredictor
from resdet.detection.heads.config import BoxConfig, MNCConfig
from resdet.detection.heads.matcher import take
from resdet.detection.heads.roi_heads import BOX_WEIGHTS, RoIHeads, SampledProposals
from resdet.ops import boxes as box_ops
from resdet.ops.masks import crop_masks
from resdet.ops.roi_warp import roi_warp
from resdet.structures import Detections, Proposals, Targets

ROUNDS = 2
# What the second round says of a regressed box may pull at each of its parameters as hard as an eighth of what the box
# loss may; the authors' code has 1/512 for 64 regions.
PULL = 1 / 8


class Warper(nn.Module):
    """Features of regions, from one level."""

    def __init__(self, stride: int, size: int):
        super().__init__()
        self.scale, self.size = 1 / stride, size

    def forward(self, maps: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """[B, C, h, w] and boxes [B, N, 4] -> [B·N, C, size, size]."""
        return roi_warp(maps[0], boxes, self.scale, self.size)

    def extra_repr(self) -> str:
        return f"{self.size}×{self.size}"


class RegionMasks(nn.Module):
    """Masks of regions from the maps [R, channels, side, side] that conv5_x makes of them, one for all classes."""

    def __init__(self, channels: int, side: int, width: int, resolution: int):
        super().__init__()
        self.reduce = nn.Conv2d(channels, width, 1)
        self.hidden = nn.Linear(width * side**2, width)
        self.pixels = nn.Linear(width, resolution**2)
        self.resolution = resolution
        for layer in (self.reduce, self.hidden):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.pixels.weight, std=0.001)  # a mask begins as a half everywhere
        nn.init.zeros_(self.pixels.bias)

    def forward(self, maps: Tensor) -> Tensor:
        """Logits [R, m, m]."""
        x = F.relu(self.hidden(F.relu(self.reduce(maps)).flatten(1)))
        return self.pixels(x).unflatten(1, (self.resolution, self.resolution))


class Categories(nn.Module):
    """Classes and boxes from two vectors of each region: of what its mask shows, and of all of it.

    There are two classifiers: for instances by their masks, whose scores count, and for boxes.
    """

    def __init__(self, head: Conv5Head, classes: int, class_agnostic: bool):
        super().__init__()
        self.head = head
        self.predictor = FastRCNNPredictor(2 * head.width, classes, class_agnostic)
        self.mask_scores = nn.Linear(2 * head.width, classes + 1)
        nn.init.normal_(self.mask_scores.weight, std=0.01)
        nn.init.zeros_(self.mask_scores.bias)


class Instances(NamedTuple):
    """What is said of N regions of each image."""

    masks: Tensor  # [B, N, m, m] logits
    scores: Tensor  # [B, N, C + 1] logits of the classes by masks, background last
    box_scores: Tensor  # [B, N, C + 1] and by boxes
    deltas: Tensor  # [B, N, C or 1, 4]


class MNC(RoIHeads):
    """Proposals in, losses or detections out."""

    def __init__(self, config: BoxConfig, mnc: MNCConfig, head: Conv5Head, pooler: Warper, classes: int):
        side = -(-pooler.size // 2)  # conv5_x has a stride of 2
        mask_head = RegionMasks(head.width, side, mnc.width, mnc.resolution)
        super().__init__(config, [], pooler, classes, mask_head=mask_head)
        self.mnc = mnc
        self.stages.append(Categories(head, classes, config.class_agnostic))
        self.weights = [BOX_WEIGHTS[0]] * ROUNDS

    @property
    def rounds(self) -> int:
        return ROUNDS

    def look(self, maps: Sequence[Tensor], boxes: Tensor) -> Instances:
        """One round on boxes [B, N, 4]: masks, and what they show."""
        (stage,) = self.stages
        pooled = self.pooler(maps, boxes)
        whole = stage.head.maps(pooled)
        masks = self.mask_head(whole)
        shown = pooled * F.adaptive_avg_pool2d(masks.sigmoid(), pooled.shape[-2:])[:, None]
        vectors = torch.cat([stage.head(shown), stage.head.vectors(whole)], 1)
        box_scores, deltas = stage.predictor(vectors, len(boxes))
        masks, scores = (x.unflatten(0, boxes.shape[:2]) for x in (masks, stage.mask_scores(vectors)))
        return Instances(masks, scores, box_scores, deltas)

    def regressed(self, boxes: Tensor, scores: Tensor, deltas: Tensor, sizes: Tensor) -> Tensor:
        """The boxes as objects of the class that each seems to be most."""
        own = self.own_deltas(deltas, scores[..., :-1].argmax(-1))
        return box_ops.clip(box_ops.decode(boxes, own, self.weights[0]), sizes)

    # Training

    def losses(
        self, maps: Sequence[Tensor], proposals: Proposals, targets: Targets, sizes: Tensor
    ) -> dict[str, Tensor]:
        """Of both rounds: class and box of all sampled regions; mask, and mask_class of what the masks show."""
        regions = self.sample(proposals, targets)
        boxes, seen, gauge, found = regions.boxes, None, 0.0, {}
        for number in range(ROUNDS):
            if number:
                deltas, gauge = limit_gradient(seen.deltas, PULL / regions.objects.numel())
                boxes = self.regressed(boxes, seen.scores, deltas, sizes)
                regions = self.matched(boxes.detach(), regions.valid, targets, self.config.ious[0])
            seen = self.look(maps, boxes)
            parts = self.stage_losses(number, regions, seen.box_scores, seen.deltas, targets)
            parts["class"] = parts["class"] + gauge
            if targets.masks is not None:
                parts |= self.mask_losses(regions, seen, targets)
            found |= {f"{name}{number + 1}": loss for name, loss in parts.items()}
        return found

    def mask_losses(self, regions: SampledProposals, seen: Instances, targets: Targets) -> dict[str, Tensor]:
        """The pixels of the masks of positive regions, and the classes of what the masks show.

        That is an object where box and mask both overlap it enough.
        """
        masks, objects = seen.masks.float(), regions.objects
        with torch.no_grad(), torch.autocast(masks.device.type, enabled=False):
            wanted = crop_masks(targets.masks, targets.boxes, objects, regions.boxes, masks.shape[-1])
            iou = mask_iou(masks > 0, wanted, regions.boxes, take(areas(targets), objects))
        positive = regions.positive & (iou >= self.mnc.positive_iou)
        labels = torch.where(positive, take(targets.labels, objects), self.classes)
        pixels = F.binary_cross_entropy_with_logits(masks, wanted, reduction="none").mean((2, 3))
        surprises = losses.cross_entropy(seen.scores, labels)
        return {
            "mask": losses.mean_over(pixels, regions.positive, regions.positive.sum()) * self.mnc.loss_weight,
            "mask_class": losses.mean_over(surprises, regions.valid, regions.valid.sum()),
        }

    # Inference

    def detect(self, maps: Sequence[Tensor], proposals: Proposals, sizes: Tensor, score: float) -> Detections:
        """The best instances of both rounds and all classes, without duplicates within a class."""
        scores, boxes, deltas = self.classify(maps, proposals.boxes, sizes)
        return self.best(scores, boxes, deltas, proposals.valid.repeat(1, ROUNDS), sizes, score)

    def classify(self, maps: Sequence[Tensor], boxes: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Probabilities [B, 2·N, C] and boxes [B, 2·N, 4] of the first round and, behind it, the second; deltas of 0.

        An instance is scored for the mask in its box, so this box is where it is.
        """
        first = self.look(maps, boxes)
        again = self.regressed(boxes, first.scores, first.deltas, sizes)
        second = self.look(maps, again)
        scores = torch.cat([first.scores, second.scores], 1).float().softmax(-1)[..., :-1]
        boxes = torch.cat([boxes, again], 1)
        return scores, boxes, torch.zeros_like(boxes)[:, :, None]

    def masks(self, maps: Sequence[Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
        """Probabilities [B, N, m, m], whatever the labels."""
        found = self.mask_head(self.stages[0].head.maps(self.pooler(maps, boxes)))
        return found.float().sigmoid().unflatten(0, labels.shape)


def areas(targets: Targets) -> Tensor:
    """[B, G]: how many pixels each object's mask has."""
    return targets.masks.float().mean((2, 3)) / 255 * box_ops.area(targets.boxes)


def mask_iou(drawn: Tensor, wanted: Tensor, boxes: Tensor, areas: Tensor) -> Tensor:
    """IoU [B, N] of masks [B, N, m, m] that are drawn in boxes [B, N, 4] with objects of so many pixels [B, N].

    `wanted` [B, N, m, m], 0 to 1, is what of the objects lies in the boxes; the rest of them counts as missed.
    """
    cell = box_ops.area(boxes) / drawn.shape[-1] ** 2
    shared = (drawn * wanted).sum((2, 3)) * cell
    union = drawn.sum((2, 3)) * cell + areas - shared
    return shared / union.clamp(min=torch.finfo(union.dtype).tiny)


class LimitGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, limit: float) -> tuple[Tensor, Tensor]:
        ctx.limit = limit
        return x.view_as(x), x.new_zeros((), dtype=torch.float32)

    @staticmethod
    def backward(ctx, gradient: Tensor, weight: Tensor) -> tuple[Tensor, None]:
        limit = ctx.limit * weight
        return gradient.clamp(-limit, limit), None


def limit_gradient(x: Tensor, limit: float) -> tuple[Tensor, Tensor]:
    """x, the elements of whose gradient are cut to a limit; and a zero, to be added to the loss.

    By its gradient it is known how the loss is weighted (scaled for float16, or divided among the parts of a batch),
    and the limit with it.
    """
    return LimitGradient.apply(x, limit)
