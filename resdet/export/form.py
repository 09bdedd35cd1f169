"""Export options."""

from dataclasses import dataclass
from typing import Literal

Place = Literal["inside", "outside"]


@dataclass(frozen=True)
class Form:
    """Properties of an exported file."""

    shape: tuple[int, int] | None = None  # height and width of the images; None: the model's test size
    dynamic_batch: bool = False  # any batch size instead of one
    nms: Place = "inside"  # place of a detector's final NMS; that of proposals is always in the graph
    masks: Place = "outside"  # place where masks in boxes are pasted into the image

    @property
    def example_batch(self) -> int:
        """Images of the example to trace; two for a dynamic batch, since torch.export treats one as constant."""
        return 2 if self.dynamic_batch else 1


DEFAULT = Form()
