"""Statistics per class: numbers of images and objects, sizes and aspect ratios at the training scale."""

from typing import Any

import numpy as np

from resdet.detection.check.objects import ObjectTable
from resdet.detection.data.augment_config import SceneConfig

QUANTILES = (0.05, 0.5, 0.95)


def class_statistics(table: ObjectTable, augment: SceneConfig) -> list[dict[str, Any]]:
    """Returns per class: name, images, objects, crowds, and the 5, 50 and 95% quantiles of `size` (root of the area in
    pixels) and `ratio` (height to width) at the training scale."""
    boxes, _ = table.resized(augment)
    sides = boxes[:, 2:] - boxes[:, :2]
    size, ratio = np.sqrt(sides.prod(1)), sides[:, 1] / sides[:, 0]
    counts, crowds = table.label_counts(), np.bincount(table.labels[table.crowd], minlength=len(table.classes))
    images = np.bincount(table.presence()[1], minlength=len(table.classes))
    return [
        {
            "name": name,
            "images": int(images[label]),
            "objects": int(counts[label]),
            "crowds": int(crowds[label]),
            "size": _quantiles(size[of_class := (table.labels == label) & ~table.crowd]),
            "ratio": _quantiles(ratio[of_class]),
        }
        for label, name in enumerate(table.classes)
    ]


def _quantiles(values: np.ndarray) -> list[float] | None:
    return [round(float(each), 3) for each in np.quantile(values, QUANTILES)] if len(values) else None
