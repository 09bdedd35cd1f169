"""The region heads: boxes are classified and refined, in one stage or several, and masks are drawn in them.

One stage is Fast R-CNN's (1504.08083); three of rising IoU are Cascade R-CNN's (1712.00726); with a mask branch it is
Mask R-CNN's (1703.06870). The shapes of all tensors follow from the config: `box.batch_per_image` regions of an image are learned
from, the positive ones first, so that boxes and masks are learned from the first ones alone.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resdet.detection.heads import losses
from resdet.detection.heads.box_head import Conv5Head, FastRCNNPredictor, RoIPooler
from resdet.detection.heads.config import BoxConfig, MaskConfig
from resdet.detection.heads.mask_head import MaskHead, mask_of_class
from resdet.detection.heads.matcher import Matches, match_proposals, take
from resdet.detection.heads.registry import box_losses, class_losses
from resdet.ops import boxes as box_ops
from resdet.ops.masks import crop_masks
from resdet.ops.nms import nms
from resdet.ops.sampling import sample
from resdet.structures import Detections, Proposals, Targets, bucket

BOX_WEIGHTS = ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0))  # of each stage
MIN_SIZE = 1e-2  # of a detection, in pixels of the resized image


class SampledProposals(NamedTuple):
    """Regions to learn from, with what they should become."""

    boxes: Tensor  # [B, R, 4]
    objects: Tensor  # [B, R] int64, which object each belongs to
    positive: Tensor  # [B, R] bool
    valid: Tensor  # [B, R] bool


class Stage(nn.Module):
    """A box head with its predictor, which sees each region alone, or with `context` beside the whole image."""

    def __init__(self, head: nn.Module, classes: int, class_agnostic: bool, context: bool):
        super().__init__()
        self.head, self.context = head, context
        self.predictor = FastRCNNPredictor(head.width * (2 if context else 1), classes, class_agnostic)

    def predict(self, vectors: Tensor, images: int) -> tuple[Tensor, Tensor]:
        """What the head made of all regions [B·N, width], with context the image behind those of each: logits, deltas.

        Global context (appendix B): the image's vector is joined to each region's.
        """
        if self.context:
            vectors = vectors.unflatten(0, (images, -1))
            regions, whole = vectors[:, :-1], vectors[:, -1:]
            vectors = torch.cat([regions, whole.expand_as(regions)], 2).flatten(0, 1)
        return self.predictor(vectors, images)


class RoIHeads(nn.Module):
    """Proposals in, losses or detections out."""

    def __init__(
        self,
        config: BoxConfig,
        heads: Sequence[nn.Module],
        pooler: RoIPooler,
        classes: int,
        mask_config: MaskConfig | None = None,
        mask_head: MaskHead | None = None,
        mask_pooler: RoIPooler | None = None,
    ):
        """One head a stage. Without a `mask_pooler` the masks take the maps that the first stage's head makes."""
        super().__init__()
        self.config, self.mask_config, self.classes = config, mask_config, classes
        self.pooler, self.mask_pooler, self.mask_head = pooler, mask_pooler, mask_head
        self.stages = nn.ModuleList(Stage(head, classes, config.class_agnostic, config.context) for head in heads)
        self.weights = [BOX_WEIGHTS[min(stage, 2)] for stage in range(len(heads))]
        self.box_loss, self.class_loss = box_losses[config.loss], class_losses[config.class_loss]
        self.positives = int(config.batch_per_image * config.positive_fraction)

    @property
    def rounds(self) -> int:
        """How often a region is looked at, each time as the box that it became."""
        return len(self.stages)

    # Training

    def losses(
        self, maps: Sequence[Tensor], proposals: Proposals, targets: Targets, sizes: Tensor
    ) -> dict[str, Tensor]:
        """Of the sampled regions, stage by stage, and of the masks of the positive ones."""
        regions = self.sample(proposals, targets)
        found, deltas = {}, None
        for number, stage in enumerate(self.stages):
            if number:
                regions = self.refined(regions, deltas, targets, sizes, number)
            pooled = share_gradient(self.pool(maps, regions.boxes, sizes), len(self.stages))
            vectors, pooled = self.describe(stage.head, pooled)
            logits, deltas = stage.predict(vectors, len(regions.boxes))
            suffix = str(number + 1) if len(self.stages) > 1 else ""
            found |= {f"{k}{suffix}": v for k, v in self.stage_losses(number, regions, logits, deltas, targets).items()}
            if number == 0:
                first, first_maps = regions, pooled
        if self.mask_head is not None and targets.masks is not None:
            found["mask"] = self.mask_loss(maps, first, first_maps, targets)
        return found

    @torch.no_grad()
    def sample(self, proposals: Proposals, targets: Targets) -> SampledProposals:
        """Regions of each image to learn from; the objects themselves are among the candidates."""
        boxes = torch.cat([proposals.boxes, targets.boxes], 1)
        usable = torch.cat([proposals.valid, targets.valid & ~targets.crowd], 1)
        matches = match_proposals(boxes, targets, usable, self.config.ious[0], tuple(self.config.negative_iou))
        chosen, positive, valid = sample(
            matches.positive, matches.negative, self.config.batch_per_image, self.positives
        )
        return SampledProposals(take(boxes, chosen), take(matches.objects, chosen), positive, valid)

    @torch.no_grad()
    def refined(
        self, regions: SampledProposals, deltas: Tensor, targets: Targets, sizes: Tensor, number: int
    ) -> SampledProposals:
        """The boxes of the stage before, matched anew at this stage's IoU; none is left out."""
        boxes = box_ops.decode(regions.boxes, deltas[:, :, 0].float(), self.weights[number - 1])
        return self.matched(box_ops.clip(boxes, sizes), regions.valid, targets, self.config.ious[number])

    @torch.no_grad()
    def matched(self, boxes: Tensor, valid: Tensor, targets: Targets, iou: float) -> SampledProposals:
        """All boxes that are valid, with the objects that they overlap."""
        matches: Matches = match_proposals(boxes, targets, valid, iou, (0.0, iou))
        return SampledProposals(boxes, matches.objects, matches.positive, matches.positive | matches.negative)

    def pool(self, maps: Sequence[Tensor], boxes: Tensor, sizes: Tensor) -> Tensor:
        """The features that the box heads take: of the regions, and with context of the whole images."""
        return self.pooler(maps, boxes, sizes if self.config.context else None)

    def describe(self, head: nn.Module, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """A vector of each region, and the maps that masks may be drawn from."""
        if isinstance(head, Conv5Head):
            maps = head.maps(pooled)
            return head.vectors(maps), maps
        return head(pooled), pooled

    def stage_losses(
        self, number: int, regions: SampledProposals, logits: Tensor, deltas: Tensor, targets: Targets
    ) -> dict[str, Tensor]:
        """Classification of all regions; boxes of the positive ones."""
        config, count = self.config, regions.valid.sum()
        objects = take(targets.labels, regions.objects)
        labels = torch.where(regions.positive, objects, self.classes)
        scores = self.class_loss(logits, labels)
        # In the first stage the positive regions come first; only there can those behind them be left out.
        part = slice(self.positives) if number == 0 else slice(None)
        own = self.own_deltas(deltas[:, part], objects[:, part])
        boxes, wanted = regions.boxes[:, part], take(targets.boxes, regions.objects[:, part])
        shifts = self.box_loss(own, boxes, wanted, self.weights[number], config.beta)
        return {
            "class": losses.mean_over(scores, regions.valid, count),
            "box": losses.mean_over(shifts, regions.positive[:, part], count) * config.loss_weight,
        }

    def own_deltas(self, deltas: Tensor, labels: Tensor) -> Tensor:
        """[B, N, C or 1, 4] -> [B, N, 4], those of each region's class."""
        if self.config.class_agnostic:
            return deltas[:, :, 0]
        return deltas.gather(2, labels[..., None, None].expand(-1, -1, 1, 4))[:, :, 0]

    def mask_loss(
        self, maps: Sequence[Tensor], regions: SampledProposals, first_maps: Tensor, targets: Targets
    ) -> Tensor:
        """Binary cross entropy of each positive region's own class, over the pixels of its mask."""
        part = slice(self.mask_places(regions.positive))
        boxes, objects, positive = regions.boxes[:, part], regions.objects[:, part], regions.positive[:, part]
        if self.mask_pooler is None:
            pooled = first_maps.unflatten(0, (len(boxes), -1))[:, part].flatten(0, 1)
        else:
            pooled = self.mask_pooler(maps, boxes)
        logits = mask_of_class(self.mask_head(pooled), take(targets.labels, objects).flatten()).float()
        with torch.no_grad(), torch.autocast(boxes.device.type, enabled=False):
            wanted = crop_masks(targets.masks, targets.boxes, objects, boxes, logits.shape[-1]).flatten(0, 1)
        terms = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean((1, 2))
        return losses.mean_over(terms, positive.flatten(), positive.sum()) * self.mask_config.loss_weight

    def mask_places(self, positive: Tensor) -> int:
        """How many regions of each image masks are learned in; the positive ones [B, R] come first.

        As many as there may be where shapes must be known beforehand. In eager mode on a CPU, where looking costs
        nothing, places that are empty in every image are left out: the head is costly, and the loss is the same unless
        the head has batch norm, whose statistics are of all places.
        """
        most = min(self.mask_config.regions, self.positives)
        if torch.compiler.is_compiling() or positive.device.type != "cpu":
            return most
        return bucket(int(positive.sum(1).max()), most)

    # Inference

    def detect(self, maps: Sequence[Tensor], proposals: Proposals, sizes: Tensor, score: float) -> Detections:
        """The best boxes of all classes, without duplicates within a class."""
        scores, boxes, deltas = self.classify(maps, proposals.boxes, sizes)
        return self.best(scores, boxes, deltas, proposals.valid, sizes, score)

    def best(
        self, scores: Tensor, boxes: Tensor, deltas: Tensor, valid: Tensor, sizes: Tensor, score: float
    ) -> Detections:
        """Of N regions with probabilities [B, N, C] and deltas [B, N, C or 1, 4], those that are valid [B, N]."""
        config, classes = self.config, self.classes
        scores = torch.where(valid[..., None] & torch.isfinite(scores), scores, 0.0).flatten(1)
        best, chosen = scores.topk(min(config.candidates, scores.shape[1]), dim=1)
        labels, rows = chosen % classes, chosen // classes
        own = take(deltas.flatten(1, 2), rows if deltas.shape[2] == 1 else chosen)
        found = box_ops.clip(box_ops.decode(take(boxes, rows), own, self.weights[-1]), sizes)
        real = (best > score) & (found[..., 2:] - found[..., :2] >= MIN_SIZE).all(2)
        kept, valid = nms(found, best, labels, real, config.nms, config.detections)
        return Detections(take(found, kept), take(best, kept), take(labels, kept), valid)

    def classify(self, maps: Sequence[Tensor], boxes: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Probabilities [B, N, C] averaged over the stages; the boxes that the last stage saw, and its deltas."""
        deltas, total = None, 0
        for number, stage in enumerate(self.stages):
            if number:
                boxes = box_ops.clip(box_ops.decode(boxes, deltas[:, :, 0], self.weights[number - 1]), sizes)
            logits, deltas = stage.predict(stage.head(self.pool(maps, boxes, sizes)), boxes.shape[0])
            deltas = deltas.float()
            total = total + logits.float().softmax(-1)[..., :-1]
        return total / len(self.stages), boxes, deltas

    def masks(self, maps: Sequence[Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
        """Probabilities [B, N, m, m] of each box's own class."""
        if self.mask_pooler is None:
            pooled = self.stages[0].head.maps(self.pooler(maps, boxes))
        else:
            pooled = self.mask_pooler(maps, boxes)
        own = mask_of_class(self.mask_head(pooled), labels.flatten())
        return own.float().sigmoid().unflatten(0, labels.shape)


def share_gradient(x: Tensor, stages: int) -> Tensor:
    """In a cascade the heads pull at the features together: each with its share (as Cascade R-CNN's authors do)."""
    return x if stages == 1 else x / stages + x.detach() * (1 - 1 / stages)
