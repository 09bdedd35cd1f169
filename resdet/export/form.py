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


DEFAULT = Form()
