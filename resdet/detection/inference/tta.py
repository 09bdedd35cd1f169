"""Test-time augmentation: box refinement with voting, multi-scale testing and ensembles (appendix B), mirrored images,
and MNC's mask voting.

Slower but more accurate than resdet/detection/inference/predictor.py; processes one image at a time.
"""

from collections.abc import Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from resdet.backbones.modes import evaluating
from resdet.data.class_names import labels_by_name
from resdet.detection.heads.config import KeypointConfig
from resdet.detection.heads.mnc import MNC
from resdet.detection.heads.roi_heads import MIN_SIZE
from resdet.detection.inference.config import TTAConfig
from resdet.detection.inference.predictor import postprocess_each
from resdet.detection.inference.refinement import Candidates, refine, vote, vote_masks, voters
from resdet.detection.inference.views import MultiScale, Scored, View, views_of
from resdet.detection.model import Detector
from resdet.errors import ConfigError
from resdet.images.decode import EncodedImage, RawImage, as_image
from resdet.images.resize import resize
from resdet.model import Prepared
from resdet.ops import boxes as box_ops
from resdet.ops.nms import nms
from resdet.results.image_by_image import ImageByImage
from resdet.results.result import Result
from resdet.structures import Detections

AT_ONCE = 1000  # RoIs pooled at a time, to limit memory
MASKS_AT_ONCE = 100  # masks predicted at a time
REFINED_NMS = 0.3  # IoU threshold with refinement, since refined boxes of an object are close together
Views = list[list[View | MultiScale]]  # per detector


class MaskInput(NamedTuple):
    """Input of mask prediction."""

    views: Views
    candidates: Candidates


class EnsembleDetector(ImageByImage):
    """An ensemble of one or more detectors of any family, with test-time augmentation.

    RoIs are the union of all proposals in all views. Scores and boxes are averaged over the views of a detector, then
    over detectors; masks and keypoints over the detectors that predict them.
    """

    def __init__(self, detectors: Sequence[Detector], settings: TTAConfig | None = None):
        """The detectors must have the same classes, in any order; the first one defines labels and category ids.
        `settings` is the section `eval`."""
        first, settings = detectors[0], settings or TTAConfig()
        check_keypoints(detectors)
        check_settings(detectors, settings)
        self.detectors, self.settings = list(detectors), settings
        self.labels = [torch.tensor(labels_in(detector, number, first)) for number, detector in enumerate(detectors, 1)]
        self.classes, self.category_ids, self.input = first.classes, first.category_ids, first.input
        self.draws_masks = any(detector.draws_masks for detector in detectors)
        self.draws_keypoints = any(detector.draws_keypoints for detector in detectors)
        self.min_score = first.score if self.settings.score is None else self.settings.score
        configs = [detector.roi_heads.config for detector in detectors]
        self.max_candidates = max(config.candidates for config in configs)
        self.max_detections = max(config.detections for config in configs)
        default = REFINED_NMS if self.settings.refine else first.nms
        self.nms = default if self.settings.nms is None else self.settings.nms

    def prepare_image(self, image: Any) -> Prepared:
        opened = as_image(image)
        return Prepared(None, opened, opened.size[::-1])

    def predict_prepared(
        self, images: Sequence[Prepared], score: float | None = None, top: int | None = None
    ) -> list[Result]:
        """Detects objects in prepared images, one by one; `top` has no effect."""
        above = self.min_score if score is None else score
        with evaluating(self.detectors):
            return [self.result(prepared.content, prepared.size, above) for prepared in images]

    @torch.inference_mode()
    def result(self, image: EncodedImage | RawImage, original: tuple[int, int], score: float) -> Result:
        """Detects objects in an image; `original`: its height and width."""
        resized = cache(partial(resize, image))  # from the original pixels, once per size
        scales, flip = self.settings.scales, self.settings.flip
        views = [views_of(detector, resized, original, scales, flip) for detector in self.detectors]
        scored = self.classify(views, propose(views))
        if self.settings.refine:
            scored = refine(scored, partial(self.classify, views))
        size = torch.tensor([original], dtype=torch.float32, device=scored.boxes.device)
        candidates = self.candidates_of(scored, score, size, self.limit(views))
        inputs = [MaskInput(views, candidates)]
        (result,) = postprocess_each(self, inputs, self.detections(candidates), size, [original])
        return result

    def classify(self, views: Views, boxes: Tensor) -> Scored:
        """Averages scores and boxes over all views and detectors, for boxes [N, 4]."""
        parts = [self.classify_part(views, part) for part in boxes.split(AT_ONCE)]
        return Scored(*(torch.cat(field) for field in zip(*parts)))

    def classify_part(self, views: Views, boxes: Tensor) -> Scored:
        of_detectors = [mean([view.classify(boxes) for view in group]) for group in views]
        return mean([Scored(*(field[:, own] for field in part)) for part, own in zip(of_detectors, self.labels)])

    def detections(self, candidates: Candidates) -> Detections:
        """Returns detections [1, D] after NMS per class and, with refinement, box voting."""
        boxes, scores, labels = (field[None] for field in candidates)
        real = torch.ones_like(labels, dtype=torch.bool)
        kept, valid = nms(boxes, scores, labels, real, self.nms, self.max_detections)
        kept = kept[valid]
        boxes, scores, labels = (field[kept] for field in candidates)
        if self.settings.refine and self.settings.voting_iou is not None:
            boxes = vote(boxes, labels, candidates, self.settings.voting_iou)
        return Detections(boxes[None], scores[None], labels[None], real[:, : len(kept)])

    def limit(self, views: Views) -> int:
        """Returns the maximum number of candidates: a detector's, times views and refinement, since copies of a few
        objects would otherwise displace the others."""
        rounds = 2 if self.settings.refine else 1
        return self.max_candidates * rounds * sum(map(len, views))

    def candidates_of(self, scored: Scored, score: float, size: Tensor, limit: int) -> Candidates:
        """Selects the best (box, class) pairs above a score, clipped to the image, without empty boxes."""
        best, chosen = scored.scores.flatten().topk(min(limit, scored.scores.numel()))
        boxes = box_ops.clip(scored.boxes.flatten(0, 1)[None, chosen], size)[0]
        real = (best > score) & (boxes[:, 2:] - boxes[:, :2] >= MIN_SIZE).all(1)
        return Candidates(boxes[real], best[real], chosen[real] % scored.scores.shape[1])

    def masks(self, source: MaskInput, boxes: Tensor, labels: Tensor) -> Tensor:
        """Returns mask probabilities [1, n, m, m] in boxes [1, n, 4], with mask voting if set."""
        iou = self.settings.mask_voting_iou
        if iou is None:
            return self.predict_masks(source.views, boxes[0], labels[0])[None]
        votes = voters(boxes[0], labels[0], source.candidates, iou)
        voting = votes.any(0)
        candidates = Candidates(*(field[voting] for field in source.candidates))
        parts = zip(candidates.boxes.split(MASKS_AT_ONCE), candidates.labels.split(MASKS_AT_ONCE))
        masks = torch.cat([self.predict_masks(source.views, *part) for part in parts])
        return vote_masks(boxes[0], votes[:, voting], candidates, masks)[None]

    @property
    def keypoints(self) -> KeypointConfig:
        return next(detector.keypoints for detector in self.detectors if detector.draws_keypoints)

    def heatmaps(self, source: MaskInput, boxes: Tensor, labels: Tensor) -> Tensor:
        """Returns keypoint logits [1, n, K, m, m] in boxes [1, n, 4], averaged over views, then over detectors."""
        groups = [group for detector, group in zip(self.detectors, source.views) if detector.draws_keypoints]
        of_group = lambda group: torch.stack([view.heatmaps(boxes[0], labels[0]) for view in group]).mean(0)
        return torch.stack([of_group(group) for group in groups]).mean(0)[None]

    def predict_masks(self, views: Views, boxes: Tensor, labels: Tensor) -> Tensor:
        """Returns mask probabilities [n, m, m] in boxes [n, 4], at the finest resolution of the detectors."""
        masks = [
            torch.stack([view.masks(boxes, own.to(labels.device)[labels]) for view in group]).mean(0)
            for detector, own, group in zip(self.detectors, self.labels, views)
            if detector.draws_masks
        ]
        side = max(each.shape[-1] for each in masks)
        return torch.stack([F.interpolate(each[None], (side, side), mode="bilinear")[0] for each in masks]).mean(0)


