"""The worst and best images of an evaluation, and objects whose labels the model doubts."""

import numpy as np

from resdet.detection.data.annotations import Annotations
from resdet.detection.data.geometry import scale_of
from resdet.detection.report.doubts import Doubt, label_doubts
from resdet.detection.report.evaluation import EvaluatedDetector
from resdet.detection.report.marks import detection_mark, detection_marks, truth_marks
from resdet.results.box_format import xywh_to_xyxy
from resdet.results.sections import TRUTH, Gallery, Mark, Part, Picture, Section, Table, picture

WORST, BEST, CROPS = 12, 6, 24  # pictures
DOUBT_SCORE, DOUBTS = 0.5, 200  # minimum score of doubts, and rows of their table
CROP_SIDE, MARGIN = 200, 0.5  # longest side of crops in pixels, and their margin as a share of the box
DETECTIONS = "detections"  # layer of a picture


def image_galleries(evaluated: EvaluatedDetector) -> Section:
    """Shows the images with the lowest and highest F1 at the score threshold."""
    counts = evaluated.matches.image_counts(evaluated.score)
    score = f1_of(counts)
    busy = np.flatnonzero(counts.sum(1))
    errors = counts[:, 1] + counts[:, 2]
    worst = busy[np.lexsort((-errors[busy], score[busy]))]
    best = busy[np.lexsort((-counts[busy, 0], -score[busy]))]
    note = f"{evaluated.counted}. Sorted by F1; of equal images, the one with more errors or objects comes first."
    galleries = [
        Gallery("worst", "Worst images", [drawn(evaluated, i, counts[i]) for i in worst[:WORST] if errors[i]]),
        Gallery("best", "Best images", [drawn(evaluated, i, counts[i]) for i in best[:BEST] if counts[i, 0]]),
    ]
    return Section("images", "Images", galleries, note)


def f1_of(counts: np.ndarray) -> np.ndarray:
    """Computes F1 [I] from true positives, false positives and missed objects [I, 3]."""
    return 2 * counts[:, 0] / np.maximum(2 * counts[:, 0] + counts[:, 1] + counts[:, 2], 1)


def drawn(evaluated: EvaluatedDetector, image: int, counts: np.ndarray) -> Picture:
    """Draws an image, given by its position in `matches.image_ids`, with its objects and detections."""
    index = evaluated.indices[int(evaluated.matches.image_ids[image])]
    true, false, missed = counts.tolist()
    caption = f"{true} found, {missed} missed, {false} false"
    layers = {
        TRUTH: truth_marks(evaluated.source, index),
        DETECTIONS: detection_marks(evaluated.source, index, evaluated.results, evaluated.score),
    }
    return scene_picture(evaluated.source, index, caption, layers)


def scene_picture(source: Annotations, index: int, caption: str, layers: dict[str, list[Mark]]) -> Picture:
    """Returns the image with marks, given in annotated pixels."""
    pixels = source.image(index).decode()
    stretch = np.tile(scale_of(source, index, pixels), 2)
    moved = {name: [mark.moved(stretch) for mark in part] for name, part in layers.items()}
    return picture(pixels, source.files[index], caption, moved)


def doubts_section(evaluated: EvaluatedDetector) -> Section:
    """Lists labels to check: high-scoring detections that contradict the annotations."""
    score = max(DOUBT_SCORE, evaluated.score) if evaluated.threshold else DOUBT_SCORE
    doubts = label_doubts(evaluated.truth, evaluated.results, score)
    source, results, indices = evaluated.source, evaluated.results, evaluated.indices
    category = dict(zip(source.category_ids, source.classes))
    rows = [
        (
            source.files[indices[int(results.image_ids[doubt.row])]],
            doubt.kind,
            category[doubt.object["category_id"]] if doubt.object else "",
            category[int(results.category_ids[doubt.row])],
            doubt.score,
            " ".join(f"{side:.0f}" for side in xywh_to_xyxy(results.boxes[doubt.row])),
        )
        for doubt in doubts[:DOUBTS]
    ]
    note = (
        f"Detections with a score of at least {score:.3f} that touch no object (IoU below 0.1), or lie on an object of "
        f"another class: mistakes of the model or of the annotations. {len(doubts)} in all."
    )
    columns = ("image", "doubt", "label", "detected", "score", "box")
    parts: list[Part] = [
        Table("doubts", "Labels to check", columns, rows),
        Gallery("crops", "Crops", [crop(evaluated, doubt) for doubt in doubts[:CROPS]]),
    ]
    return Section("labels", "Possible label errors", parts, note)


def crop(evaluated: EvaluatedDetector, doubt: Doubt) -> Picture:
    """Crops the surroundings of a doubted object."""
    source, results = evaluated.source, evaluated.results
    index = evaluated.indices[int(results.image_ids[doubt.row])]
    pixels = source.image(index).decode()
    stretch = np.tile(scale_of(source, index, pixels), 2)
    box = xywh_to_xyxy(results.boxes[doubt.row]) * stretch
    margin = MARGIN * (box[2:] - box[:2]).max()
    left, top = np.floor(np.clip(box[:2] - margin, 0, None)).astype(int).tolist()
    right, bottom = np.ceil(np.minimum(box[2:] + margin, pixels.shape[1::-1])).astype(int).tolist()
    part = pixels[top : max(bottom, top + 1), left : max(right, left + 1)]
    shift = np.tile((left, top), 2)
    objects = [mark.moved(stretch, shift) for mark in truth_marks(source, index)]
    label = detection_mark(source, results, doubt.row).moved(stretch, shift)
    return picture(part, source.files[index], doubt.kind, {TRUTH: objects, DETECTIONS: [label]}, CROP_SIDE)
