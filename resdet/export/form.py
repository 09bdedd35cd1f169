"""The options of an export."""

from dataclasses import dataclass
from typing import Literal

Place = Literal["inside", "outside"]


@dataclass(frozen=True)
class Form:
    """What an exported file shall be like."""

    shape: tuple[int, int] | None = None  # height and width of its images; None: the model's test size
    dynamic_batch: bool = False  # any number of images at once, instead of one
    nms: Place = "inside"  # a detector's last suppression; that of its proposals is always in the graph
    masks: Place = "outside"  # where the mask of a box becomes one of the whole image


DEFAULT = Form()
