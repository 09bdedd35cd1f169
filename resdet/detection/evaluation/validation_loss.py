"""Validation losses, averaged over the images of all processes."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from resdet.engine.distributed import gather


class LossSums:
    """Sums over the images of this process; a loss missing from a batch counts as zero."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}  # on the device, without a host sync
        self.images = 0

    def add(self, losses: Mapping[str, Tensor], images: int) -> None:
        """Adds the mean losses of `images` images."""
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0) + value * images
        self.images += images

    def means(self) -> dict[str, float]:
        """Returns the means over the images of all processes; collective, so every process must call it."""
        return mean_losses(gather([({name: float(value) for name, value in self.sums.items()}, self.images)]))


def mean_losses(shares: Sequence[tuple[dict[str, float], int]]) -> dict[str, float]:
    """Computes means from (sums, number of images) of each process; a missing loss counts as zero."""
    total = max(sum(images for _, images in shares), 1)
    names = {name: None for sums, _ in shares for name in sums}
    return {name: sum(sums.get(name, 0.0) for sums, _ in shares) / total for name in names}
