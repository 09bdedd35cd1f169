"""Generated localization data in ILSVRC's layout: images with shapes of one class.

An image has one to three textured shapes of its class, large and often off-center, on the shaded and noisy background
of `resdet.data.shapes`, with strokes and sometimes a smaller shape of another class, which has no box. One eighth of
the training images has no XML file, like most of ImageNet's. Image i of a seed is always the same.
"""

from pathlib import Path

import numpy as np

from resdet.data import output_folder
from resdet.data.shapes import CLASSES, clutter, ground, stroke
from resdet.detection.data.shape_scenes import Canvas, Object, turned
from resdet.detection.data.voc_xml import XmlObject, box_of, to_xml

FORMAT = 1  # version of the generated data; a change invalidates older folders
MARKER = "shape_loc.json"
STREAMS = {"train": 0, "val": 1}
SYNSETS = [f"n{number:08d}" for number in range(1, len(CLASSES) + 1)]  # one per class, like ILSVRC's

DIAMETERS = (0.35, 0.8)  # range, as fractions of the short side
SEVERAL, OTHER = 0.25, 0.25  # fractions of images with several instances, and with a shape of another class
UNBOXED = 8  # one of this many training images has no XML file


def write(root: Path, train: int, val: int, side: int, seed: int) -> None:
    """Writes Kaggle's layout of ILSVRC CLS-LOC into `root`, which must be empty or missing, atomically."""
    root = Path(root)
    output_folder.refuse_filled(root)
    ensure(root, train, val, side, seed)


def ensure(root: Path, train: int, val: int, side: int, seed: int) -> None:
    """Calls `write` unless `root` already contains the data set. Safe to call from several processes."""
    arguments = {"format": FORMAT, "train": train, "val": val, "side": side, "seed": seed}
    output_folder.ensure(root, MARKER, "images", arguments, lambda folder: _write(folder, arguments))


def draw(label: int, side: int, rng: np.random.Generator) -> tuple[np.ndarray, list[Object]]:
    """Draws an image of the class, uint8 [H, W, 3] with the long side `side`; returns it and its visible shapes."""
    aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
    width, height = round(side * min(1, aspect)), round(side * min(1, 1 / aspect))
    canvas = Canvas(ground(width, height, rng))
    for _ in range(rng.integers(0, 4)):
        clutter(canvas.pixels, rng)
    if rng.random() < OTHER:
        other = (label + int(rng.integers(1, len(CLASSES)))) % len(CLASSES)
        canvas.add(other, [_shape(other, width, height, 0.5, rng)], rng)
    count = int(rng.integers(2, 4)) if rng.random() < SEVERAL else 1
    for _ in range(count):
        canvas.add(label, [_shape(label, width, height, 1.0 if count == 1 else 0.6, rng)], rng)
    objects = canvas.objects()
    for item in objects:
        _texture(canvas.pixels, item.mask, rng)
    for _ in range(rng.integers(0, 2)):
        canvas.hide(stroke(width, height, rng), rng)
    noise = rng.standard_normal(canvas.pixels.shape, np.float32) * np.float32(rng.uniform(2, 12))
    pixels = (canvas.pixels + noise).clip(0, 255).astype(np.uint8)
    return pixels, [item for item in objects if item.label == label]


def _shape(label: int, width: int, height: int, scale: float, rng: np.random.Generator) -> list[np.ndarray]:
    """Returns outlines whose center is at least three quarters of the radius from the border."""
    radius = min(width, height) * rng.uniform(*DIAMETERS) * scale / 2
    center = rng.uniform(0.75 * radius, np.array((width, height)) - 0.75 * radius)
    return turned(CLASSES[label], radius, center, rng)


def _texture(pixels: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> None:
    """Draws stripes in a darker or lighter tone on the mask."""
    angle, period = rng.uniform(0, np.pi), max(4.0, mask.shape[0] * rng.uniform(0.04, 0.1))
    y, x = np.mgrid[: mask.shape[0], : mask.shape[1]]
    stripes = mask & ((np.cos(angle) * x + np.sin(angle) * y) / period % 1 < 0.5)
    pixels[stripes] = (pixels[stripes] * rng.uniform(0.55, 0.8) + rng.uniform(0, 60)).clip(0, 255).astype(np.uint8)


def _write(root: Path, arguments: dict) -> None:
    for split in STREAMS:
        _write_split(root, split, arguments[split], arguments["side"], arguments["seed"])
    words = (f"{synset} {name}\n" for synset, name in zip(SYNSETS, CLASSES))
    output_folder.put(root / "LOC_synset_mapping.txt", "".join(words).encode())


def _write_split(root: Path, split: str, count: int, side: int, seed: int) -> None:
    solution = ["ImageId,PredictionString"]
    for index in range(count):
        label = index % len(CLASSES)
        synset = SYNSETS[label]
        pixels, objects = draw(label, side, np.random.default_rng((seed, STREAMS[split], index)))
        stem = f"{synset}/{synset}_{index}" if split == "train" else f"ILSVRC2012_val_{index + 1:08d}"
        boxes = [box_of(item.mask) for item in objects]
        output_folder.put(root / "ILSVRC/Data/CLS-LOC" / split / f"{stem}.JPEG", pixels)
        if split == "val" or index % UNBOXED:
            xml = to_xml(pixels.shape, [XmlObject(synset, box) for box in boxes])
            output_folder.put(root / "ILSVRC/Annotations/CLS-LOC" / split / f"{stem}.xml", xml.encode())
        solution.append(f"{stem}," + "".join(f"{synset} {' '.join(map(str, box))} " for box in boxes))
    if split == "val":
        output_folder.put(root / "LOC_val_solution.csv", ("\n".join(solution) + "\n").encode())
