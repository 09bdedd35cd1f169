"""Branches of the RoI heads besides classes and boxes: masks, keypoints, or registered ones.

A branch holds the modules that it computes with, and RoIHeads registers its head as `<name>_head`: state dicts contain
the head, copies and compilers reach it. Its config is the section of the model's config with its name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from resdet.detection.heads.box_head import Conv5Head, RoIPooler
from resdet.structures import Targets, each


class SampledProposals(NamedTuple):
    """The R sampled proposals of each image, and the objects that they match."""

    boxes: Tensor  # [B, R, 4]
    objects: Tensor  # [B, R] int64: index of the matched object
    positive: Tensor  # [B, R] bool
    valid: Tensor  # [B, R] bool


class PackedPositives(NamedTuple):
    """The positive RoIs of a batch in P places, then others until all places are taken, and the objects of the batch.

    RoIs and objects have the form of a single image, so that what takes B images takes them.
    """

    rois: SampledProposals  # [1, P, …]; `objects` are indices into `targets`
    targets: Targets  # [1, B·G, …]
    images: Tensor  # [1, P] int64: the image of each RoI
    places: Tensor  # [1, P] int64: its place among the sampled RoIs of its image


class RoIBranch(Protocol):
    """Predicts something of each RoI, with static shapes."""

    head: nn.Module

    def losses(
        self, maps: Sequence[Tensor], rois: SampledProposals, first_maps: Tensor, targets: Targets
    ) -> dict[str, Tensor]:
        """Scalar losses over the sampled RoIs, positive ones first; {} if the targets lack what the branch learns.

        `first_maps`: what the box head of the first stage computes from the pooled RoIs [B·R, …].
        """
        ...

    def predict(self, maps: Sequence[Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
        """Predictions [B, N, …] for boxes [B, N, 4] of labels [B, N]."""
        ...


@dataclass
class PooledFeatures:
    """The input of a branch's head, from its own pooler."""

    pooler: RoIPooler
    channels: int

    def __call__(self, maps: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """Features [B·N, channels, s, s] of any boxes [B, N, 4]."""
        return self.pooler(maps, boxes)

    def of_sample(self, maps: Sequence[Tensor], boxes: Tensor, first_maps: Tensor) -> Tensor:
        """Features [B·R, channels, s, s] of the sampled RoIs, boxes [B, R, 4]."""
        return self.pooler(maps, boxes)

    def of_positives(self, maps: Sequence[Tensor], packed: PackedPositives, first_maps: Tensor) -> Tensor:
        """Features [P, channels, s, s] of the packed RoIs."""
        return self.pooler(maps, packed.rois.boxes, images=packed.images)


@dataclass
class Conv5Features:
    """As `PooledFeatures`: the conv5_x maps of the box head, computed once for a sample."""

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
    """The arguments of a branch's builder that come from the detector."""

    channels: int  # of the feature maps
    strides: Sequence[int]
    canonical_size: float
    positives: int  # most positive RoIs in the sample of an image
    classes: int
    conv5: Conv5Features | None  # with features c4: what branches use instead of poolers

    def features(self, resolution: int, sampling: int, aligned: bool) -> RoIFeatures:
        """`resolution`, `sampling` and `aligned` are those of the branch's own pooler."""
        if self.conv5 is not None:
            return self.conv5
        pooler = RoIPooler(self.strides, resolution, "align", sampling, aligned, self.canonical_size)
        return PooledFeatures(pooler, self.channels)


PLACES = 8  # the number of places is a multiple of this on a CPU


def packed_places(positive: Tensor, regions: int) -> int:
    """Number of places for the RoIs in a branch's loss, `regions` an image, for `positive` [B, R].

    The maximum, a static shape, when compiling and on a GPU. Eager mode on a CPU reads the count without a sync and
    leaves out empty places, to save time; the loss is equal, except with batch norm in the head, since its statistics
    include all places.
    """
    most = positive.shape[0] * regions
    if torch.compiler.is_compiling() or positive.device.type != "cpu":
        return most
    return min(most, max(1, -(-int(positive.sum()) // PLACES)) * PLACES)


def pack_positives(rois: SampledProposals, targets: Targets, regions: int) -> PackedPositives:
    """Packs the positive RoIs of all images into `regions` places an image, shared by the images.

    Where an image has fewer, others have more. If all together have too many, those with the highest numbers in the
    sample of their image are left out, so that the images with the most positives lose them; the sample is random.
    """
    images, objects = rois.positive.shape[0], targets.boxes.shape[1]
    # Place by place: the first RoI of each image, then the second ones.
    order = rois.positive.mT.flatten().logical_not().byte().argsort(stable=True)
    order = order[: packed_places(rois.positive, regions)]
    image, place = order % images, order // images
    boxes, matched, positive, valid = (field[image, place][None] for field in rois)
    chosen = SampledProposals(boxes, matched + image * objects, positive, valid)
    return PackedPositives(chosen, each(targets, lambda field: field.flatten(0, 1)[None]), image[None], place[None])
