"""Generated videos of moving shapes in the layout of ILSVRC VID, and images in the layout of DET.

Shape k is written as VID's class k, since the layout only has names for these classes. A video has one or two shapes of
different classes in front of a still background, each slow, medium or fast by motion IoU, bouncing off the borders.
Seed, split and index determine each video and image.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from resdet.data import output_folder
from resdet.data.shapes import CLASSES, clutter, ground
from resdet.detection.data import shape_scenes
from resdet.detection.data.ilsvrc_classes import DET, VID
from resdet.detection.data.shape_scenes import Canvas, Object, turned
from resdet.detection.data.voc_xml import XmlObject, box_of, to_xml

FORMAT = 1  # version of the generated data; a change invalidates older folders
MARKER = "shape_vid.json"
STREAMS = {"train": 0, "val": 1, "DET": 2}
SYNSETS = list(VID)[: len(CLASSES)]  # one per shape

SPEEDS = (0.002, 0.025, 0.12)  # diameters per frame
DIAMETERS = (0.25, 0.5)  # range, as fractions of the side
TWO = 0.5  # fraction of videos with two shapes
NOISE = 6  # standard deviation


class Mover(NamedTuple):
    """A moving shape."""

    label: int
    radius: float
    start: np.ndarray  # [2]: center in the first frame
    step: np.ndarray  # [2]: shift per frame
    seed: int  # for pose and color


def write(root: Path, train: int, val: int, frames: int, det: int, side: int, seed: int) -> None:
    """Writes `train` and `val` videos of `frames` frames and `det` images into `root`, which must be empty or absent,
    atomically."""
    root = Path(root)
    output_folder.refuse_filled(root)
    ensure(root, train, val, frames, det, side, seed)


def ensure(root: Path, train: int, val: int, frames: int, det: int, side: int, seed: int) -> None:
    """As `write`, but does nothing if the same data set exists. Safe in concurrent processes."""
    arguments = {"format": FORMAT, "train": train, "val": val, "frames": frames, "det": det, "side": side, "seed": seed}
    output_folder.ensure(root, MARKER, "videos", arguments, lambda folder: _write(folder / "ILSVRC", arguments))


def draw(index: int, frames: int, side: int, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, list[Object]]]:
    """Yields the frames of video `index`, uint8 [side, side, 3], and the visible parts of its shapes."""
    background = ground(side, side, rng)
    for _ in range(3):
        clutter(background, rng)
    labels = [index % len(CLASSES), (index + 1) % len(CLASSES)][: 2 if rng.random() < TWO else 1]
    movers = [_mover(label, SPEEDS[(index + k) % len(SPEEDS)], side, rng) for k, label in enumerate(labels)]
    for number in range(frames):
        canvas = Canvas(background.copy())
        for mover in movers:
            alike = np.random.default_rng(mover.seed)  # the same pose and color in each frame
            center = _bounced(mover.start + number * mover.step, mover.radius, side)
            canvas.add(mover.label, [turned(CLASSES[mover.label], mover.radius, center, alike)], alike)
        noise = rng.normal(0, NOISE, canvas.pixels.shape)
        yield (canvas.pixels + noise).clip(0, 255).astype(np.uint8), canvas.objects()


def _mover(label: int, speed: float, side: int, rng: np.random.Generator) -> Mover:
    radius = side * rng.uniform(*DIAMETERS) / 2
    angle = rng.uniform(0, 2 * np.pi)
    step = 2 * radius * speed * np.array((np.cos(angle), np.sin(angle)))
    return Mover(label, radius, rng.uniform(radius, side - radius, 2), step, int(rng.integers(2**32)))


def _bounced(center: np.ndarray, radius: float, side: int) -> np.ndarray:
    """Reflects the center at the borders as often as needed to stay inside."""
    room = side - 2 * radius
    return radius + room - np.abs((center - radius) % (2 * room) - room)


def _write(root: Path, arguments: dict[str, Any]) -> None:
    lists: dict[str, list[str]] = {f"VID/train_{number}": [] for number in range(1, len(VID) + 1)}
    numbers = {synset: number for number, synset in enumerate(DET, 1)}
    lists |= {f"DET/train_{numbers[synset]}": [] for synset in VID} | {"VID/val": []}
    for index in range(arguments["train"]):
        video = f"ILSVRC2015_VID_train_{index // 1000:04d}/ILSVRC2015_train_{index:08d}"
        for label in sorted(set(_write_video(root, "train", video, index, arguments))):
            lists[f"VID/train_{label + 1}"].append(f"{video} 1")
    for index in range(arguments["val"]):
        video = f"ILSVRC2015_val_{index:08d}"
        _write_video(root, "val", video, index, arguments)
        first = index * arguments["frames"] + 1
        lists["VID/val"] += [f"{video}/{number:06d} {first + number}" for number in range(arguments["frames"])]
    for index in range(arguments["det"]):
        stem = f"ILSVRC2014_train_0000/ILSVRC2014_train_{index:08d}"
        scene = shape_scenes.draw(arguments["side"], CLASSES, _random("DET", index, arguments))
        objects = [XmlObject(SYNSETS[item.label], box_of(item.mask)) for item in scene.objects]
        _put(root, f"DET/train/{stem}", scene.pixels, objects)
        for label in sorted({item.label for item in scene.objects}):
            lists[f"DET/train_{numbers[SYNSETS[label]]}"].append(f"{stem} 1")
    for name, lines in lists.items():
        output_folder.put(root / f"ImageSets/{name}.txt", "".join(f"{line}\n" for line in lines).encode())


def _write_video(root: Path, split: str, video: str, index: int, arguments: dict[str, Any]) -> list[int]:
    """Writes a video and returns the labels of its objects."""
    labels = []
    frames = draw(index, arguments["frames"], arguments["side"], _random(split, index, arguments))
    for number, (pixels, items) in enumerate(frames):
        objects = [
            XmlObject(SYNSETS[item.label], box_of(item.mask), {"trackid": item.label, "occluded": 0, "generated": 0})
            for item in items
        ]
        _put(root, f"VID/{split}/{video}/{number:06d}", pixels, objects)
        labels += [item.label for item in items]
    return labels


def _put(root: Path, stem: str, pixels: np.ndarray, objects: list[XmlObject]) -> None:
    output_folder.put(root / f"Data/{stem}.JPEG", pixels)
    output_folder.put(root / f"Annotations/{stem}.xml", to_xml(pixels.shape, objects).encode())


def _random(stream: str, index: int, arguments: dict[str, Any]) -> np.random.Generator:
    return np.random.default_rng((arguments["seed"], STREAMS[stream], index))
