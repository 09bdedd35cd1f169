"""How often images come in a pass where classes are unequally frequent: `copies` for GroupedSampler.

The images and labels given are the pairs of an image and a class that occurs in it, each pair once.
"""

import numpy as np


def repeat_factors(
    presence_images: np.ndarray, presence_labels: np.ndarray, count_images: int, threshold: float
) -> np.ndarray:
    """LVIS's repeat-factor sampling (arXiv 1908.03195): float [N].

    Classes in a smaller share f of the images than `threshold` t ask for sqrt(t / f) copies; an image gets what the
    most demanding of its classes asks for, and no image less than one copy.
    """
    share = np.bincount(presence_labels) / count_images
    wanted = np.sqrt(threshold / np.maximum(share, 1 / count_images))
    copies = np.ones(count_images)
    np.maximum.at(copies, presence_images, wanted[presence_labels])
    return copies


def class_aware(
    presence_images: np.ndarray, presence_labels: np.ndarray, count_images: int, negatives: float = 0.0
) -> np.ndarray:
    """Each class as often as any other, and within a class each image: float [N], N in all.

    `negatives` is the share of the pass, from 0 to 1, that goes to the images without objects; without them, or
    without any objects, there is nothing to divide and the rest gets all.
    """
    images_of = np.bincount(presence_labels)
    weights = np.bincount(presence_images, 1 / images_of[presence_labels], count_images)
    empty = weights == 0
    share = negatives if 0 < empty.sum() < count_images else float(empty.all())
    copies = np.where(empty, share / max(1, empty.sum()), (1 - share) * weights / max(1, weights.sum()))
    return copies * count_images
