"""The check at the start of training: findings from the index alone, in one sentence."""

from collections.abc import Iterator

import numpy as np

from resdet.detection.check.anchors import AnchorGrid
from resdet.detection.check.boxes import copies
from resdet.detection.check.fit import crowded, fit_anchors, imbalance, tiny
from resdet.detection.check.objects import ObjectTable
from resdet.detection.check.split import name_list
from resdet.detection.data.annotations import Annotations
from resdet.detection.data.config import ScenesConfig
from resdet.errors import number_of

MOST_PAIRS = 10**6  # pairs of objects in an image to compare for copies


def brief(source: Annotations, validation: Annotations, data: ScenesConfig, grid: AnchorGrid) -> str | None:
    """Returns a sentence with a clause per finding; None if there are none."""
    train = ObjectTable.of(source)
    sentences = [*_of_objects(train, data, grid), *_of_classes(train, ObjectTable.of(validation), data)]
    return "; ".join(sentences) or None


def _of_objects(table: ObjectTable, data: ScenesConfig, grid: AnchorGrid) -> Iterator[str]:
    fit = fit_anchors(table, data, grid, search=False)
    if fit.too_low:
        yield f"{1 - fit.recall:.1%} of the training objects have no anchor of IoU 0.5 or more"
    if count := len(tiny(table, data)):
        yield f"{number_of(count, 'object is too small', 'objects are too small')} at the training scale"
    if count := len(list(crowded(table, data))):
        yield f"{number_of(count, 'image has', 'images have')} more than data.max_objects={data.max_objects} objects"
    objects = np.bincount(table.images)
    if (objects * (objects - 1)).sum() <= 2 * MOST_PAIRS and (pairs := copies(table.images, table.boxes, table.crowd)):
        yield f"{number_of(len(pairs), 'object is', 'objects are')} annotated twice"


def _of_classes(train: ObjectTable, validation: ObjectTable, data: ScenesConfig) -> Iterator[str]:
    for split, table in (("training", train), ("validation", validation)):
        empty = [table.classes[label] for label in np.flatnonzero(table.label_counts() == 0)]
        if empty:
            number = number_of(len(empty), "category has", "categories have")
            yield f"{number} no {split} objects ({name_list(empty, 3)})"
    rare = [train.classes[label] for label in imbalance(train, data).rare()]
    if rare and data.sampling == "uniform":
        number = number_of(len(rare), "category is", "categories are")
        yield f"{number} rare ({name_list(rare, 3)}): see data.sampling=repeat_factor"
