"""Scenes to a batch: pictures padded to one shape, objects to one count."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from resdet.detection.data.buckets import Shape
from resdet.detection.data.scene import Scene
from resdet.detection.data.segmentation import Pair
from resdet.structures import Batch, Images, Targets

FEWEST = 8  # objects that every batch has room for
MAX_OBJECTS = 256
WITHOUT_SEGMENT = (
    "objects without a segmentation are neither learned nor punished, because masks are to be learned: "
    "give them one, or train without masks"
)


class Sample(NamedTuple):
    """A scene on its way into a batch."""

    scene: Scene | None  # None: it could not be read
    index: int
    name: str
    note: str = ""
    scale: Pair = (1.0, 1.0)  # resized / as annotated, across and down


def collate_scenes(
    samples: list[Sample],
    shape: Callable[[int, int], Shape],
    max_objects: int = MAX_OBJECTS,
    mask_size: int | None = None,
) -> tuple[Batch, list[str]]:
    """A batch, and a sentence for each thing that was left out of it.

    Pictures are padded with 0, channels last in memory, to what `shape` says of the largest height and width. There
    is room for 8, 16, 32, … or `max_objects` objects, those that are learned before the crowds; of more, the largest
    stay. With `mask_size` the masks come too, and what has none counts as a crowd.
    """
    notes = [sample.note for sample in samples if sample.note]
    scenes = []
    for sample in samples:
        scene = sample.scene
        if scene is None:
            scene = unreadable()
        if mask_size and None in scene.segments:
            scene = without_segment_as_crowd(scene)
            notes.append(WITHOUT_SEGMENT)
        if len(scene) > max_objects:
            notes.append(f"{sample.name} has more than {max_objects} objects: the largest are used of {len(scene)}")
        scenes.append(in_order(scene, max_objects))
    images = Images(pad_pictures(scenes, shape), sizes_of(samples))
    indices = torch.tensor([sample.index for sample in samples])
    return Batch(images, pad_objects(scenes, max_objects, mask_size), indices), notes


def unreadable() -> Scene:
    """A black pixel."""
    pixels, boxes = np.zeros((1, 1, 3), np.uint8), np.zeros((0, 4), np.float32)
    return Scene(pixels, boxes, np.zeros(0, np.int64), np.zeros(0, bool), [])


def without_segment_as_crowd(scene: Scene) -> Scene:
    missing = np.array([segment is None for segment in scene.segments])
    return replace(scene, crowd=scene.crowd | missing)


def in_order(scene: Scene, most: int) -> Scene:
    """The largest objects, by falling area, crowds last."""
    areas = (scene.boxes[:, 2:] - scene.boxes[:, :2]).prod(1)
    largest = np.argsort(-areas, kind="stable")[:most]
    return scene.select(largest[np.argsort(scene.crowd[largest], kind="stable")])


def sizes_of(samples: list[Sample]) -> Tensor:
    """Heights and widths, [B, 2] float32; 0 of what could not be read."""
    sizes = [(0, 0) if sample.scene is None else sample.scene.pixels.shape[:2] for sample in samples]
    return torch.tensor(sizes, dtype=torch.float32)


def pad_pictures(scenes: list[Scene], shape: Callable[[int, int], Shape]) -> Tensor:
    """[B, 3, H, W], each picture in its upper left corner; float where any is."""
    heights, widths, _ = zip(*(scene.pixels.shape for scene in scenes))
    kind = np.result_type(*(scene.pixels.dtype for scene in scenes))
    padded = np.zeros((len(scenes), *shape(max(heights), max(widths)), 3), kind)
    for place, scene in zip(padded, scenes):
        place[: scene.size[1], : scene.size[0]] = scene.pixels
    return torch.from_numpy(padded).permute(0, 3, 1, 2)


def pad_objects(scenes: list[Scene], most: int, mask_size: int | None) -> Targets:
    """The objects of each scene, [B, G, …]."""
    places = (len(scenes), room(max(map(len, scenes)), most))
    boxes, labels = np.zeros((*places, 4), np.float32), np.zeros(places, np.int64)
    valid, crowd = np.zeros(places, bool), np.zeros(places, bool)
    masks = np.zeros((*places, mask_size, mask_size), np.uint8) if mask_size else None
    for i, scene in enumerate(scenes):
        count = len(scene)
        boxes[i, :count], labels[i, :count], crowd[i, :count] = scene.boxes, scene.labels, scene.crowd
        valid[i, :count] = True
        if mask_size:
            draw_masks(scene, masks[i])
    fields = (boxes, labels, valid, crowd, masks)
    return Targets(*(None if field is None else torch.from_numpy(field) for field in fields))


def room(count: int, most: int) -> int:
    """The smallest of 8, 16, 32, … and `most` that holds so many objects."""
    places = FEWEST
    while places < count:
        places *= 2
    return min(places, most)


def draw_masks(scene: Scene, masks: np.ndarray) -> None:
    """Each learned object's mask, stretched over its box, into `masks` [G, m, m]."""
    for number in np.flatnonzero(~scene.crowd):
        masks[number] = scene.segments[number].crop(scene.boxes[number], masks.shape[1])
