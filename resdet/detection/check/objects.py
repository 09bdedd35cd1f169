"""Objects used in training, and their sides at the training scale."""

from dataclasses import dataclass

import numpy as np

from resdet.detection.data.annotations import Annotations, unique_pairs
from resdet.detection.data.augment_config import SceneConfig


@dataclass
class ObjectTable:
    """M objects of N images, by ascending image."""

    sizes: np.ndarray  # int [N, 2]: width, height
    images: np.ndarray  # int64 [M]: indices of the images
    boxes: np.ndarray  # float [M, 4], xyxy within the image
    labels: np.ndarray  # int64 [M]
    crowd: np.ndarray  # bool [M]
    classes: list[str]

    @classmethod
    def of(cls, source: Annotations) -> "ObjectTable":
        arrays = source.arrays
        images = np.repeat(np.arange(len(source)), np.diff(arrays["starts"]))
        return cls(source.sizes, images, arrays["boxes"], arrays["labels"], arrays["crowd"], source.classes)

    def __len__(self) -> int:
        return len(self.boxes)

    def resized(self, augment: SceneConfig) -> tuple[np.ndarray, np.ndarray]:
        """Returns boxes float64 [M, 4] and image sizes float64 [N, 2] at the training scale."""
        sizes = np.asarray(self.sizes, np.float64)
        short, long = training_sides(augment)
        known = (sizes > 0).all(1)
        scales = np.where(known, np.minimum(short / sizes.min(1).clip(1), long / sizes.max(1).clip(1)), 1)
        return self.boxes * scales[self.images, None], np.rint(sizes * scales[:, None])

    def presence(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the unique pairs of image and class, without crowds: image indices [k] and labels [k], by image."""
        return unique_pairs(self.images, self.labels, self.crowd)

    def label_counts(self) -> np.ndarray:
        """Counts objects per class, without crowds, int64 [C]."""
        return np.bincount(self.labels[~self.crowd], minlength=len(self.classes))


def training_sides(augment: SceneConfig) -> tuple[float, float]:
    """Returns the short and long sides at the augmentation's middle scale: the median of `min_size`, or the mean factor
    of `scale_jitter`."""
    if augment.scale_jitter:
        side = augment.jitter_size * sum(augment.scale_jitter) / 2
        return side, side
    return float(np.median(augment.min_size)), float(augment.max_size)
