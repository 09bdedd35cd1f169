"""Branches of the RoI heads in addition to classes and boxes: masks, keypoints, or registered ones.

A branch owns its modules; RoIHeads registers its head as `<name>_head`, so that state dicts, copies and compilers
include it. The section of the model's config with the branch's name configures it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from resdet.detection.heads.box_head import Conv5Head, RoIPooler
from resdet.structures import Targets, each


class SampledProposals(NamedTuple):
    """R sampled proposals per image, and the objects that they match."""

    boxes: Tensor  # [B, R, 4]
    objects: Tensor  # [B, R] int64: index of the matched object
    positive: Tensor  # [B, R] bool
    valid: Tensor  # [B, R] bool


class PackedPositives(NamedTuple):
    """The positive RoIs of a batch in P places, the remaining places filled with others, and the objects of the batch.

    RoIs and objects have the shapes of a batch of one image, so functions on batches accept them.
    """

    rois: SampledProposals  # [1, P, …]; `objects` are indices into `targets`
    targets: Targets  # [1, B·G, …]
    images: Tensor  # [1, P] int64: the image of each RoI
    places: Tensor  # [1, P] int64: its index among the sampled RoIs of its image


class RoIBranch(Protocol):
    """Predicts per RoI, with static shapes."""

    head: nn.Module

    def losses(
        self, maps: Sequence[Tensor], rois: SampledProposals, first_maps: Tensor, targets: Targets
    ) -> dict[str, Tensor]:
        """Returns scalar losses over the sampled RoIs, positive ones first; {} if the targets lack the branch's labels.

        `first_maps` [B·R, …]: output of the first stage's box head on the pooled RoIs.
        """
        ...

    def predict(self, maps: Sequence[Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
        """Returns predictions [B, N, …] for boxes [B, N, 4] with labels [B, N]."""
        ...


@dataclass
class PooledFeatures:
    """Input of a branch's head, from a separate pooler."""

    pooler: RoIPooler
    channels: int

    def __call__(self, maps: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """Returns features [B·N, channels, s, s] of any boxes [B, N, 4]."""
        return self.pooler(maps, boxes)

    def of_sample(self, maps: Sequence[Tensor], boxes: Tensor, first_maps: Tensor) -> Tensor:
        """Returns features [B·R, channels, s, s] of the sampled RoIs, boxes [B, R, 4]."""
        return self.pooler(maps, boxes)

    def of_positives(self, maps: Sequence[Tensor], packed: PackedPositives, first_maps: Tensor) -> Tensor:
        """Returns features [P, channels, s, s] of the packed RoIs."""
        return self.pooler(maps, packed.rois.boxes, images=packed.images)


@dataclass
class Conv5Features:
    """As `PooledFeatures`, with the conv5_x maps of the box head, computed once per sample."""

    pooler: nn.Module
    head: Conv5Head

    @property
    def channels(self) -> int:
        return self.head.width

    def __call__(self, maps: Sequence[Tensor], boxes: Tensor) -> Tensor:
        return self.head.maps(self.pooler(maps, boxes))

    def of_sample(self, maps: Sequence[Tensor], boxes: Tensor, first_maps: Tensor) -> Tensor:
        return first_maps.unflatten(0, (len(boxes), -1))[:, : boxes.shape[1]].flatten(0, 1)

    def of_positives(self, maps: Sequence[Tensor], packed: PackedPositives, first_maps: Tensor) -> Tensor:
        per_image = first_maps.shape[0] // maps[0].shape[0]  # more than R with global context
        return first_maps.index_select(0, (packed.images * per_image + packed.places)[0])


RoIFeatures = PooledFeatures | Conv5Features


@dataclass
class BranchInput:
    """Arguments of a branch's builder that come from the detector."""

    channels: int  # of the feature maps
    strides: Sequence[int]
    canonical_size: float
    positives: int  # largest number of positive RoIs sampled per image
    classes: int
    conv5: Conv5Features | None  # replaces the poolers of branches, with features c4

    def features(self, resolution: int, sampling: int, aligned: bool) -> RoIFeatures:
        """Returns the branch's features; the arguments configure its pooler, if it has one."""
        if self.conv5 is not None:
            return self.conv5
        pooler = RoIPooler(self.strides, resolution, "align", sampling, aligned, self.canonical_size)
        return PooledFeatures(pooler, self.channels)


PLACES = 8  # on a CPU, the number of places is a multiple of this


def packed_places(positive: Tensor, regions: int) -> int:
    """Returns the number of places for RoIs in a branch's loss, `regions` per image, for `positive` [B, R].

    When compiling and on a GPU this is the maximum, a static shape. Eager mode on a CPU, where reading the count needs
    no sync, skips empty places to save time. The loss is the same, except with batch norm in the head, whose statistics
    include all places.
    """
    most = positive.shape[0] * regions
    if torch.compiler.is_compiling() or positive.device.type != "cpu":
        return most
    return min(most, max(1, -(-int(positive.sum()) // PLACES)) * PLACES)


def pack_positives(rois: SampledProposals, targets: Targets, regions: int) -> PackedPositives:
    """Packs the positive RoIs of all images into `regions` places per image, shared by all images.

    An image with fewer positives leaves places to the others. If there are too many in total, the images with the most
    positives lose their last ones; the order within an image is random.
    """
    images, objects = rois.positive.shape[0], targets.boxes.shape[1]
    # Interleaved: the first RoI of each image, then the second ones, and so on.
    order = rois.positive.mT.flatten().logical_not().byte().argsort(stable=True)
    order = order[: packed_places(rois.positive, regions)]
    image, place = order % images, order // images
    boxes, matched, positive, valid = (field[image, place][None] for field in rois)
    chosen = SampledProposals(boxes, matched + image * objects, positive, valid)
    return PackedPositives(chosen, each(targets, lambda field: field.flatten(0, 1)[None]), image[None], place[None])
