"""Collates scenes to a batch, padding images to one shape and objects to one count."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from resdet.detection.data.buckets import Shape
from resdet.detection.data.scene import Scene
from resdet.structures import Batch, Images, Targets

MIN_OBJECTS = 8  # smallest padded count
MAX_OBJECTS = 256
COMPILED_ROOM = 32  # compiled steps pad objects to this count or to the maximum: two graphs per image shape
WITHOUT_SEGMENT = (
    "objects without a segmentation are ignored when training masks: give them one, or train without masks"
)


class TargetFormat(NamedTuple):
    """Content of a batch for the objects of each image."""

    max_objects: int = MAX_OBJECTS  # per image; the largest are kept
    mask_size: int | None = None  # side of the masks; None: no masks
    keypoints: int | None = None  # number of keypoints per object; None: no keypoints
    rooms: Sequence[int] = ()  # padded object counts below `max_objects`; empty: 8, 16, 32, …


BOXES = TargetFormat()


class Sample(NamedTuple):
    """A scene with its image index, name, and a note for the log."""

    scene: Scene | None  # None: could not be read
    index: int  # type: ignore[assignment]  # hides tuple.index
    name: str
    note: str = ""


def collate_scenes(
    samples: list[Sample],
    shape: Callable[[int, int], Shape],
    form: TargetFormat = BOXES,
) -> tuple[Batch, list[str]]:
    """Returns a batch, and notes on omitted content.

    Images are padded with 0 to `shape` of the largest height and width, in channels_last format. Crowds come last; with
    masks, objects without segmentation count as crowds.
    """
    notes = [sample.note for sample in samples if sample.note]
    scenes = []
    for sample in samples:
        scene = sample.scene
        if scene is None:
            scene = empty_scene()
        if form.mask_size and None in scene.segments:
            scene = without_segment_as_crowd(scene)
            notes.append(WITHOUT_SEGMENT)
        if len(scene) > form.max_objects:
            notes.append(
                f"{sample.name} has more than {form.max_objects} objects: only the largest of {len(scene)} are used"
            )
        scenes.append(largest_first(scene, form.max_objects))
    images = Images(pad_images(scenes, shape), sizes_of(samples))
    indices = torch.tensor([sample.index for sample in samples])
    return Batch(images, pad_objects(scenes, form), indices), notes


def empty_scene() -> Scene:
    """Returns a black pixel without objects, in place of an unreadable image."""
    pixels, boxes = np.zeros((1, 1, 3), np.uint8), np.zeros((0, 4), np.float32)
    return Scene(pixels, boxes, np.zeros(0, np.int64), np.zeros(0, bool), [])


def without_segment_as_crowd(scene: Scene) -> Scene:
    missing = np.array([segment is None for segment in scene.segments])
    return replace(scene, crowd=scene.crowd | missing)


def largest_first(scene: Scene, count: int) -> Scene:
    """Keeps the `count` largest objects, by descending area, crowds last."""
    areas = (scene.boxes[:, 2:] - scene.boxes[:, :2]).prod(1)
    largest = np.argsort(-areas, kind="stable")[:count]
    return scene.select(largest[np.argsort(scene.crowd[largest], kind="stable")])


def sizes_of(samples: list[Sample]) -> Tensor:
    """Returns heights and widths, [B, 2] float32; 0 for unreadable images."""
    sizes = [(0, 0) if sample.scene is None else sample.scene.pixels.shape[:2] for sample in samples]
    return torch.tensor(sizes, dtype=torch.float32)


def pad_images(scenes: list[Scene], shape: Callable[[int, int], Shape]) -> Tensor:
    """Pads to [B, 3, H, W], each image in the upper left corner; float if any image is."""
    heights, widths, _ = zip(*(scene.pixels.shape for scene in scenes))
    dtype = np.result_type(*(scene.pixels.dtype for scene in scenes))
    padded = np.zeros((len(scenes), *shape(max(heights), max(widths)), 3), dtype)
    for slot, scene in zip(padded, scenes):
        slot[: scene.size[1], : scene.size[0]] = scene.pixels
    return torch.from_numpy(padded).permute(0, 3, 1, 2)


def pad_objects(scenes: list[Scene], form: TargetFormat) -> Targets:
    """Pads the objects of each scene to [B, G, …]."""
    mask_size, keypoints = form.mask_size, form.keypoints
    shape = (len(scenes), padded_count(max(map(len, scenes)), form.max_objects, form.rooms))
    boxes, labels = np.zeros((*shape, 4), np.float32), np.zeros(shape, np.int64)
    valid, crowd = np.zeros(shape, bool), np.zeros(shape, bool)
    masks = np.zeros((*shape, mask_size, mask_size), np.uint8) if mask_size else None
    points = np.zeros((*shape, keypoints, 3), np.float32) if keypoints else None
    for i, scene in enumerate(scenes):
        count = len(scene)
        boxes[i, :count], labels[i, :count], crowd[i, :count] = scene.boxes, scene.labels, scene.crowd
        valid[i, :count] = True
        if masks is not None:
            draw_masks(scene, masks[i])
        if points is not None and scene.keypoints is not None:
            points[i, :count] = scene.keypoints.points
    optional = (None if column is None else torch.from_numpy(column) for column in (masks, points))
    return Targets(*map(torch.from_numpy, (boxes, labels, valid, crowd)), *optional)


def padded_count(count: int, limit: int, rooms: Sequence[int] = ()) -> int:
    """Returns the smallest of `rooms`, or of 8, 16, 32, …, that is at least `count`; at most `limit`."""
    sizes = rooms or [MIN_OBJECTS << n for n in range(limit.bit_length())]
    return min([limit, *(size for size in sizes if size >= count)])


def draw_masks(scene: Scene, masks: np.ndarray) -> None:
    """Writes each object's mask, cropped to its box, into `masks` [G, m, m]; skips crowds."""
    for i in np.flatnonzero(~scene.crowd).tolist():
        segment = scene.segments[i]
        assert segment is not None  # without_segment_as_crowd
        masks[i] = segment.crop(scene.boxes[i], masks.shape[1])
