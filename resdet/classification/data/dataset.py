"""Images with one label each as a map-style dataset."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

Sample = tuple[Tensor, int]


class ClassificationDataset(Dataset[Sample]):
    """(image, label) for each image: uint8 RGB [3, H, W], mapped by `transform`, and an index into `classes`, -1 for an
    unlabeled image."""

    def __init__(self, source: Any, transform: Callable[[Tensor], Any] | None = None):
        """`source` has `labels`, `classes` and `image(index)`."""
        self.source, self.transform = source, transform
        self.classes: list[str] = source.classes

    def __len__(self) -> int:
        return len(self.source.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = self.image(index)
        return self.transform(image) if self.transform else image, int(self.source.labels[index])

    def image(self, index: int) -> Tensor:
        """Returns an image, uint8 RGB [3, H, W]."""
        return torch.from_numpy(self.source.image(index).decode()).permute(2, 0, 1).contiguous()


class PixelDataset(ClassificationDataset):
    """The same for images in memory: `source` has `images` uint8 [N, 3, H, W] instead of `image(index)`."""

    def image(self, index: int) -> Tensor:
        return torch.from_numpy(self.source.images[index])
