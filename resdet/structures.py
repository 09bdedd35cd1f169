"""Records that travel through the house: tensors that belong together, under one name."""

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """Images on the device with their labels."""

    images: Tensor  # [B, 3, H, W] uint8, RGB; float where images were mixed
    targets: Tensor  # [B] int64, -1 where the image is to be left out; [B, C] float where images were mixed
    indices: Tensor  # [B] int64 on the CPU: which images of the data set these are

    def parts(self, count: int) -> list["Batch"]:
        """The batch in `count` equal parts, for gradient accumulation."""
        return [Batch(*fields) for fields in zip(*(field.chunk(count) for field in self))]
