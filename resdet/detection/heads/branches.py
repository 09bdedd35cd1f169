"""Branches of the RoI heads besides classes and boxes: masks, keypoints, or registered ones.

A branch holds the modules that it computes with, and RoIHeads registers its head as `<name>_head`: state dicts contain
the head, copies and compilers reach it. Its config is the section of the model's config with its name.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from resdet.detection.heads.box_head import Conv5Head, RoIPooler
from resdet.structures import Targets, bucket


class SampledProposals(NamedTuple):
    """The R sampled proposals of each image, and the objects that they match."""

    boxes: Tensor  # [B, R, 4]
    objects: Tensor  # [B, R] int64: index of the matched object
    positive: Tensor  # [B, R] bool
    valid: Tensor  # [B, R] bool


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

    @property
    def targets(self) -> Callable[..., Any]:
        """Target tensors of the sampled RoIs; takes `rois`, `targets`, and what else `losses` passes."""
        ...


class RoIFeatures(Protocol):
    """The input of a branch's head."""

    @property
    def channels(self) -> int: ...

    def __call__(self, maps: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """Features [B·N, channels, s, s] of any boxes [B, N, 4]."""
        ...

    def of_sample(self, maps: Sequence[Tensor], boxes: Tensor, first_maps: Tensor) -> Tensor:
        """Features [B·P, channels, s, s] of the first P of the sampled RoIs, boxes [B, P, 4]."""
        ...


@dataclass
class PooledFeatures:
    """Features from the branch's own pooler."""

    pooler: RoIPooler
    channels: int

    def __call__(self, maps: Sequence[Tensor], boxes: Tensor) -> Tensor:
        return self.pooler(maps, boxes)

    def of_sample(self, maps: Sequence[Tensor], boxes: Tensor, first_maps: Tensor) -> Tensor:
        return self.pooler(maps, boxes)


@dataclass
class Conv5Features:
    """The conv5_x maps of the box head, computed once for a sample."""

    pooler: nn.Module
    head: Conv5Head

    @property
    def channels(self) -> int:
        return self.head.width

    def __call__(self, maps: Sequence[Tensor], boxes: Tensor) -> Tensor:
        return self.head.maps(self.pooler(maps, boxes))

    def of_sample(self, maps: Sequence[Tensor], boxes: Tensor, first_maps: Tensor) -> Tensor:
        return first_maps.unflatten(0, (len(boxes), -1))[:, : boxes.shape[1]].flatten(0, 1)


@dataclass
class BranchInput:
    """What a detector offers to the branches that are built for it."""

    channels: int  # of the feature maps
    strides: Sequence[int]
    canonical_size: float
    positives: int  # most positive RoIs in the sample of an image
    classes: int
    conv5: Conv5Features | None  # with features c4: what branches use instead of poolers

    def features(self, resolution: int, sampling: int, aligned: bool) -> PooledFeatures | Conv5Features:
        """`resolution`, `sampling` and `aligned` are those of the branch's own pooler."""
        if self.conv5 is not None:
            return self.conv5
        pooler = RoIPooler(self.strides, resolution, "align", sampling, aligned, self.canonical_size)
        return PooledFeatures(pooler, self.channels)


def positive_places(positive: Tensor, most: int) -> int:
    """Number of RoIs per image in a branch's loss, at most `most`, for `positive` [B, R] with positive ones first.

    The maximum, a static shape, when compiling and on a GPU. Eager mode on a CPU reads the count without a sync and
    skips slots that are empty in every image, to save time; the loss is equal, except with batch norm in the head,
    since its statistics include all slots.
    """
    if torch.compiler.is_compiling() or positive.device.type != "cpu":
        return most
    return bucket(int(positive.sum(1).max()), most)


def first(rois: SampledProposals, count: int) -> SampledProposals:
    """The first `count` RoIs of each image."""
    return SampledProposals(*(field[:, :count] for field in rois))
