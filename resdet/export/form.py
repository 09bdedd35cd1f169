"""Export options."""

from dataclasses import dataclass
from typing import Literal

Place = Literal["inside", "outside"]


@dataclass(frozen=True)
class Form:
    """Properties of an exported file."""

    shape: tuple[int, int] | None = None  # height and width of the images; None: the model's test size
    dynamic_batch: bool = False  # any batch size instead of 1
    nms: Place = "inside"  # whether a detector's final NMS is in the graph; the NMS of proposals always is
    masks: Place = "outside"  # whether the graph pastes masks into the image

    @property
    def example_batch(self) -> int:
        """Batch size for tracing: 2 for a dynamic batch, since torch.export specializes on 1."""
        return 2 if self.dynamic_batch else 1


DEFAULT = Form()
