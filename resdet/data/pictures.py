"""The images of a data set without their labels."""

from collections.abc import Sequence
from typing import Any


class Pictures(Sequence):
    """The images of a source alone, as a sequence."""

    def __init__(self, source: Any):
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Any:
        return self.source.image(index)
