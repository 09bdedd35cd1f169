"""Which image comes when: an endless, reproducible order that depends on the seed and the position alone.

Step s of a run takes positions s·B to (s+1)·B of this order, however many processes share the batch and however
often the run was cut and resumed. Each pass over the data is a new permutation. A classifier's passes follow without
a gap (`ShuffleSampler`); a detector's batches are of pictures of like proportions, and a pass is a whole number of them
(`GroupedSampler`).
"""

import numpy as np


class ShuffleSampler:
    """Positions to image indices; `repeats` puts each image that many times in a row (repeated augmentation)."""

    def __init__(self, count: int, seed: int, repeats: int = 1):
        self.count, self.seed, self.repeats = count, seed, repeats
        self._permutation = (-1, np.empty(0, np.int64))  # the pass that was asked for last

    def permutation(self, number: int) -> np.ndarray:
        """The order of images in one pass over the data, [N]."""
        if self._permutation[0] != number:
            self._permutation = (number, np.random.default_rng((self.seed, number)).permutation(self.count))
        return self._permutation[1]

    def take(self, start: int, stop: int) -> np.ndarray:
        """The images at positions start to stop, [stop - start] int64."""
        slots = np.arange(start, stop) // self.repeats
        passes, places = np.divmod(slots, self.count)
        return np.concatenate([self.permutation(int(p))[places[passes == p]] for p in np.unique(passes)])

    def steps_per_pass(self, batch: int) -> float:
        return self.count * self.repeats / batch


class GroupedSampler:
    """Whole batches whose images are of one group as far as possible.

    What whole batches of a group leave over shares batches with neighboring groups, so that nothing is lost; images
    of the same pass fill its last batch. `copies` [N] says how often each image is expected in a pass: what is beyond
    whole numbers is drawn by systematic sampling, which keeps the number of batches the same in all passes.
    """

    def __init__(self, groups: np.ndarray, batch: int, seed: int, copies: np.ndarray | None = None):
        self.groups, self.batch, self.seed = np.asarray(groups), batch, seed
        expected = np.ones(len(self.groups)) if copies is None else np.asarray(copies, np.float64)
        self.images_per_pass = max(1, round(float(expected.sum())))
        self.copies = expected * (self.images_per_pass / expected.sum())
        self._rows = -(-self.images_per_pass // batch)
        self.steps_per_pass = float(self._rows)
        self._pass = (-1, np.empty((0, batch), np.int64))  # the one that was asked for last

    def row(self, step: int) -> np.ndarray:
        """The images of a step, [batch] int64."""
        number, place = divmod(step, self._rows)
        if self._pass[0] != number:
            self._pass = (number, self._batches(np.random.default_rng((self.seed, number))))
        return self._pass[1][place]

    def _batches(self, rng: np.random.Generator) -> np.ndarray:
        """The batches of a pass, [rows, batch] int64."""
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
        """Each image as often as it comes in a pass, in random order: int64 [images_per_pass]."""
        order = rng.permutation(len(self.groups))
        edges = np.append(0, np.cumsum(self.copies[order]))
        edges[-1] = self.images_per_pass  # whatever rounding made of the sum
        return rng.permutation(np.repeat(order, np.diff(np.floor(edges + rng.random())).astype(np.int64)))


def generator_for(*key: int) -> np.random.Generator:
    """Randomness that belongs to a (seed, position): the same in any process, in any order, after any restart."""
    return np.random.default_rng(key)
