"""Resampling of images for imbalanced classes: expected copies per epoch, the `copies` of GroupedSampler.

`presence_images` and `presence_labels` are the unique pairs of image and class.
"""

import numpy as np


def repeat_factors(
    presence_images: np.ndarray, presence_labels: np.ndarray, count_images: int, threshold: float
) -> np.ndarray:
    """Returns copies for repeat-factor sampling as in LVIS (arXiv 1908.03195): float [N].

    The repeat factor of a class is sqrt(t / f) for threshold t and share f of images with the class; an image takes the
    maximum over its classes, at least 1.
    """
    share = np.bincount(presence_labels) / count_images
    factors = np.sqrt(threshold / np.maximum(share, 1 / count_images))
    copies = np.ones(count_images)
    np.maximum.at(copies, presence_images, factors[presence_labels])
    return copies


def class_aware(
    presence_images: np.ndarray, presence_labels: np.ndarray, count_images: int, negatives: float = 0.0
) -> np.ndarray:
    """Returns copies for class-aware sampling, uniform over classes, then over a class's images: float [N], with sum N.

    `negatives`, 0 to 1, is the share of images without objects; ignored if all images or none have objects.
    """
    images_of = np.bincount(presence_labels)
    weights = np.bincount(presence_images, 1 / images_of[presence_labels], count_images)
    empty = weights == 0
    share = negatives if 0 < empty.sum() < count_images else float(empty.all())
    copies = np.where(empty, share / max(1, empty.sum()), (1 - share) * weights / max(1, weights.sum()))
    return copies * count_images
