"""Generates small in-memory localization data: striped or checkered rectangles of two classes."""

import numpy as np

from resdet.images.decode import RawImage

CLASSES = ["n00000001", "n00000002"]  # striped, checkered


class Painted:
    """Has the interface of `LocalizedImages`; each image has one object, at the given box."""

    def __init__(self, boxes, labels, size=(48, 48), seed=0):
        """Takes integer `boxes` [N, 4] in xyxy order and one `size` (width, height) for all images."""
        rng = np.random.default_rng(seed)
        self.classes, self.problems = CLASSES, []
        self.labels = np.array(labels, np.int64)
        self.things = np.array(boxes, np.float32)
        self.sizes = np.tile(np.array(size, np.int32), (len(labels), 1))
        self.pixels = [paint(box, label, size, rng) for box, label in zip(self.things.astype(int), labels)]

    @classmethod
    def random(cls, count, size=(48, 48), sides=(16, 40), seed=0):
        """Places objects at random; `sides` is the inclusive range of their width and height."""
        rng = np.random.default_rng((seed, 1))
        extent = rng.integers(*sides, (count, 2), endpoint=True)
        corner = np.stack([rng.integers(0, np.array(size) - own, endpoint=True) for own in extent])
        return cls(np.concatenate([corner, corner + extent], 1), np.arange(count) % len(CLASSES), size, seed)

    def __len__(self):
        return len(self.labels)

    def name(self, i):
        return f"painted/ILSVRC2012_val_{i + 1:08d}.JPEG"

    def image(self, i):
        return RawImage(self.pixels[i], self.name(i))

    def boxes(self, i):
        return self.things[i : i + 1].copy()


class Ramp(Painted):
    """Images whose colors encode the position: red is 2x and green 2y, in an image of 100×80."""

    def __init__(self):
        super().__init__([[20, 30, 60, 70]], [1], (100, 80))
        y, x = np.mgrid[:80, :100] + 0.5
        self.pixels = [np.stack([2 * x, 2 * y, np.zeros_like(x)], 2).astype(np.uint8)]


def paint(box, label, size, rng):
    y, x = np.mgrid[: size[1], : size[0]]
    pattern = (x // 3) % 2 if label == 0 else (x // 3 + y // 3) % 2
    ground = rng.uniform(60, 190) + rng.normal(0, 8, (size[1], size[0], 3))
    inside = (x >= box[0]) & (x < box[2]) & (y >= box[1]) & (y < box[3])
    colors = np.array([(230, 60, 40), (40, 60, 210)])
    return np.where(inside[..., None], colors[pattern], ground).clip(0, 255).astype(np.uint8)
