"""The content of a report, which `resdet.report` renders: sections of tables, charts, matrices, images and texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from resdet.images.encode import encode_image
from resdet.results.plot import Line

Cell: TypeAlias = str | float | int | None
TRUTH = "truth"  # layer with the annotated objects
LARGEST = 8  # maximum enlargement of small images
SIDE, QUALITIES, BYTES = 480, (80, 60, 40, 20), 48_000  # long side, JPEG qualities and size limit of embedded images


@dataclass(frozen=True)
class Table:
    """Rows of cells; the first cell is a name."""

    key: str  # key in JSON
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""


@dataclass(frozen=True)
class Chart:
    """Lines with unique names over two axes that start at zero."""

    key: str
    title: str
    lines: Sequence[Line]
    x_label: str
    y_label: str
    note: str = ""
    top: float | None = None  # upper end of the vertical axis


@dataclass(frozen=True)
class Matrix:
    """Counts [R][C] of named rows and columns."""

    key: str
    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    counts: Sequence[Sequence[int]]
    note: str = ""


@dataclass(frozen=True, eq=False)
class Mark:
    """A box, xyxy in pixels of its picture, with a caption, and a mask and keypoints if known."""

    box: tuple[float, float, float, float]
    text: str
    rings: Sequence[np.ndarray] = ()  # [k, 2] each: outlines of the parts and holes of the mask
    points: Sequence[np.ndarray] = ()  # [2] each: keypoints
    limbs: Sequence[np.ndarray] = ()  # [2, 2] each: ends of a line between keypoints

    @classmethod
    def of(cls, box: np.ndarray, text: str) -> "Mark":
        left, top, right, bottom = box.tolist()
        return cls((left, top, right, bottom), text)

    def moved(self, stretch: np.ndarray, shift: np.ndarray | float = 0.0) -> "Mark":
        """Transforms all coordinates (x, y, x, y) by `stretch` and then minus `shift`."""
        stretch, shift = np.broadcast_to(stretch, 4), np.broadcast_to(shift, 4)
        rings, points, limbs = (
            [places * stretch[:2] - shift[:2] for places in group] for group in (self.rings, self.points, self.limbs)
        )
        return replace(
            Mark.of(np.array(self.box) * stretch - shift, self.text), rings=rings, points=points, limbs=limbs
        )


@dataclass(frozen=True)
class Picture:
    """An image with layers of marks that readers can show and hide."""

    name: str
    caption: str
    jpeg: bytes
    width: int
    height: int
    layers: Mapping[str, Sequence[Mark]] = field(default_factory=dict)


@dataclass(frozen=True)
class Gallery:
    key: str
    title: str
    pictures: Sequence[Picture]
    note: str = ""


@dataclass(frozen=True)
class Text:
    """A preformatted text, such as a config."""

    key: str
    title: str
    text: str


Part: TypeAlias = Table | Chart | Matrix | Gallery | Text


@dataclass(frozen=True)
class Section:
    key: str
    title: str
    parts: Sequence[Part]
    note: str = ""


def facts(key: str, title: str, values: Mapping[str, Cell], note: str = "") -> Table:
    """Builds a table of named values."""
    return Table(key, title, ("name", "value"), list(values.items()), note)


def picture(
    pixels: np.ndarray, name: str, caption: str, layers: Mapping[str, Sequence[Mark]] | None = None, side: int = SIDE
) -> Picture:
    """Resizes an image uint8 [H, W, 3] to at most `side` pixels, enlarging only by integers; keeps the marks that it
    contains at least in part."""
    import cv2

    long = max(pixels.shape[:2])
    scale = side / long if long > side else min(side // long, LARGEST)
    width, height = (max(1, round(length * scale)) for length in pixels.shape[1::-1])
    fitted = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    stretch = np.tile((width / pixels.shape[1], height / pixels.shape[0]), 2)
    moved = {layer: [mark.moved(stretch) for mark in marks] for layer, marks in (layers or {}).items()}
    inside = {layer: [mark for mark in marks if meets(mark, width, height)] for layer, marks in moved.items()}
    return Picture(name, caption, small_jpeg(fitted), width, height, inside)


def meets(mark: Mark, width: int, height: int) -> bool:
    """Whether a part of the box is inside an image of this size."""
    left, top, right, bottom = mark.box
    return left < width and top < height and right > 0 and bottom > 0


def small_jpeg(pixels: np.ndarray) -> bytes:
    """Encodes the image as JPEG, at the best quality of at most BYTES."""
    import cv2

    versions = (encode_image("image.jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality]) for quality in QUALITIES)
    smallest = b""
    for smallest in versions:
        if len(smallest) <= BYTES:
            break
    return smallest
