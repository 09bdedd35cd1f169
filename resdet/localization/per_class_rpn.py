"""The per-class region proposal network (appendix C), with separate scores and boxes for each class at every anchor.

With a thousand classes, nine anchors and five numbers, there are 45,000 outputs at each position, but a loss uses those
of one class only. So the last layers select the weights of the requested classes and compute nothing else: memory and
time are those of a network for the requested classes only.
"""

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resdet.detection.heads.anchors import Anchors
from resdet.detection.heads.rpn import sampled_losses
from resdet.localization.config import PerClassRPNConfig
from resdet.structures import Targets


class PerClass(nn.Module):
    """A linear layer with `outputs` outputs per class, computed for the requested classes."""

    def __init__(self, width: int, classes: int, outputs: int, std: float):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, outputs, width))
        self.bias = nn.Parameter(torch.zeros(classes, outputs))
        nn.init.normal_(self.weight, std=std)

    def forward(self, x: Tensor, classes: Tensor) -> Tensor:
        """Maps vectors [B, width, P] at P positions and class numbers [B, K] to [B, K, outputs, P]."""
        outputs, width = self.weight.shape[1:]
        # The gradient of an embedding needs no sorting, unlike that of indexing.
        rows = F.embedding(classes, self.weight.flatten(1)).reshape(len(x), -1, width)
        bias = F.embedding(classes, self.bias).reshape(len(x), -1, 1)
        return (rows @ x + bias).unflatten(1, (-1, outputs))

    def extra_repr(self) -> str:
        classes, outputs, width = self.weight.shape
        return f"{width} -> {classes} × {outputs}"


class PerClassOutput(NamedTuple):
    """Outputs for K classes at N anchors, position by position."""

    anchors: Tensor  # [N, 4]
    logits: Tensor  # [B, K, N]
    deltas: Tensor  # [B, K, N, 4]


class PerClassRPN(nn.Module):
    """A 3×3 layer and two sibling layers per class: binary logistic scores, and boxes."""

    def __init__(self, config: PerClassRPNConfig, channels: int, stride: int, classes: int):
        super().__init__()
        self.config, self.stride = config, stride
        self.anchors = Anchors([config.sizes], config.ratios, rounded=False)
        width, anchors = config.channels or channels, self.anchors.per_position
        self.conv = nn.Conv2d(channels, width, 3, padding=1)
        nn.init.normal_(self.conv.weight, std=0.01)
        nn.init.zeros_(cast(Tensor, self.conv.bias))
        self.scores = PerClass(width, classes, anchors, std=0.01)
        self.boxes = PerClass(width, classes, anchors * 4, std=0.01)

    def forward(self, features: Tensor, classes: Tensor, image: Sequence[int]) -> PerClassOutput:
        """Returns the outputs for features [B, C, h, w] and classes [B, K]; `image`: height and width of the images."""
        x = F.relu(self.conv(features))
        (anchors,) = self.anchors([x], [self.stride], image)
        x = x.flatten(2)
        logits, deltas = self.scores(x, classes), self.boxes(x, classes).unflatten(2, (-1, 4))
        return PerClassOutput(anchors, logits.transpose(2, 3).flatten(2), deltas.permute(0, 1, 4, 2, 3).flatten(2, 3))

    def losses(self, output: PerClassOutput, targets: Targets, sizes: Tensor) -> dict[str, Tensor]:
        """Computes rpn_class and rpn_box of the first class, over sampled anchors; boxes of positive anchors only.

        "8 anchors are randomly sampled for each image, where the sampled positive and negative anchors have a ratio of
        1:1"; negatives replace missing positives, as in Faster R-CNN.
        """
        anchors, logits, deltas = output.anchors, output.logits[:, 0], output.deltas[:, 0]
        # Crops are as large as the largest anchors, so that nearly all anchors cross the border: use them too.
        usable = (sizes > 0).all(1, keepdim=True).expand(-1, len(anchors))
        scores, boxes = sampled_losses(self.config, anchors, logits, deltas, targets, usable)
        return {"rpn_class": scores, "rpn_box": boxes}
