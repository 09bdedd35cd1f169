"""Generated detection data: scenes of shapes, written as images with a COCO file per split.

A scene has up to seven shapes of 8 to 60% of its short side, possibly cut by the border or occluded by later shapes, on
the shaded and noisy background of `resdet.data.shapes`, with strokes behind and in front. Some scenes are empty, some
have a crowd. Annotations cover the visible parts. Seed, split and index determine each image.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from resdet.data import output_folder
from resdet.data.shapes import OUTLINES, Stroke, clutter, contrasting, fill, ground, line, pose, stroke
from resdet.detection.data.outlines import polygons_of
from resdet.errors import DataError
from resdet.files.atomic import make_folder

FORMAT = 1  # version of images and files; increment it on changes to invalidate existing folders
MARKER = "shape_scenes.json"
DEFAULT_CLASSES = ("circle", "triangle", "square", "star", "cross")
STREAMS = {"train": 0, "val": 1}

EMPTY, CROWDED = 0.06, 0.08  # shares of scenes
DIAMETERS = (0.08, 0.6)  # relative to the short side
TINY = (0.03, 0.06)  # diameters of a crowd's members
MIN_VISIBLE = 0.2  # visible share of a shape below which it is not annotated
SOLID = np.array([255.0])
Outlines = list[np.ndarray]


class Object(NamedTuple):
    label: int
    mask: np.ndarray  # bool [H, W], the visible part
    crowd: bool


class Scene(NamedTuple):
    pixels: np.ndarray  # uint8 [H, W, 3]
    objects: list[Object]


def write(root: Path, train: int, val: int, size: int, seed: int, classes: Sequence[str] | None = None) -> None:
    """Writes root/{train,val}/*.jpg and root/annotations/{train,val}.json; `root` must be empty or absent.

    `size` is the long side of the images; `classes` are any of `shapes.CLASSES` (default: five of them). The folder is
    created atomically.
    """
    root = Path(root)
    output_folder.refuse_filled(root)
    ensure(root, train, val, size, seed, classes)


def ensure(root: Path, train: int, val: int, size: int, seed: int, classes: Sequence[str] | None = None) -> None:
    """As `write`, but does nothing if the same data set exists. Safe in concurrent processes."""
    root = Path(root)
    names = list(DEFAULT_CLASSES if classes is None else classes)
    _check(names)
    arguments = {"format": FORMAT, "train": train, "val": val, "size": size, "seed": seed, "classes": names}
    output_folder.ensure(root, MARKER, "scenes", arguments, lambda folder: _write(folder, arguments))


def draw(size: int, classes: Sequence[str], rng: np.random.Generator) -> Scene:
    """Draws a scene with long side `size` and aspect ratio 3:4 to 4:3; labels are indices into `classes`."""
    aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
    width, height = round(size * min(1, aspect)), round(size * min(1, 1 / aspect))
    canvas = Canvas(ground(width, height, rng))
    for _ in range(rng.integers(0, 5)):
        clutter(canvas.pixels, rng)
    kind = rng.random()
    if kind < CROWDED:
        label = int(rng.integers(len(classes)))
        canvas.add(label, cluster(classes[label], width, height, rng), rng, crowd=True)
    if kind < 1 - EMPTY:
        for label in rng.integers(len(classes), size=rng.integers(1, 8)).tolist():
            canvas.add(label, [shape(classes[label], width, height, rng)], rng)
    for _ in range(rng.integers(0, 3)):
        canvas.hide(stroke(width, height, rng), rng)
    noise = rng.standard_normal(canvas.pixels.shape, np.float32) * np.float32(rng.uniform(2, 12))
    return Scene((canvas.pixels + noise).clip(0, 255).astype(np.uint8), canvas.objects())


def shape(name: str, width: int, height: int, rng: np.random.Generator) -> Outlines:
    """Creates a shape of random size and position, with its center at least half its radius from the border."""
    radius = min(width, height) * np.exp(rng.uniform(*np.log(DIAMETERS))) / 2
    return turned(name, radius, rng.uniform(radius / 2, np.array((width, height)) - radius / 2), rng)


def cluster(name: str, width: int, height: int, rng: np.random.Generator) -> list[Outlines]:
    """Creates tens of tiny shapes of one class, for a crowd."""
    side, middle = min(width, height), rng.uniform(0.2, 0.8, 2) * (width, height)
    centers = (middle + rng.normal(0, 0.12, (rng.integers(15, 40), 2)) * side).clip(0, (width, height))
    return [turned(name, rng.uniform(*TINY) * side / 2, center, rng) for center in centers]


def turned(name: str, radius: float, center: np.ndarray, rng: np.random.Generator) -> Outlines:
    return pose(OUTLINES[name](), rng.uniform(0, 2 * np.pi), rng.uniform(0.7, 1.0), radius, center)


class Canvas:
    """An image under construction, with the visible object of each pixel."""

    def __init__(self, pixels: np.ndarray):
        self.pixels = pixels
        self.owner = np.zeros(pixels.shape[:2], np.uint8)  # number of the visible object, from 1; 0 for none
        self.added: list[tuple[int, bool, int]] = []  # label, crowd, number of pixels when added

    def add(self, label: int, shapes: list[Outlines], rng: np.random.Generator, crowd: bool = False) -> None:
        """Adds an object of one or more shapes, each in a contrasting color, in front of earlier objects."""
        number = len(self.added) + 1
        for outlines in shapes:
            corners = np.concatenate(outlines)
            left, top = np.maximum(corners.min(0), 0).astype(int)
            right, bottom = np.ceil(corners.max(0)).astype(int)
            color = contrasting(self.pixels[top:bottom, left:right], rng)
            self._paint(lambda canvas, color: fill(canvas, outlines, color), color, number)
        self.added.append((label, crowd, int((self.owner == number).sum())))

    def hide(self, stroke: Stroke, rng: np.random.Generator) -> None:
        """Draws a stroke in front of all objects."""
        self._paint(lambda canvas, color: line(canvas, stroke, color), rng.uniform(0, 255, 3), 0)

    def objects(self) -> list[Object]:
        """Returns the visible parts of sufficiently visible objects."""
        masks = [self.owner == number for number in range(1, len(self.added) + 1)]
        return [
            Object(label, mask, crowd)
            for mask, (label, crowd, covered) in zip(masks, self.added)
            if mask.sum() > MIN_VISIBLE * covered
        ]

    def _paint(self, brush: Callable[[np.ndarray, np.ndarray], None], color: np.ndarray, number: int) -> None:
        brush(self.pixels, color)
        cover = np.zeros_like(self.owner)
        brush(cover, SOLID)
        self.owner[cover >= 128] = number  # antialiased pixels belong to the object with the largest share


def to_coco(item: Object) -> dict[str, Any]:
    """Returns an annotation without ids: polygons if the mask has no hole, else uncompressed RLE; RLE for crowds."""
    rows, columns = (np.flatnonzero(item.mask.any(axis)) for axis in (1, 0))
    x, y = int(columns[0]), int(rows[0])
    width, height = int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y
    rings, has_holes = polygons_of(item.mask[y : y + height, x : x + width], x, y)
    polygons = None if item.crowd or has_holes else rings
    return {
        "segmentation": _rle(item.mask) if polygons is None else polygons,
        "area": int(item.mask.sum()),
        "bbox": [x, y, width, height],
        "iscrowd": int(item.crowd),
    }


def _rle(mask: np.ndarray) -> dict[str, Any]:
    """Returns COCO's uncompressed RLE: column-major, zeros first."""
    values = np.concatenate([[False], mask.ravel(order="F")])
    changes = np.flatnonzero(values[1:] != values[:-1])
    return {"size": list(mask.shape), "counts": np.diff(changes, prepend=0, append=mask.size).tolist()}


def _check(classes: list[str]) -> None:
    unknown = [name for name in classes if name not in OUTLINES]
    if unknown or not classes or len(set(classes)) < len(classes):
        problem = f"there is no shape {unknown[0]!r}" if unknown else f"{classes} is not a list of different shapes"
        raise DataError(f"{problem}: choose from {', '.join(OUTLINES)}.")


def _write(root: Path, arguments: dict[str, Any]) -> None:
    for split in STREAMS:
        _write_split(root, split, arguments[split], arguments["size"], arguments["seed"], arguments["classes"])


def _write_split(root: Path, split: str, count: int, size: int, seed: int, classes: Sequence[str]) -> None:
    make_folder(root / split)
    category_ids = [1 + i * (i + 1) // 2 for i in range(len(classes))]  # 1, 2, 4, 7 …: with gaps, as in COCO
    categories = [{"id": id, "name": name, "supercategory": "shape"} for id, name in zip(category_ids, classes)]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(count):
        scene = draw(size, classes, np.random.default_rng((seed, STREAMS[split], index)))
        height, width = scene.pixels.shape[:2]
        image = {"id": index + 1, "file_name": f"{index + 1:06d}.jpg", "width": width, "height": height}
        output_folder.put(root / split / image["file_name"], scene.pixels)
        images.append(image)
        for item in scene.objects:
            ids = {"id": len(annotations) + 1, "image_id": image["id"], "category_id": category_ids[item.label]}
            annotations.append(ids | to_coco(item))
    content = {"images": images, "annotations": annotations, "categories": categories}
    output_folder.put(root / "annotations" / f"{split}.json", json.dumps(content).encode())
