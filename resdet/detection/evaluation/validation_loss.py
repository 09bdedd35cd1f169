"""Validation losses, averaged over all images of all processes."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from resdet.engine.distributed import gather


class LossSums:
    """Of the images of this process; a loss that a batch does not name was zero there."""

    def __init__(self):
        self.sums: dict[str, Tensor] = {}  # on the device: nothing waits for them
        self.images = 0

    def add(self, losses: Mapping[str, Tensor], images: int) -> None:
        """The mean losses of so many images."""
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0) + value * images
        self.images += images

    def means(self) -> dict[str, float]:
        """Over the images of all processes, which must all ask."""
        return mean_losses(gather([({name: float(value) for name, value in self.sums.items()}, self.images)]))


def mean_losses(shares: Sequence[tuple[dict[str, float], int]]) -> dict[str, float]:
    """Of sums over so many images each; a loss that a share does not name was zero there."""
    total = max(sum(images for _, images in shares), 1)
    names = {name: None for sums, _ in shares for name in sums}
    return {name: sum(sums.get(name, 0.0) for sums, _ in shares) / total for name in names}
