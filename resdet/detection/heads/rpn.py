"""The region proposal network (Faster R-CNN, section 3; on a pyramid: FPN, section 4.1)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from resdet.backbones.layers import conv_relu
from resdet.detection.heads import losses
from resdet.detection.heads.anchors import Anchors
from resdet.detection.heads.config import AnchorSampling, RPNConfig, positive_count
from resdet.detection.heads.matcher import match_anchors, take
from resdet.ops import boxes as box_ops
from resdet.ops.nms import nms_by_level
from resdet.ops.sampler import sample
from resdet.structures import Proposals, Targets


class RPNOutput(NamedTuple):
    """Predictions per anchor, by level, ordered by position."""

    anchors: list[Tensor]  # [A_l, 4]
    logits: list[Tensor]  # [B, A_l]
    deltas: list[Tensor]  # [B, A_l, 4]


class RPN(nn.Module):
    """Small convolutional network applied to each feature map."""

    def __init__(self, config: RPNConfig, channels: int, strides: Sequence[int], sizes: Sequence[Sequence[float]]):
        super().__init__()
        self.config, self.strides = config, list(strides)
        self.anchors = Anchors(sizes, config.anchors.ratios, config.anchors.style == "torchvision")
        width = config.channels or channels
        widths = [channels] + [width] * config.convs
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in zip(widths, widths[1:]))
        self.objectness = nn.Conv2d(width, self.anchors.per_position, 1)
        self.deltas = nn.Conv2d(width, self.anchors.per_position * 4, 1)
        for layer in (*self.convs, self.objectness, self.deltas):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, maps: Sequence[Tensor], image: Sequence[int]) -> RPNOutput:
        """Predicts for each anchor; `image`: padded height and width."""
        anchors = self.anchors(maps, self.strides, image)
        logits, deltas = zip(*(self.slide(x) for x in maps))
        return RPNOutput(anchors, list(logits), list(deltas))

    def slide(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for conv in self.convs:
            x = conv_relu(conv, x)
        logits, deltas = self.objectness(x), self.deltas(x)
        return logits.permute(0, 2, 3, 1).flatten(1), deltas.permute(0, 2, 3, 1).reshape(x.shape[0], -1, 4)

    def losses(self, output: RPNOutput, targets: Targets, sizes: Tensor) -> dict[str, Tensor]:
        """Returns the losses `rpn_objectness`, over sampled anchors, and `rpn_box`, over the positive ones; `sizes`
        [B, 2]: height and width of each image."""
        anchors, logits, deltas = torch.cat(output.anchors), torch.cat(output.logits, 1), torch.cat(output.deltas, 1)
        scores, boxes = sampled_losses(self.config, anchors, logits, deltas, targets, self.usable(anchors, sizes))
        return {"rpn_objectness": scores, "rpn_box": boxes}

    def usable(self, anchors: Tensor, sizes: Tensor) -> Tensor:
        """Returns a mask [B, A] of anchors with their center or, with `inside_only`, their whole area inside the
        image."""
        low, high = anchors[:, :2], anchors[:, 2:]
        if not self.config.inside_only:
            low = high = (low + high) / 2
        borders = sizes.flip(1)[:, None]
        return (low >= 0).all(1) & (high <= borders).all(2) & (borders > 0).all(2)

    @torch.no_grad()
    def propose(self, output: RPNOutput, sizes: Tensor, training: bool) -> Proposals:
        """Returns the highest-scoring boxes of each level, clipped to the image, after NMS."""
        config, mode = self.config, 0 if training else 1
        level_boxes, level_scores, usable = [], [], []
        for anchors, logits, deltas in zip(*output):
            scores, chosen = logits.float().topk(min(config.pre_nms[mode], logits.shape[1]), dim=1)
            boxes = box_ops.clip(box_ops.decode(anchors[chosen], take(deltas, chosen)), sizes)
            level_boxes.append(boxes)
            level_scores.append(scores)
            usable.append((boxes[..., 2:] - boxes[..., :2] >= config.min_size).all(2) & torch.isfinite(scores))
        kept = config.post_nms[mode]
        return Proposals(*nms_by_level(level_boxes, level_scores, usable, config.nms, kept))


def sampled_losses(
    config: AnchorSampling,
    anchors: Tensor,
    logits: Tensor,
    deltas: Tensor,
    targets: Targets,
    usable: Tensor,
) -> tuple[Tensor, Tensor]:
    """Returns the objectness loss over sampled anchors [A, 4], `usable` [B, A], and the box loss over positive ones."""
    with torch.no_grad():
        matches = match_anchors(anchors, targets, usable, config.positive_iou, config.negative_iou)
        chosen, positive, valid = sample(
            matches.positive, matches.negative, config.batch_per_image, positive_count(config)
        )
        expected = box_ops.encode(anchors[chosen], take(targets.boxes, take(matches.objects, chosen)))
    count = valid.sum()
    scores = losses.objectness(take(logits, chosen), positive)
    shifts = losses.smooth_l1(take(deltas, chosen), expected, config.beta)
    return losses.mean_over(scores, valid, count), losses.mean_over(shifts, positive, count)
