"""Custom losses: a box loss and a class loss without reduction; resdet computes the mean.

resdet train --config shapes_mask_r18_fpn.yaml --import losses model.box.loss=l2 model.box.class_loss=focal
"""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

import resdet
from resdet.ops import boxes as box_ops


@resdet.detection.register_box_loss("l2")
def l2(deltas: Tensor, boxes: Tensor, targets: Tensor, weights: Sequence[float], beta: float) -> Tensor:
    """Deltas and boxes [..., 4] -> losses [...]."""
    return (deltas.float() - box_ops.encode(boxes, targets, tuple(weights))).square().sum(-1)


@resdet.detection.register_class_loss("focal")
def focal(logits: Tensor, labels: Tensor, gamma: float = 2.0) -> Tensor:
    """Logits [B, N, C + 1], background last, and labels [B, N] -> losses [B, N] (1708.02002)."""
    terms = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)
    return (1 - (-terms).exp()) ** gamma * terms
