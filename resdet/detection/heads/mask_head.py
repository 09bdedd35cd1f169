"""The mask branch of Mask R-CNN (1703.06870, Figure 4)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resdet.backbones.layers import conv_stack, init_convs
from resdet.detection.heads import losses
from resdet.detection.heads.branches import BranchInput, RoIFeatures, SampledProposals, pack_positives
from resdet.detection.heads.config import MaskConfig
from resdet.detection.heads.matcher import take
from resdet.detection.heads.registry import mask_heads
from resdet.ops.masks import crop_masks
from resdet.structures import Targets


class MaskHead(nn.Module):
    """3×3 convolutions (none after conv5_x), upsampling, and one mask per class (Figure 4, right)."""

    def __init__(self, channels: int, convs: int, width: int, norm: str | None, classes: int):
        super().__init__()
        self.convs = conv_stack(channels, width, convs, norm)
        self.upsample = nn.ConvTranspose2d(width if convs else channels, width, 2, stride=2)
        self.masks = nn.Conv2d(width, classes, 1)
        init_convs(self.convs, self.upsample)
        # Small, so that initial masks are about 0.5 everywhere, for features of any scale.
        nn.init.normal_(self.masks.weight, std=0.001)
        nn.init.zeros_(cast(nn.Parameter, self.masks.bias))

    def forward(self, x: Tensor) -> Tensor:
        """Maps RoI features [R, C, s, s] to logits [R, classes, 2s, 2s]."""
        return self.masks(F.relu(self.upsample(self.convs(x)), inplace=True))


def conv_mask_head(config: MaskConfig, channels: int, classes: int) -> MaskHead:
    """Builds the head from the config."""
    return MaskHead(channels, config.convs, config.width, config.norm, classes)


def mask_of_class(logits: Tensor, labels: Tensor) -> Tensor:
    """Selects from masks [R, C, m, m] those of the labels [R]: [R, m, m]."""
    return logits.gather(1, labels[:, None, None, None].expand(-1, 1, *logits.shape[2:]))[:, 0]


@torch.no_grad()
def mask_targets(rois: SampledProposals, targets: Targets, size: int) -> Tensor:
    """Crops the matched objects' masks to the RoIs: [B, R, size, size], 0 to 1."""
    assert targets.masks is not None
    with torch.autocast(rois.boxes.device.type, enabled=False):
        return crop_masks(targets.masks, targets.boxes, rois.objects, rois.boxes, size)


@dataclass
class MaskBranch:
    """One mask per class; the RoI's class selects one."""

    config: MaskConfig
    head: nn.Module
    features: RoIFeatures
    positives: int  # largest number of positive RoIs sampled per image

    def losses(
        self, maps: Sequence[Tensor], rois: SampledProposals, first_maps: Tensor, targets: Targets
    ) -> dict[str, Tensor]:
        """Returns the loss `mask`: mean binary cross entropy over positive RoIs, for the matched class only."""
        if targets.masks is None:
            return {}
        packed = pack_positives(rois, targets, min(self.config.regions, self.positives))
        rois, targets = packed.rois, packed.targets
        pooled = self.features.of_positives(maps, packed, first_maps)
        logits = mask_of_class(self.head(pooled), take(targets.labels, rois.objects).flatten()).float()
        expected = mask_targets(rois, targets, logits.shape[-1]).flatten(0, 1)
        terms = F.binary_cross_entropy_with_logits(logits, expected, reduction="none").mean((1, 2))
        loss = losses.mean_over(terms, rois.positive.flatten(), rois.positive.sum())
        return {"mask": loss * self.config.loss_weight}

    def predict(self, maps: Sequence[Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
        """Returns mask probabilities [B, N, m, m]."""
        logits = mask_of_class(self.head(self.features(maps, boxes)), labels.flatten())
        return logits.float().sigmoid().unflatten(0, labels.shape)


def mask_branch(config: MaskConfig, given: BranchInput) -> MaskBranch:
    """Builds the branch of `model.mask`."""
    features = given.features(config.resolution, config.sampling, config.aligned)
    convs = config.convs if given.conv5 is None else 0
    head = mask_heads[config.head](replace(config, convs=convs), features.channels, given.classes)
    return MaskBranch(config, head, features, given.positives)
