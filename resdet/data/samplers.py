"""Samplers: an endless, reproducible order of the images that depends only on the seed and the position.

Step s of a run takes positions s·B to (s+1)·B of this order, regardless of the number of processes and of resumes. Each
pass over the data is a new permutation. `ShuffleSampler`, for classifiers, joins passes without a gap;
`GroupedSampler`, for detectors, batches images of similar aspect ratio, and a pass is a whole number of batches.
"""

from typing import Protocol

import numpy as np


class Sampler(Protocol):
    """The order of the images in batches."""

    steps_per_epoch: float

    def row(self, step: int) -> np.ndarray:
        """Returns the images of a step, [batch] int64."""


class ShuffleSampler:
    """Concatenates passes over the images; each image occurs `repeats` times in a row (repeated augmentation)."""

    def __init__(self, count: int, batch: int, seed: int, repeats: int = 1):
        self.count, self.batch, self.seed, self.repeats = count, batch, seed, repeats
        self.steps_per_epoch = count * repeats / batch
        self._permutation = (-1, np.empty(0, np.int64))  # the last requested pass

    def permutation(self, number: int) -> np.ndarray:
        """Returns the order of images in one pass over the data, [N]."""
        if self._permutation[0] != number:
            self._permutation = (number, np.random.default_rng((self.seed, number)).permutation(self.count))
        return self._permutation[1]

    def row(self, step: int) -> np.ndarray:
        """Returns the images of a step, [batch] int64."""
        slots = np.arange(step * self.batch, (step + 1) * self.batch) // self.repeats
        passes, places = np.divmod(slots, self.count)
        return np.concatenate([self.permutation(int(p))[places[passes == p]] for p in np.unique(passes)])


class GroupedSampler:
    """Builds whole batches, each from images of one group where possible.

    The remaining images of a group share batches with neighboring groups, so that none is dropped; images of the same
    pass fill its last batch. `copies` [N] is the expected number of copies of each image in a pass; fractions are drawn
    by systematic sampling, so that all passes have the same number of batches.
    """

    def __init__(self, groups: np.ndarray, batch: int, seed: int, copies: np.ndarray | None = None):
        self.groups, self.batch, self.seed = np.asarray(groups), batch, seed
        expected = np.ones(len(self.groups)) if copies is None else np.asarray(copies, np.float64)
        self.images_per_pass = max(1, round(float(expected.sum())))
        self.copies = expected * (self.images_per_pass / expected.sum())
        self._rows = -(-self.images_per_pass // batch)
        self.steps_per_epoch = float(self._rows)
        self._pass = (-1, np.empty((0, batch), np.int64))  # the last requested pass

    def row(self, step: int) -> np.ndarray:
        """Returns the images of a step, [batch] int64."""
        number, place = divmod(step, self._rows)
        if self._pass[0] != number:
            self._pass = (number, self._batches(np.random.default_rng((self.seed, number))))
        return self._pass[1][place]

    def _batches(self, rng: np.random.Generator) -> np.ndarray:
        """Returns the batches of a pass, [rows, batch] int64."""
        images = self._images(rng)
        images = images[np.argsort(self.groups[images], kind="stable")]
        _, first, group, counts = np.unique(
            self.groups[images], return_index=True, return_inverse=True, return_counts=True
        )
        left_over = np.arange(len(images)) - first[group] >= (counts // self.batch * self.batch)[group]
        filling = np.resize(images[first[-1] :], self._rows * self.batch - len(images))
        batches = np.concatenate([images[~left_over], images[left_over], filling]).reshape(-1, self.batch)
        return rng.permutation(batches)

    def _images(self, rng: np.random.Generator) -> np.ndarray:
        """Returns the images of a pass in random order, with repetitions: int64 [images_per_pass]."""
        order = rng.permutation(len(self.groups))
        edges = np.append(0, np.cumsum(self.copies[order]))
        edges[-1] = self.images_per_pass  # exact, despite rounding of the sum
        return rng.permutation(np.repeat(order, np.diff(np.floor(edges + rng.random())).astype(np.int64)))


def generator_for(*key: int) -> np.random.Generator:
    """Returns a generator seeded by a key such as (seed, position): independent of process, order and restarts."""
    return np.random.default_rng(key)
