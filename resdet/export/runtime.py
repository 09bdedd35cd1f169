"""The interface of the runtimes of exported files."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

Shapes = dict[str, list[Any]]  # by name; a dynamic size is not an int


class Shared:
    """Deep copies are the object itself: a compiled graph keeps nothing between calls, and cannot be copied."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "Shared":
        return self


class Runtime(Protocol):
    """The graph of a file, ready to run."""

    name: str
    precision: str  # of floating-point computation: "f32", …
    inputs: Shapes
    outputs: Shapes

    def run(self, arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The outputs in order; a WeightsError if the graph fails."""
