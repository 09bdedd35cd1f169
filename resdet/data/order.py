"""Which image comes when: an endless, reproducible order that depends on the seed and the position alone.

Step s of a run takes positions s·B to (s+1)·B of this order, however many processes share the batch and however
often the run was cut and resumed. Each pass over the data is a new permutation; passes follow without a gap.
"""

import numpy as np


class Order:
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


def generator_for(*key: int) -> np.random.Generator:
    """Randomness that belongs to a (seed, position): the same in any process, in any order, after any restart."""
    return np.random.default_rng(key)
