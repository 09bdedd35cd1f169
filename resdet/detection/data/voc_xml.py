"""Writes the XML of VOC and ILSVRC for generated data."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from resdet.detection.data.voc import CORNERS

Corners = tuple[int, int, int, int]  # xmin, ymin, xmax, ymax; the last pixel is included


class XmlObject(NamedTuple):
    """An object to write; `tags`: further elements, such as trackid."""

    name: str
    corners: Corners
    tags: Mapping[str, object] = {}


def to_xml(shape: Sequence[int], objects: Sequence[XmlObject]) -> str:
    """Returns the content of the XML file of an image [H, W, 3]."""
    size = f"<size><width>{shape[1]}</width><height>{shape[0]}</height><depth>3</depth></size>"
    return f"<annotation>{size}{''.join(map(_element, objects))}</annotation>\n"


def box_of(mask: np.ndarray) -> Corners:
    """Returns the box around a mask [H, W], counting pixels from 0, as ILSVRC does."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def _element(item: XmlObject) -> str:
    corners = "".join(f"<{corner}>{value}</{corner}>" for corner, value in zip(CORNERS, item.corners))
    tags = "".join(f"<{tag}>{value}</{tag}>" for tag, value in item.tags.items())
    return f"<object><name>{item.name}</name><bndbox>{corners}</bndbox>{tags}</object>"
