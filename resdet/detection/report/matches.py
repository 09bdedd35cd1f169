"""Detections matched to objects by COCO's rules, in columns, as the basis of a report's counts."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from resdet.detection.evaluation.coco_engines import hotcoco_evaluator
from resdet.detection.evaluation.ground_truth import class_names
from resdet.detection.evaluation.results import Results
from resdet.files.json_file import read_json

NONE = -1


@dataclass(frozen=True)
class Matches:
    """n detections by descending score, m objects of I images and K classes, matched at T IoU thresholds."""

    classes: list[str]
    image_ids: np.ndarray  # int64 [I]
    ious: np.ndarray  # float64 [T]: 0.5, 0.55, … 0.95
    rows: np.ndarray  # int64 [n]: row of the detection in the results
    scores: np.ndarray  # float64 [n]
    labels: np.ndarray  # int64 [n]: classes
    images: np.ndarray  # int64 [n]: position of the image in `image_ids`
    hit: np.ndarray  # bool [T, n]: whether it matches an object
    ignored: np.ndarray  # bool [T, n]: whether it matches a crowd, and does not count
    partners: np.ndarray  # int64 [n]: the object matched at IoU 0.5, or NONE
    object_labels: np.ndarray  # int64 [m]
    object_images: np.ndarray  # int64 [m]
    counted: np.ndarray  # bool [m]: not a crowd

    @classmethod
    def of(cls, truth: Any, results: Results, kind: Literal["bbox", "segm"] = "bbox") -> "Matches":
        """Matches the boxes or the masks of `results` to the ground truth, a COCO file or its content."""
        content = truth if isinstance(truth, dict) else read_json(truth)  # its ids are renumbered from 1; 0 is no match
        objects, evaluator = hotcoco_evaluator(content, results, kind)
        evaluator.params.area_rng, evaluator.params.area_rng_lbl = [[0, 1e10]], ["all"]
        evaluator.evaluate()
        image_ids, category_ids = (np.array(sorted(ids)) for ids in (objects.get_img_ids(), objects.get_cat_ids()))
        pairs = evaluator.eval_imgs  # one entry per pair of image and class
        images = np.searchsorted(image_ids, [pair["image_id"] for pair in pairs])
        labels = np.searchsorted(category_ids, [pair["category_id"] for pair in pairs])
        detections, owned = ([len(pair[ids]) for pair in pairs] for ids in ("dtIds", "gtIds"))
        flags = lambda name: np.concatenate(
            [np.zeros((len(evaluator.params.iou_thrs), 0)), *(np.array(pair[name], float) for pair in pairs)], 1
        )
        column = lambda name: np.array([value for pair in pairs for value in pair[name]])
        ids, scores = column("gtIds").astype(np.int64), column("dtScores").astype(float)
        ignored, partner_ids = flags("dtIgnore") > 0, flags("dtMatches").astype(np.int64)
        order = np.argsort(-scores, kind="stable")
        position = {number: k for k, number in enumerate(ids.tolist())}
        partners = np.array([position.get(number, NONE) for number in partner_ids[0].tolist()], np.int64)
        return cls(
            classes=class_names(objects.load_cats(objects.get_cat_ids())),
            image_ids=image_ids,
            ious=np.array(evaluator.params.iou_thrs),
            rows=column("dtIds").astype(np.int64)[order] - 1,
            scores=scores[order],
            labels=np.repeat(labels, detections)[order],
            images=np.repeat(images, detections)[order],
            hit=((partner_ids > 0) & ~ignored)[:, order],
            ignored=ignored[:, order],
            partners=partners[order],
            object_labels=np.repeat(labels, owned),
            object_images=np.repeat(images, owned),
            counted=~column("gtIgnore").astype(bool),
        )

    def totals(self) -> np.ndarray:
        """Counts objects per class, int64 [K]."""
        return np.bincount(self.object_labels[self.counted], minlength=len(self.classes))

    def presence(self) -> np.ndarray:
        """Returns bool [K, I]: whether a class has objects in an image."""
        present = np.zeros((len(self.classes), len(self.image_ids)), bool)
        present[self.object_labels[self.counted], self.object_images[self.counted]] = True
        return present

    def matched(self, score: float) -> np.ndarray:
        """Returns bool [m]: whether a detection with at least this score matches the object at IoU 0.5."""
        matched = np.zeros(len(self.counted), bool)
        matched[self.partners[(self.scores >= score) & (self.partners != NONE)]] = True
        return matched

    def image_counts(self, score: float) -> np.ndarray:
        """Returns true positives, false positives and missed objects of each image, int64 [I, 3], at IoU 0.5, for
        detections with at least this score."""
        kept = (self.scores >= score) & ~self.ignored[0]
        missed = self.counted & ~self.matched(score)
        chosen = (self.images[kept & self.hit[0]], self.images[kept & ~self.hit[0]], self.object_images[missed])
        return np.stack([np.bincount(images, minlength=len(self.image_ids)) for images in chosen], 1)
