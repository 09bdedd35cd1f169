"""The region-centric R-CNN of appendix C: warps, scores and refines each proposal of the per-class RPN.

An image of ImageNet "usually contains a single dominate object, and the proposal regions highly overlap with each
other", so each region of a batch comes from a different image, instead of a few images as in Fast R-CNN.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from resdet.backbones.layers import Backbone
from resdet.detection.heads import losses
from resdet.images.normalize import Normalize
from resdet.localization.config import LocalizerRCNNConfig, LocateConfig
from resdet.localization.per_class_rpn import PerClass
from resdet.localization.rpn_model import Localizer
from resdet.model import Model
from resdet.ops import boxes as box_ops
from resdet.structures import RegionTargets

BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # scale R-CNN's small deltas to about unit variance


class LocalizerRCNN(Model):
    """A classification net with two sibling layers per class in place of its classifier."""

    task = "localization_rcnn"
    kind = "localizer"

    def __init__(
        self,
        config: LocalizerRCNNConfig,
        backbone: Backbone,
        proposer: Localizer,
        normalize: Normalize,
        classes: Sequence[str],
        size: int,
        locating: LocateConfig,
    ):
        """`proposer` is trained and stays frozen; `size` is the side of a warped region."""
        super().__init__()
        self.config = config
        self.backbone = backbone.to(memory_format=torch.channels_last)
        self.proposer = proposer.requires_grad_(False)
        self.normalize = normalize
        self.classes = list(classes)
        self.size, self.locating = size, locating
        width = [*backbone.channels.values()][-1]
        self.scores = PerClass(width, len(self.classes), 1, std=0.01)
        self.boxes = PerClass(width, len(self.classes), 4, std=0.001)
        self.experiment = {}

    def forward(self, regions: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Returns logits [R] and deltas [R, 4] of warped regions [R, 3, S, S] for the classes `labels` [R]."""
        x = self.backbone.last(self.normalize(regions)).mean((2, 3))[..., None]
        return self.scores(x, labels[:, None]).flatten(), self.boxes(x, labels[:, None]).flatten(1)

    def losses(self, regions: Tensor, targets: RegionTargets) -> dict[str, Tensor]:
        """Computes class and box, the latter over the positive regions; ignores regions with label -1."""
        valid = targets.labels >= 0
        logits, deltas = self(regions, targets.labels.clamp(min=0))
        expected = box_ops.encode(targets.boxes, targets.objects, BOX_WEIGHTS)
        scores = losses.objectness(logits, targets.positive)
        shifts = losses.smooth_l1(deltas, expected, self.config.beta)
        count = valid.sum()
        return {
            "class": losses.mean_over(scores, valid, count),
            "box": losses.mean_over(shifts, targets.positive & valid, count),
        }

    def rescore(self, regions: Tensor, boxes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Returns probabilities [R] and refined boxes [R, 4] of `boxes` [R, 4], warped to `regions` [R, 3, S, S]."""
        logits, deltas = self(regions, labels)
        return logits.float().sigmoid(), box_ops.decode(boxes, deltas, BOX_WEIGHTS)

    def compile_inference(self, compile: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """Compiles `forward` for each number of regions, and the proposer."""
        self.forward = compile(self.forward)  # type: ignore[method-assign]
        self.proposer.compile_inference(compile)

    def predict(
        self,
        images: Any,
        classes: Sequence[int | Sequence[int]],
        device: str | torch.device | None = None,
    ) -> list[Any]:
        """See `Localizer.predict`."""
        from resdet.localization.locate import predict

        return predict(self, images, classes, device)

    def backbone_tensors(self) -> dict[str, Tensor]:
        """Returns the classifier's tensors under its own names."""
        return dict(self.backbone.state_dict())

    def class_layers(self) -> list[str]:
        """Returns the layers whose size depends on the number of classes."""
        return ["scores", "boxes"]
