"""The keypoint branch of Mask R-CNN (1703.06870, section 5, "Mask R-CNN for Human Pose Estimation").

Each keypoint is a mask with a single pixel: a heatmap of logits with a softmax over its positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from resdet.backbones.layers import conv_stack, init_convs
from resdet.detection.heads import losses
from resdet.detection.heads.branches import BranchInput, RoIFeatures, SampledProposals, pack_positives
from resdet.detection.heads.config import KeypointConfig
from resdet.detection.heads.matcher import take
from resdet.errors import ConfigError
from resdet.ops.keypoints import heatmap_cells
from resdet.structures import Targets


class KeypointHead(nn.Module):
    """3×3 convolutions, a deconvolution to twice the side, and bilinear upsampling to four times the side."""

    def __init__(self, channels: int, convs: int, width: int, norm: str | None, keypoints: int):
        super().__init__()
        self.convs = conv_stack(channels, width, convs, norm)
        self.heatmaps = nn.ConvTranspose2d(width if convs else channels, keypoints, 4, stride=2, padding=1)
        init_convs(self.convs, self.heatmaps)

    def forward(self, x: Tensor) -> Tensor:
        """Maps RoI features [R, C, s, s] to logits [R, K, 4s, 4s]."""
        return F.interpolate(self.heatmaps(self.convs(x)), scale_factor=2.0, mode="bilinear", align_corners=False)


@dataclass
class KeypointBranch:
    """Heatmaps of K keypoints, shared by all classes."""

    config: KeypointConfig
    head: KeypointHead
    features: RoIFeatures
    positives: int  # largest number of positive RoIs sampled per image

    def losses(
        self, maps: Sequence[Tensor], rois: SampledProposals, first_maps: Tensor, targets: Targets
    ) -> dict[str, Tensor]:
        """Returns the loss `keypoint`: cross entropy over positions, averaged over visible keypoints in positive
        RoIs."""
        if targets.keypoints is None:
            return {}
        packed = pack_positives(rois, targets, min(self.config.regions, self.positives))
        rois, targets = packed.rois, packed.targets
        logits = self.head(self.features.of_positives(maps, packed, first_maps)).float()
        assert targets.keypoints is not None
        cells, inside = heatmap_cells(take(targets.keypoints, rois.objects), rois.boxes, logits.shape[-1])
        counted = inside & rois.positive[..., None]
        terms = F.cross_entropy(logits.flatten(2).flatten(0, 1), cells.flatten(), reduction="none")
        loss = losses.mean_over(terms, counted.flatten(), counted.sum())
        return {"keypoint": loss * self.config.loss_weight}

    def predict(self, maps: Sequence[Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
        """Returns heatmap logits [B, N, K, m, m]; only the shape of the labels matters."""
        return self.head(self.features(maps, boxes)).float().unflatten(0, labels.shape)


def keypoint_branch(config: KeypointConfig, given: BranchInput) -> KeypointBranch:
    """Builds the branch of `model.keypoint`."""
    if given.conv5 is not None:
        raise ConfigError(
            "model.keypoint is set and model.features is c4: the keypoint branch needs feature maps of its own; use "
            "fpn or dc5.",
            "model.keypoint",
        )
    features = given.features(config.resolution, config.sampling, config.aligned)
    head = KeypointHead(features.channels, config.convs, config.width, config.norm, len(config.keypoint_names))
    return KeypointBranch(config, head, features, given.positives)