def propose(views: Views) -> Tensor:
    """Returns the union of the proposals of all views, [N, 4]."""
    return torch.cat([view.propose() for group in views for view in group])


def mean(parts: Sequence[Scored]) -> Scored:
    return Scored(*(torch.stack(field).mean(0) for field in zip(*parts)))


def labels_in(detector: Detector, number: int, first: Detector) -> list[int]:
    """Finds, by name, the labels of the first detector's classes in `detector`, the ensemble's `number`-th."""
    if (detector.classes, detector.category_ids) == (first.classes, first.category_ids):
        return [*range(len(first.classes))]
    labels = labels_by_name(detector.classes, first.classes)
    if labels is None or len(labels) < len(detector.classes):
        raise ConfigError(
            f"The detectors of an ensemble must have the same classes: the first has {describe_classes(first)}, "
            f"and number {number} has {describe_classes(detector)}; give detectors trained on the same categories."
        )
    return labels


def check_keypoints(detectors: Sequence[Detector]) -> None:
    """Rejects detectors whose heatmaps cannot be averaged."""
    configs = [detector.keypoints for detector in detectors if detector.draws_keypoints]
    if any((c.keypoint_names, c.resolution) != (configs[0].keypoint_names, configs[0].resolution) for c in configs):
        raise ConfigError(
            "The detectors of an ensemble have different keypoints or heatmaps: give detectors with the same "
            "model.keypoint.names and model.keypoint.resolution."
        )


def check_settings(detectors: Sequence[Detector], settings: TTAConfig) -> None:
    cascades = [isinstance(detector.roi_heads, MNC) for detector in detectors]
    if any(cascades) and not all(cascades):
        raise ConfigError("An ensemble cannot mix detectors with and without model.mnc: give detectors of one kind.")
    if any(cascades) and settings.refine:
        raise ConfigError("eval.refine is true, but model.mnc already refines boxes: set it to false.")
    if settings.mask_voting_iou is not None and not any(detector.draws_masks for detector in detectors):
        raise ConfigError("eval.mask_voting_iou is set, but no detector predicts masks: set it to null.")


def describe_classes(detector: Detector) -> str:
    names = ", ".join(detector.classes[:4])
    return f"{len(detector.classes)} ({names}{', …' if len(detector.classes) > 4 else ''})"
