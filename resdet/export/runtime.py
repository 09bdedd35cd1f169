"""The interface of the runtimes of exported files."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

Shapes = dict[str, list[Any]]  # by name; a dynamic size is not an int


class Shared:
    """Deep copies return the object itself: a compiled graph has no state between calls and cannot be copied."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "Shared":
        return self


class Runtime(Protocol):
    """An exported graph that is ready to run."""

    name: str
    precision: str  # precision of floating-point computation, such as "f32"
    inputs: Shapes
    outputs: Shapes

    def run(self, arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Runs the graph and returns its outputs in order; raises a WeightsError if it fails."""
