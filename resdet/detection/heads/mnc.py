"""Multi-task Network Cascades (1512.04412), the winning entry of the paper's authors in COCO segmentation 2015.

Five stages: (1) proposals, (2) class-agnostic masks of RoIs, (3) classes and box regression from the masked features.
Stages 4 and 5 repeat 2 and 3 with the same weights, on the boxes of stage 3. Training is joint: gradients flow through
the masks to the features they select, and through the regressed boxes of the second round.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resdet.detection.heads import losses
from resdet.detection.heads.box_head import Conv5Head, FastRCNNPredictor
from resdet.detection.heads.branches import Conv5Features, SampledProposals
from resdet.detection.heads.config import BoxConfig, MNCConfig
from resdet.detection.heads.mask_head import mask_targets
from resdet.detection.heads.matcher import take
from resdet.detection.heads.roi_heads import BOX_WEIGHTS, RoIHeads, RoIPredictions
from resdet.ops import boxes as box_ops
from resdet.ops.roi_warp import roi_warp
from resdet.structures import Detections, Proposals, Targets

ROUNDS = 2
# Limit of the second round's gradient with respect to each box delta, relative to the largest gradient of the box loss;
# the authors' code uses 1/512 for 64 RoIs.
GRADIENT_SHARE = 1 / 8


class RoIWarp(nn.Module):
    """RoI warping from one level."""

    def __init__(self, stride: int, size: int):
        super().__init__()
        self.scale, self.size = 1 / stride, size

    def forward(self, maps: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """Pools a map [B, C, h, w] over boxes [B, N, 4]: [B·N, C, size, size]."""
        return roi_warp(maps[0], boxes, self.scale, self.size)

    def extra_repr(self) -> str:
        return f"{self.size}×{self.size}"


class AgnosticMaskHead(nn.Module):
    """Class-agnostic masks of RoIs from their conv5_x maps [R, channels, side, side]."""

    def __init__(self, channels: int, side: int, width: int, resolution: int):
        super().__init__()
        self.reduce = nn.Conv2d(channels, width, 1)
        self.hidden = nn.Linear(width * side**2, width)
        self.pixels = nn.Linear(width, resolution**2)
        self.resolution = resolution
        for layer in (self.reduce, self.hidden):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(cast(nn.Parameter, layer.bias))
        nn.init.normal_(self.pixels.weight, std=0.001)  # initial masks are about 0.5 everywhere
        nn.init.zeros_(self.pixels.bias)

    def forward(self, maps: Tensor) -> Tensor:
        """Returns logits [R, m, m]."""
        x = F.relu(self.hidden(F.relu(self.reduce(maps)).flatten(1)))
        return self.pixels(x).unflatten(1, (self.resolution, self.resolution))


class MaskedStage(nn.Module):
    """Classes and boxes from two vectors per RoI: one of its masked features, one of all its features.

    There are two classifiers: one for boxes, and one for masked instances, which scores the detections.
    """

    def __init__(self, head: Conv5Head, classes: int, class_agnostic: bool):
        super().__init__()
        self.head = head
        self.predictor = FastRCNNPredictor(2 * head.width, classes, class_agnostic)
        self.mask_scores = nn.Linear(2 * head.width, classes + 1)
        nn.init.normal_(self.mask_scores.weight, std=0.01)
        nn.init.zeros_(self.mask_scores.bias)


class RoundOutput(NamedTuple):
    """Predictions of a round for N RoIs per image."""

    masks: Tensor  # [B, N, m, m] logits
    scores: Tensor  # [B, N, C + 1] logits of the instance classifier, background last
    box_scores: Tensor  # [B, N, C + 1] logits of the box classifier
    deltas: Tensor  # [B, N, C or 1, 4]


@dataclass
class MNCMaskBranch:
    """Predicts masks after detection; `MNC.losses` trains them, since classes depend on the masks of both rounds."""

    head: nn.Module
    features: Conv5Features

    def losses(
        self, maps: Sequence[Tensor], rois: SampledProposals, first_maps: Tensor, targets: Targets
    ) -> dict[str, Tensor]:
        return {}

    def predict(self, maps: Sequence[Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
        """Returns mask probabilities [B, N, m, m]; only the shape of the labels matters."""
        return self.head(self.features(maps, boxes)).float().sigmoid().unflatten(0, labels.shape)


class MNC(RoIHeads):
    """Losses and detections from feature maps and proposals."""

    mask_head: AgnosticMaskHead

    def __init__(self, config: BoxConfig, mnc: MNCConfig, head: Conv5Head, pooler: RoIWarp, classes: int):
        side = -(-pooler.size // 2)  # conv5_x has a stride of 2
        mask_head = AgnosticMaskHead(head.width, side, mnc.width, mnc.resolution)
        branch = MNCMaskBranch(mask_head, Conv5Features(pooler, head))
        super().__init__(config, [], pooler, classes, {"mask": branch})
        self.mnc = mnc
        self.stages.append(MaskedStage(head, classes, config.class_agnostic))
        self.weights = [BOX_WEIGHTS[0]] * ROUNDS

    @property
    def stage(self) -> MaskedStage:
        return cast(MaskedStage, self.stages[0])

    def predict(self, maps: Sequence[Tensor], boxes: Tensor) -> RoundOutput:
        """Runs a round on boxes [B, N, 4]."""
        stage = self.stage
        pooled = self.pooler(maps, boxes)
        whole = stage.head.maps(pooled)
        masks = self.mask_head(whole)
        masked = pooled * F.adaptive_avg_pool2d(masks.sigmoid(), pooled.shape[-2:])[:, None]
        vectors = torch.cat([stage.head(masked), stage.head.vectors(whole)], 1)
        box_scores, deltas = stage.predictor(vectors, len(boxes))
        masks, scores = (x.unflatten(0, boxes.shape[:2]) for x in (masks, stage.mask_scores(vectors)))
        return RoundOutput(masks, scores, box_scores, deltas)

    def regress(self, boxes: Tensor, scores: Tensor, deltas: Tensor, sizes: Tensor) -> Tensor:
        """Regresses the boxes with the deltas of the highest-scoring class."""
        selected = self.deltas_of_class(deltas, scores[..., :-1].argmax(-1))
        return box_ops.clip(box_ops.decode(boxes, selected, self.weights[0]), sizes)

    # Training

    def losses(
        self, maps: Sequence[Tensor], proposals: Proposals, targets: Targets, sizes: Tensor
    ) -> dict[str, Tensor]:
        """Returns `class`, `box`, `mask` and `mask_class` of both rounds; the mask losses only if the targets have
        masks."""
        rois = self.sample(proposals, targets)
        boxes = rois.boxes
        result: dict[str, Tensor] = {}
        output: RoundOutput | None = None
        for number in range(ROUNDS):
            probe: Tensor | float = 0.0
            if output is not None:
                deltas, probe = limit_gradient(output.deltas, GRADIENT_SHARE / rois.objects.numel())
                boxes = self.regress(boxes, output.scores, deltas, sizes)
                rois = self.match(boxes.detach(), rois.valid, targets, self.config.ious[0])
            output = self.predict(maps, boxes)
            parts = self.stage_losses(number, rois, output.box_scores, output.deltas, targets)
            parts["class"] = parts["class"] + probe
            if targets.masks is not None:
                parts.update(self.mask_losses(rois, output, targets, targets.masks))
            result.update({f"{name}{number + 1}": loss for name, loss in parts.items()})
        return result

    def mask_losses(
        self, rois: SampledProposals, output: RoundOutput, targets: Targets, target_masks: Tensor
    ) -> dict[str, Tensor]:
        """Returns the losses `mask`, over positive RoIs, and `mask_class`, over all; instances are positive if box and
        mask overlap."""
        masks, objects = output.masks.float(), rois.objects
        with torch.no_grad(), torch.autocast(masks.device.type, enabled=False):
            expected = mask_targets(rois, targets, masks.shape[-1])
            areas = take(mask_areas(target_masks, targets.boxes), objects)
            iou = mask_iou(masks > 0, expected, rois.boxes, areas)
        positive = rois.positive & (iou >= self.mnc.positive_iou)
        labels = torch.where(positive, take(targets.labels, objects), self.classes)
        mask_terms = F.binary_cross_entropy_with_logits(masks, expected, reduction="none").mean((2, 3))
        class_terms = losses.cross_entropy(output.scores, labels)
        return {
            "mask": losses.mean_over(mask_terms, rois.positive, rois.positive.sum()) * self.mnc.loss_weight,
            "mask_class": losses.mean_over(class_terms, rois.valid, rois.valid.sum()),
        }

    # Inference

    def detect(self, maps: Sequence[Tensor], proposals: Proposals, sizes: Tensor, score: Tensor | float) -> Detections:
        """Returns detections above `score` of both rounds, after NMS per class."""
        predictions = self.classify(maps, proposals.boxes, sizes)
        return self.postprocess_detections(predictions, proposals.valid.repeat(1, ROUNDS), sizes, score)

    def classify(self, maps: Sequence[Tensor], boxes: Tensor, sizes: Tensor) -> RoIPredictions:
        """Returns scores and boxes of the first, then the second round, 2·N in total, with zero deltas.

        Scores belong to the mask inside the input box of a round, so the detection is that box.
        """
        first = self.predict(maps, boxes)
        refined = self.regress(boxes, first.scores, first.deltas, sizes)
        second = self.predict(maps, refined)
        scores = torch.cat([first.scores, second.scores], 1).float().softmax(-1)[..., :-1]
        boxes = torch.cat([boxes, refined], 1)
        return RoIPredictions(scores, boxes, torch.zeros_like(boxes)[:, :, None])


def mask_areas(masks: Tensor, boxes: Tensor) -> Tensor:
    """Returns the areas [B, G] in pixels of masks [B, G, m, m] in boxes [B, G, 4]."""
    return masks.float().mean((2, 3)) / 255 * box_ops.area(boxes)


def mask_iou(masks: Tensor, expected: Tensor, boxes: Tensor, areas: Tensor) -> Tensor:
    """Returns the IoU [B, N] of bool masks [B, N, m, m] inside boxes [B, N, 4] with objects.

    `expected` [B, N, m, m], 0 to 1: the objects' masks, cropped to the boxes; `areas` [B, N]: the objects' areas,
    including the parts outside the boxes.
    """
    cell = box_ops.area(boxes) / masks.shape[-1] ** 2
    shared = (masks * expected).sum((2, 3)) * cell
    union = masks.sum((2, 3)) * cell + areas - shared
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
    """Returns x, with its gradient clamped to ±limit, and a zero to add to the loss.

    The gradient of this zero is the weight of the loss (float16 scaling, gradient accumulation), which scales the
    limit.
    """
    return LimitGradient.apply(x, limit)
