"""Testing with the improvements of appendix B, each alone or all together: box refinement with voting, several scales,
several detectors as one; mirrored images; and MNC's voting of masks.

It trades time for accuracy, one picture after another. The plain way is resdet/detection/inference/predictor.py.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from resdet.backbones.modes import evaluating
from resdet.detection.heads.mnc import MNC
from resdet.detection.heads.roi_heads import MIN_SIZE
from resdet.detection.inference.config import TTAConfig
from resdet.detection.inference.predictor import finish_one
from resdet.detection.inference.refinement import Candidates, refine, vote, vote_masks, voters
from resdet.detection.inference.views import Scored, views_of
from resdet.detection.model import Detector
from resdet.errors import ConfigError
from resdet.images.decode import as_image
from resdet.images.resizing import resize
from resdet.ops import boxes as box_ops
from resdet.ops.nms import nms
from resdet.results.result import Result
from resdet.structures import Detections

AT_ONCE = 1000  # regions that are pooled together, so that memory has a limit however many are proposed
MASKS_AT_ONCE = 100  # and masks that are drawn together, as many as a plain test draws
REFINED_NMS = 0.3  # refined boxes of one object lie close together
Views = list[list]  # of each detector


class Seen(NamedTuple):
    """What masks are drawn from."""

    views: Views
    candidates: Candidates


class EnsembleDetector:
    """One detector or several, of whatever families, that predict as one.

    Regions are the union of what all propose, in all their views. Scores and boxes of a region are averaged over the
    views of a detector, then over the detectors; masks over those that draw them.
    """

    __test__ = False  # or pytest would look for tests in a class of this name

    def __init__(self, detectors: Sequence[Detector], settings: TTAConfig | None = None):
        """They must know the same classes; `settings` are the keys of `eval`."""
        first, settings = detectors[0], settings or TTAConfig()
        check_alike(detectors)
        check_settings(detectors, settings)
        self.detectors, self.settings = list(detectors), settings
        self.classes, self.category_ids, self.input = first.classes, first.category_ids, first.input
        self.draws_masks = any(detector.draws_masks for detector in detectors)
        self.least = first.score if self.settings.score is None else self.settings.score
        configs = [detector.roi_heads.config for detector in detectors]
        self.candidates = max(config.candidates for config in configs)
        self.places = max(config.detections for config in configs)
        usual = REFINED_NMS if self.settings.refine else first.roi_heads.config.nms
        self.suppression = usual if self.settings.nms is None else self.settings.nms

    def predict(self, images: Iterable, score: float | None = None) -> list[Result]:
        """One result an image, as `Detector.predict` gives them; `images` are paths and uint8 RGB arrays [H, W, 3]."""
        return list(self.stream(images, score))

    def stream(self, images: Iterable, score: float | None = None) -> Iterator[Result]:
        """The same one after another, as `Detector.stream` gives them."""
        for image in images:
            with evaluating(self.detectors):
                result = self.result(image, self.least if score is None else score)
            yield result

    @torch.inference_mode()
    def result(self, image: Any, score: float) -> Result:
        picture = as_image(image)
        original = picture.size[::-1]
        resized = cache(partial(resize, picture))  # from its own pixels, once for each size
        scales, flip = self.settings.scales, self.settings.flip
        views = [views_of(detector, resized, original, scales, flip) for detector in self.detectors]
        said = self.score(views, propose(views))
        if self.settings.refine:
            said = refine(said, partial(self.score, views))
        size = torch.tensor([original], dtype=torch.float32, device=said.boxes.device)
        candidates = self.candidates_of(said, score, size)
        result = finish_one(self, Seen(views, candidates), self.detections(candidates), size[0], original)
        result.image = image
        return result

    def score(self, views: Views, boxes: Tensor) -> Scored:
        """What all say of boxes [N, 4] together."""
        parts = [mean([mean([view.score(part) for view in own]) for own in views]) for part in boxes.split(AT_ONCE)]
        return Scored(*(torch.cat(field) for field in zip(*parts)))

    def detections(self, candidates: Candidates) -> Detections:
        """The best boxes of all classes without duplicates within a class, refined ones voted for: [1, D]."""
        boxes, scores, labels = (field[None] for field in candidates)
        real = torch.ones_like(labels, dtype=torch.bool)
        kept, valid = nms(boxes, scores, labels, real, self.suppression, self.places)
        kept = kept[valid]
        boxes, scores, labels = (field[kept] for field in candidates)
        if self.settings.refine and self.settings.voting_iou is not None:
            boxes = vote(boxes, labels, candidates, self.settings.voting_iou)
        return Detections(boxes[None], scores[None], labels[None], real[:, : len(kept)])

    def candidates_of(self, said: Scored, score: float, size: Tensor) -> Candidates:
        """The (box, class) pairs above a score, inside the picture and not empty."""
        best, chosen = said.scores.flatten().topk(min(self.candidates, said.scores.numel()))
        boxes = box_ops.clip(said.boxes.flatten(0, 1)[None, chosen], size)[0]
        real = (best > score) & (boxes[:, 2:] - boxes[:, :2] >= MIN_SIZE).all(1)
        return Candidates(boxes[real], best[real], chosen[real] % said.scores.shape[1])

    def masks(self, seen: Seen, boxes: Tensor, labels: Tensor) -> Tensor:
        """Probabilities [1, n, m, m] of boxes [1, n, 4]: drawn there, or voted for."""
        iou = self.settings.mask_voting_iou
        if iou is None:
            return self.draw(seen.views, boxes[0], labels[0])[None]
        votes = voters(boxes[0], labels[0], seen.candidates, iou)
        voting = votes.any(0)
        candidates = Candidates(*(field[voting] for field in seen.candidates))
        parts = zip(candidates.boxes.split(MASKS_AT_ONCE), candidates.labels.split(MASKS_AT_ONCE))
        masks = torch.cat([self.draw(seen.views, *part) for part in parts])
        return vote_masks(boxes[0], votes[:, voting], candidates, masks)[None]

    def draw(self, views: Views, boxes: Tensor, labels: Tensor) -> Tensor:
        """Probabilities [n, m, m] in boxes [n, 4], of the finest resolution that any detector draws."""
        drawing = [own for detector, own in zip(self.detectors, views) if detector.draws_masks]
        drawn = [torch.stack([view.masks(boxes, labels) for view in own]).mean(0) for own in drawing]
        side = max(masks.shape[-1] for masks in drawn)
        drawn = [F.interpolate(masks[None], (side, side), mode="bilinear")[0] for masks in drawn]
        return torch.stack(drawn).mean(0)


def propose(views: Views) -> Tensor:
    """The union of all views' proposals, [N, 4]."""
    return torch.cat([view.propose() for own in views for view in own])


