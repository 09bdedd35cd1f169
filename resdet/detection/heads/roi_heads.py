"""RoI heads: classification and box regression in one or more stages, and branches such as masks.

One stage is Fast R-CNN (1504.08083), three with rising IoU are Cascade R-CNN (1712.00726), and a mask branch makes it
Mask R-CNN (1703.06870). The config determines all shapes: `box.batch_per_image` proposals are sampled per image,
positive ones first, so that box and branch losses use a prefix of fixed length.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from resdet.detection.heads import losses
from resdet.detection.heads.box_head import Conv5Head, FastRCNNPredictor
from resdet.detection.heads.branches import RoIBranch, SampledProposals
from resdet.detection.heads.config import BoxConfig, positive_count
from resdet.detection.heads.matcher import match_proposals, take
from resdet.detection.heads.registry import BoxHead, box_losses, class_losses
from resdet.errors import require
from resdet.ops import boxes as box_ops
from resdet.ops.nms import nms
from resdet.ops.sampler import sample
from resdet.structures import Detections, Proposals, Targets

BOX_WEIGHTS = (
    (10.0, 10.0, 5.0, 5.0),
    (20.0, 20.0, 10.0, 10.0),
    (30.0, 30.0, 15.0, 15.0),
)  # of the deltas, per stage
MIN_SIZE = 1e-2  # of detections, in pixels of the resized image


class RoIPredictions(NamedTuple):
    """Predictions for N RoIs per image."""

    scores: Tensor  # [B, N, C] probabilities
    boxes: Tensor  # [B, N, 4], to be transformed by the deltas
    deltas: Tensor  # [B, N, C or 1, 4]


class Stage(nn.Module):
    """A box head and its predictor, which with `context` also receives the vector of the whole image."""

    head: BoxHead

    def __init__(self, head: BoxHead, classes: int, class_agnostic: bool, context: bool):
        super().__init__()
        self.head, self.context = head, context
        self.predictor = FastRCNNPredictor(head.width * (2 if context else 1), classes, class_agnostic)

    def predict(self, vectors: Tensor, images: int) -> tuple[Tensor, Tensor]:
        """Returns logits [B, N, C + 1] and deltas [B, N, C or 1, 4] of the head's vectors [B·N, width].

        With global context (appendix B), vectors are [B·(N + 1), width]: the last one of each image belongs to the
        whole image and is concatenated to each of the others.
        """
        if self.context:
            vectors = vectors.unflatten(0, (images, -1))
            rois, whole = vectors[:, :-1], vectors[:, -1:]
            vectors = torch.cat([rois, whole.expand_as(rois)], 2).flatten(0, 1)
        return self.predictor(vectors, images)


class RoIHeads(nn.Module):
    """Losses and detections from feature maps and proposals."""

    pooler: nn.Module
    stages: nn.ModuleList

    def __init__(
        self,
        config: BoxConfig,
        heads: Sequence[BoxHead],
        pooler: nn.Module,
        classes: int,
        branches: Mapping[str, RoIBranch] | None = None,
    ):
        """`heads`: one per stage; `branches`: by name."""
        super().__init__()
        self.config, self.classes, self.pooler = config, classes, pooler
        self.branches = dict(branches or {})
        for name, branch in self.branches.items():
            self.add_module(f"{name}_head", branch.head)
        self.stages = nn.ModuleList(Stage(head, classes, config.class_agnostic, config.context) for head in heads)
        self.weights = [BOX_WEIGHTS[min(stage, 2)] for stage in range(len(heads))]
        self.box_loss, self.class_loss = box_losses[config.loss], class_losses[config.class_loss]
        self.positives = positive_count(config)

    def __setattr__(self, name: str, value: Any) -> None:
        """Passes a replaced head, such as `mask_head`, on to its branch."""
        super().__setattr__(name, value)
        branch = self.__dict__.get("branches", {}).get(name.removesuffix("_head"))
        if branch is not None and name.endswith("_head"):
            branch.head = value

    @property
    def rounds(self) -> int:
        """Number of refinements of each RoI."""
        return len(self.weights)

    # Training

    def losses(
        self, maps: Sequence[Tensor], proposals: Proposals, targets: Targets, sizes: Tensor
    ) -> dict[str, Tensor]:
        """Returns `class` and `box` per stage over sampled proposals, and branch losses; `sizes` [B, 2]: image
        sizes."""
        rois = self.sample(proposals, targets)
        result: dict[str, Tensor] = {}
        deltas: Tensor | None = None
        for number, stage in enumerate(cast("Sequence[Stage]", self.stages)):
            if deltas is not None:
                rois = self.refine(rois, deltas, targets, sizes, number)
            pooled = share_gradient(self.pool(maps, rois.boxes, sizes), len(self.stages))
            vectors, pooled = self.embed(stage.head, pooled)
            logits, deltas = stage.predict(vectors, len(rois.boxes))
            suffix = str(number + 1) if len(self.stages) > 1 else ""
            parts = self.stage_losses(number, rois, logits, deltas, targets)
            result.update({f"{name}{suffix}": loss for name, loss in parts.items()})  # torch 2.6's dynamo lacks |=
            if number == 0:
                first, first_maps = rois, pooled
        for branch in self.branches.values():
            result.update(branch.losses(maps, first, first_maps, targets))
        return result

    @torch.no_grad()
    def sample(self, proposals: Proposals, targets: Targets) -> SampledProposals:
        """Samples proposals of each image; ground-truth boxes are candidates, too."""
        boxes = torch.cat([proposals.boxes, targets.boxes], 1)
        usable = torch.cat([proposals.valid, targets.valid & ~targets.crowd], 1)
        low, high = self.config.negative_iou
        matches = match_proposals(boxes, targets, usable, self.config.ious[0], (low, high))
        chosen, positive, valid = sample(
            matches.positive, matches.negative, self.config.batch_per_image, self.positives
        )
        return SampledProposals(take(boxes, chosen), take(matches.objects, chosen), positive, valid)

    @torch.no_grad()
    def refine(
        self, rois: SampledProposals, deltas: Tensor, targets: Targets, sizes: Tensor, number: int
    ) -> SampledProposals:
        """Matches all boxes predicted by the previous stage at the IoU of stage `number`."""
        boxes = box_ops.decode(rois.boxes, deltas[:, :, 0], self.weights[number - 1])
        return self.match(box_ops.clip(boxes, sizes), rois.valid, targets, self.config.ious[number])

    @torch.no_grad()
    def match(self, boxes: Tensor, valid: Tensor, targets: Targets, iou: float) -> SampledProposals:
        """Matches all valid boxes to objects at this IoU, without sampling."""
        matches = match_proposals(boxes, targets, valid, iou, (0.0, iou))
        return SampledProposals(boxes, matches.objects, matches.positive, matches.positive | matches.negative)

    def pool(self, maps: Sequence[Tensor], boxes: Tensor, sizes: Tensor) -> Tensor:
        """Pools the input of the box heads: features of the RoIs and, with context, of the whole images."""
        return self.pooler(maps, boxes, sizes if self.config.context else None)

    def embed(self, head: BoxHead, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the head's vector of each RoI, and the maps for branches without a pooler."""
        if isinstance(head, Conv5Head):
            maps = head.maps(pooled)
            return head.vectors(maps), maps
        return head(pooled), pooled

    def stage_losses(
        self, number: int, rois: SampledProposals, logits: Tensor, deltas: Tensor, targets: Targets
    ) -> dict[str, Tensor]:
        """Returns the losses `class`, over all RoIs, and `box`, over the positive ones."""
        config, count = self.config, rois.valid.sum()
        objects = take(targets.labels, rois.objects)
        labels = torch.where(rois.positive, objects, self.classes)
        class_terms = self.class_loss(logits, labels)
        # A mean would be broadcast, and so include the padding.
        remedy = "this loss must return one value per RoI, not their mean"
        require(class_terms.shape == labels.shape, "model.box.class_loss", config.class_loss, remedy)
        # Only in the first stage positive RoIs come first, so that the others can be skipped.
        part = slice(self.positives) if number == 0 else slice(None)
        selected = self.deltas_of_class(deltas[:, part], objects[:, part])
        boxes, matched = rois.boxes[:, part], take(targets.boxes, rois.objects[:, part])
        box_terms = self.box_loss(selected, boxes, matched, self.weights[number], config.beta)
        require(box_terms.shape == boxes.shape[:-1], "model.box.loss", config.loss, remedy)
        return {
            "class": losses.mean_over(class_terms, rois.valid, count),
            "box": losses.mean_over(box_terms, rois.positive[:, part], count) * config.loss_weight,
        }

    def deltas_of_class(self, deltas: Tensor, labels: Tensor) -> Tensor:
        """Selects from deltas [B, N, C or 1, 4] those of the labels [B, N]: [B, N, 4]."""
        if self.config.class_agnostic:
            return deltas[:, :, 0]
        return deltas.gather(2, labels[..., None, None].expand(-1, -1, 1, 4))[:, :, 0]

    # Inference

    def detect(self, maps: Sequence[Tensor], proposals: Proposals, sizes: Tensor, score: Tensor | float) -> Detections:
        """Returns detections above `score` after NMS per class; `sizes` [B, 2]: height and width of each image."""
        predictions = self.classify(maps, proposals.boxes, sizes)
        return self.postprocess_detections(predictions, proposals.valid, sizes, score)

    def postprocess_detections(
        self, predictions: RoIPredictions, valid: Tensor, sizes: Tensor, score: Tensor | float
    ) -> Detections:
        """Converts the predictions for `valid` [B, N] RoIs to detections."""
        config, classes = self.config, self.classes
        scores, boxes, deltas = predictions
        scores = torch.where(valid[..., None] & torch.isfinite(scores), scores, 0.0).flatten(1)
        best, chosen = scores.topk(min(config.candidates, scores.shape[1]), dim=1)
        labels, rows = chosen % classes, chosen // classes
        selected = take(deltas.flatten(1, 2), rows if deltas.shape[2] == 1 else chosen)
        decoded = box_ops.clip(box_ops.decode(take(boxes, rows), selected, self.weights[-1]), sizes)
        return final_nms(decoded, best, labels, score, config.nms, config.detections)

    def decode(self, predictions: RoIPredictions, sizes: Tensor) -> Tensor:
        """Returns the predicted boxes [B, N, C or 1, 4], clipped to the images."""
        decoded = box_ops.decode(predictions.boxes[:, :, None], predictions.deltas, self.weights[-1])
        return box_ops.clip(decoded, sizes)

    def classify(self, maps: Sequence[Tensor], boxes: Tensor, sizes: Tensor) -> RoIPredictions:
        """Returns scores averaged over the stages for boxes [B, N, 4], and the last stage's input boxes and deltas."""
        deltas: Tensor | None = None
        probabilities: list[Tensor] = []
        for number, stage in enumerate(cast("Sequence[Stage]", self.stages)):
            if deltas is not None:
                boxes = box_ops.clip(box_ops.decode(boxes, deltas[:, :, 0], self.weights[number - 1]), sizes)
            logits, deltas = stage.predict(stage.head(self.pool(maps, boxes, sizes)), boxes.shape[0])
            deltas = deltas.float()
            probabilities.append(logits.float().softmax(-1)[..., :-1])
        assert deltas is not None
        return RoIPredictions(sum(probabilities[1:], probabilities[0]) / len(self.stages), boxes, deltas)


def final_nms(
    boxes: Tensor, scores: Tensor, labels: Tensor, score: Tensor | float, iou: float, most: int
) -> Detections:
    """Returns at most `most` detections per image, above `score` and not empty, after NMS per class."""
    candidates = (scores > score) & (boxes[..., 2:] - boxes[..., :2] >= MIN_SIZE).all(2)
    indices, kept = nms(boxes, scores, labels, candidates, iou, most)
    return Detections(take(boxes, indices), take(scores, indices), take(labels, indices), kept)


def share_gradient(x: Tensor, stages: int) -> Tensor:
    """Scales the gradient of x by 1/stages, since all stages backpropagate to the features (code of Cascade R-CNN)."""
    return x if stages == 1 else x / stages + x.detach() * (1 - 1 / stages)
