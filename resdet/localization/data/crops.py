"""Training batches for localization (appendix C): section 3.4's random crops, with the boxes carried along."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from resdet.data.color import pca_color
from resdet.data.loader import Loader, Notes
from resdet.data.samplers import ShuffleSampler, generator_for
from resdet.errors import DataError
from resdet.images.crops import resample, resized
from resdet.localization.data.config import LocalizationConfig, LocAugmentConfig
from resdet.structures import Batch, Images, Targets, bucket

# What a crop leaves less of is neither learned nor punished: nobody could tell its box from so little.
LEAST_VISIBLE = 0.25


class Crop(NamedTuple):
    """A training crop on its way into a batch."""

    pixels: np.ndarray | None  # uint8 [S, S, 3]; None: it could not be read
    boxes: np.ndarray  # float32 [n, 4], xyxy within the crop
    crowd: np.ndarray  # bool [n]: too little of it is left
    label: int
    index: int
    note: str = ""


class CropSamples(Dataset):
    """(position, index) -> a crop, drawn by randomness that belongs to the position."""

    def __init__(self, source: Any, config: LocalizationConfig, seed: int):
        self.source, self.config, self.seed = source, config, seed

    def __getitem__(self, key: tuple[int, int]) -> Crop:
        position, index = key
        label = int(self.source.labels[index])
        try:
            pixels, boxes = self.crop(index, generator_for(self.seed, 0, position))
        except DataError as error:
            if self.config.on_bad_image == "error":
                raise
            return Crop(None, np.zeros((0, 4), np.float32), np.zeros(0, bool), label, index, str(error))
        clipped, crowd = within(boxes, self.config.size)
        return Crop(pixels, clipped, crowd, label, index)

    def crop(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Pixels, and all boxes of the image in them, reaching out where they do."""
        image, size, augment = self.source.image(index), self.config.size, self.config.augment
        window = random_window(image.size, rng, size, augment)
        pixels = resample(image, tuple(window), (size, size))
        boxes = boxes_in(self.source, index, image.size)
        boxes = (boxes - np.tile(window[:2], 2)) * np.tile(size / window[2:], 2)
        if rng.random() < augment.flip:
            pixels, boxes = cv2.flip(pixels, 1), mirrored(boxes, size)
        return (pca_color(pixels, rng, std=augment.pca_color) if augment.pca_color else pixels), boxes


def random_window(full: tuple[int, int], rng: np.random.Generator, size: int, augment: LocAugmentConfig) -> np.ndarray:
    """Section 3.4's crop as (x, y, width, height) in the image's own pixels: a random square at a random short side."""
    short = int(rng.integers(augment.short[0], augment.short[1], endpoint=True))
    sides = resized(full, short)
    corner = [int(rng.integers(0, side - size, endpoint=True)) for side in sides]
    return np.array([*corner, size, size]) * np.tile(np.divide(full, sides), 2)


def boxes_in(source: Any, index: int, size: Sequence[float]) -> np.ndarray:
    """The boxes [n, 4] of an image in pixels of it at a size (width, height): those of a few were drawn in another."""
    return source.boxes(index) * np.tile(np.divide(size, source.sizes[index]), 2)


def mirrored(boxes: np.ndarray, width: float) -> np.ndarray:
    """Left to right, in a picture of this width."""
    return np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)


def within(boxes: np.ndarray, limits: int | Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """What a crop shows of the boxes: clipped, those in sight alone; and of which too little is left, bool.

    `limits`: the crop's side, or where it is no square its width and height, twice.
    """
    clipped = np.clip(boxes, 0, limits)
    area, left = ((part[:, 2:] - part[:, :2]).clip(0).prod(1) for part in (boxes, clipped))
    seen = left > 0
    return clipped[seen].astype(np.float32), (left < LEAST_VISIBLE * area)[seen]


def collate_crops(crops: list[Crop], size: int, most: int) -> tuple[Batch, list[str]]:
    """A batch whose labels [B, G] tell the image's class at every place, whether there is an object or not.

    What could not be read has size 0, and teaches nothing.
    """
    pixels = np.stack([np.zeros((size, size, 3), np.uint8) if crop.pixels is None else crop.pixels for crop in crops])
    sides = torch.tensor([[0.0 if crop.pixels is None else size] * 2 for crop in crops])
    images = Images(torch.from_numpy(pixels).permute(0, 3, 1, 2), sides)
    labels = [crop.label for crop in crops]
    targets = targets_of([crop.boxes for crop in crops], [crop.crowd for crop in crops], labels, most)
    indices = torch.tensor([crop.index for crop in crops])
    return Batch(images, targets, indices), [crop.note for crop in crops if crop.note]


def targets_of(boxes: Sequence[np.ndarray], crowd: Sequence[np.ndarray], labels: Sequence[int], most: int) -> Targets:
    """What `within` left of each image's boxes, at most so many, the largest; and the image's label at every place."""
    room = bucket(max(map(len, boxes)), most)
    targets = Targets(
        boxes=torch.zeros(len(boxes), room, 4),
        labels=torch.tensor(labels)[:, None].expand(-1, room).contiguous(),
        valid=torch.zeros(len(boxes), room, dtype=torch.bool),
        crowd=torch.zeros(len(boxes), room, dtype=torch.bool),
    )
    for row, (own, hidden) in enumerate(zip(boxes, crowd)):
        areas = (own[:, 2:] - own[:, :2]).prod(1)
        largest = np.argsort(-areas, kind="stable")[:room]
        targets.boxes[row, : len(largest)] = torch.from_numpy(own[largest])
        targets.crowd[row, : len(largest)] = torch.from_numpy(hidden[largest])
        targets.valid[row, : len(largest)] = True
    return targets


class CropLoader(Loader):
    """Training batches of crops, without end from any step."""

    def __init__(
        self,
        source: Any,
        config: LocalizationConfig,
        batch: int,
        seed: int,
        device: torch.device,
        notes: Notes,
        rank: int = 0,
        world: int = 1,
    ):
        order = ShuffleSampler(len(source), seed)
        super().__init__(
            CropSamples(source, config, seed),
            lambda step: order.take(step * batch, (step + 1) * batch),
            order.steps_per_pass(batch),
            partial(collate_crops, size=config.size, most=config.max_objects),
            config.workers,
            device,
            notes,
            rank,
            world,
        )