def mean(said: Sequence[Scored]) -> Scored:
    return Scored(*(torch.stack(field).mean(0) for field in zip(*said)))


def check_alike(detectors: Sequence[Detector]) -> None:
    first = detectors[0]
    for number, detector in enumerate(detectors[1:], 2):
        if (detector.classes, detector.category_ids) != (first.classes, first.category_ids):
            raise ConfigError(
                f"The detectors of an ensemble must know the same classes: the first has {listed(first)}, and number "
                f"{number} has {listed(detector)}; give detectors that were trained on the same categories."
            )


def check_settings(detectors: Sequence[Detector], settings: TTAConfig) -> None:
    cascades = [isinstance(detector.roi_heads, MNC) for detector in detectors]
    if any(cascades) and not all(cascades):
        raise ConfigError(
            "An ensemble of detectors with and without model.mnc counts regions in two ways: give those of one kind."
        )
    if any(cascades) and settings.refine:
        raise ConfigError("eval.refine is true, and model.mnc looks at regressed boxes by itself: set it to false.")
    if settings.mask_voting_iou is not None and not any(detector.draws_masks for detector in detectors):
        raise ConfigError("eval.mask_voting_iou is set and no detector draws masks: set it to null.")


def listed(detector: Detector) -> str:
    names = ", ".join(detector.classes[:4])
    return f"{len(detector.classes)} ({names}{', …' if len(detector.classes) > 4 else ''})"
