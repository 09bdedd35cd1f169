"""Training batches for localization (appendix C): section 3.4's random crops, with boxes."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from resdet.data.color import pca_color
from resdet.data.loader import Loader, Notes, skip_or_raise
from resdet.data.samplers import ShuffleSampler, generator_for
from resdet.errors import DataError
from resdet.images.crops import resample, resized
from resdet.localization.data.config import LocalizationConfig, LocAugmentConfig
from resdet.localization.data.ilsvrc_loc import LocalizedImages
from resdet.structures import Batch, Images, Targets, bucket

# Objects with a smaller visible fraction are ignored in training: the visible part does not determine the box.
MIN_VISIBLE = 0.25


class Crop(NamedTuple):
    """A training crop and its boxes."""

    pixels: np.ndarray | None  # uint8 [S, S, 3]; None for an unreadable image
    boxes: np.ndarray  # float32 [n, 4], xyxy within the crop
    crowd: np.ndarray  # bool [n]: the visible part is too small
    label: int
    image: int  # index in the source
    note: str = ""


class CropSamples(Dataset):
    """(position, index) -> a random crop, seeded by the position."""

    def __init__(self, source: LocalizedImages, config: LocalizationConfig, seed: int):
        self.source, self.config, self.seed = source, config, seed

    def __getitem__(self, key: tuple[int, int]) -> Crop:
        position, index = key
        label = int(self.source.labels[index])
        try:
            pixels, boxes = self.crop(index, generator_for(self.seed, 0, position))
        except DataError as error:
            message = skip_or_raise(error, self.config.on_bad_image)
            return Crop(None, np.zeros((0, 4), np.float32), np.zeros(0, bool), label, index, message)
        clipped, crowd = clip_boxes(boxes, self.config.size)
        return Crop(pixels, clipped, crowd, label, index)

    def crop(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Returns the pixels of a random crop, and all boxes of the image in its coordinates, not clipped."""
        image, size, augment = self.source.image(index), self.config.size, self.config.augment
        window = random_window(image.size, rng, size, augment)
        x, y, width, height = window
        pixels = resample(image, (x, y, width, height), (size, size))
        boxes = scaled_boxes(self.source, index, image.size)
        boxes = (boxes - np.tile(window[:2], 2)) * np.tile(size / window[2:], 2)
        if rng.random() < augment.flip:
            pixels, boxes = cv2.flip(pixels, 1), mirror_boxes(boxes, size)
        return (pca_color(pixels, rng, std=augment.pca_color) if augment.pca_color else pixels), boxes


def random_window(full: tuple[int, int], rng: np.random.Generator, size: int, augment: LocAugmentConfig) -> np.ndarray:
    """Returns section 3.4's crop, a random square at a random short side, as (x, y, width, height) in image pixels."""
    short = int(rng.integers(augment.short[0], augment.short[1], endpoint=True))
    sides = resized(full, short)
    corner = [int(rng.integers(0, side - size, endpoint=True)) for side in sides]
    return np.array([*corner, size, size]) * np.tile(np.divide(full, sides), 2)


def scaled_boxes(source: LocalizedImages, index: int, size: Sequence[float] | np.ndarray) -> np.ndarray:
    """Returns the boxes [n, 4] of an image at a size (width, height); a few images were annotated at another size."""
    return source.boxes(index) * np.tile(np.divide(size, source.sizes[index]), 2)


def mirror_boxes(boxes: np.ndarray, width: float) -> np.ndarray:
    """Mirrors boxes left to right in an image of this width."""
    return np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)


def clip_boxes(boxes: np.ndarray, limits: int | Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Clips boxes to a crop and removes invisible ones; also returns a bool, whether the visible fraction is too small.

    `limits` is the side of a square crop, or its width and height, twice.
    """
    clipped = np.clip(boxes, 0, limits)
    area, clipped_area = ((part[:, 2:] - part[:, :2]).clip(0).prod(1) for part in (boxes, clipped))
    visible = clipped_area > 0
    return clipped[visible].astype(np.float32), (clipped_area < MIN_VISIBLE * area)[visible]


def collate_crops(crops: list[Crop], size: int, max_objects: int) -> tuple[Batch, list[str]]:
    """Returns a batch and the messages of unreadable images; all labels [B, G] are the image's class, including
    padding.

    An unreadable image has size 0, which excludes it from the losses.
    """
    pixels = np.stack([np.zeros((size, size, 3), np.uint8) if crop.pixels is None else crop.pixels for crop in crops])
    sides = torch.tensor([[0.0 if crop.pixels is None else size] * 2 for crop in crops])
    images = Images(torch.from_numpy(pixels).permute(0, 3, 1, 2), sides)
    labels = [crop.label for crop in crops]
    targets = build_targets([crop.boxes for crop in crops], [crop.crowd for crop in crops], labels, max_objects)
    indices = torch.tensor([crop.image for crop in crops])
    return Batch(images, targets, indices), [crop.note for crop in crops if crop.note]


def build_targets(
    boxes: Sequence[np.ndarray], crowd: Sequence[np.ndarray], labels: Sequence[int] | np.ndarray, max_objects: int
) -> Targets:
    """Builds targets from the clipped boxes of each image, the largest ones first; all labels are the image's class."""
    room = bucket(max(map(len, boxes)), max_objects)
    targets = Targets(
        boxes=torch.zeros(len(boxes), room, 4),
        labels=torch.tensor(labels)[:, None].expand(-1, room).contiguous(),
        valid=torch.zeros(len(boxes), room, dtype=torch.bool),
        crowd=torch.zeros(len(boxes), room, dtype=torch.bool),
    )
    for row, (corners, ignored) in enumerate(zip(boxes, crowd)):
        areas = (corners[:, 2:] - corners[:, :2]).prod(1)
        largest = np.argsort(-areas, kind="stable")[:room]
        targets.boxes[row, : len(largest)] = torch.from_numpy(corners[largest])
        targets.crowd[row, : len(largest)] = torch.from_numpy(ignored[largest])
        targets.valid[row, : len(largest)] = True
    return targets


class CropLoader(Loader):
    """An endless stream of training batches of crops, from any step."""

    def __init__(
        self,
        source: LocalizedImages,
        config: LocalizationConfig,
        batch: int,
        seed: int,
        device: torch.device,
        notes: Notes,
        rank: int = 0,
        world: int = 1,
    ):
        super().__init__(
            CropSamples(source, config, seed),
            ShuffleSampler(len(source), batch, seed),
            partial(collate_crops, size=config.size, max_objects=config.max_objects),
            config.workers,
            device,
            notes,
            rank,
            world,
        )
