"""The images of a data set without their labels."""

from collections.abc import Sequence
from typing import Any


class ImageSequence(Sequence):
    """The images of a source as a sequence; `source` has `image(index)` and a length."""

    def __init__(self, source: Any):
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: Any) -> Any:
        return self.source.image(index)
