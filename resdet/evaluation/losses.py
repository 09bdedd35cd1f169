"""Validation losses, averaged over all images of all processes."""

from typing import Sequence


def mean_losses(shares: Sequence[tuple[dict[str, float], int]]) -> dict[str, float]:
    """Of sums over so many images each; a loss that a share does not name was zero there."""
    total = max(sum(images for _, images in shares), 1)
    names = {name: None for sums, _ in shares for name in sums}
    return {name: sum(sums.get(name, 0.0) for sums, _ in shares) / total for name in names}
