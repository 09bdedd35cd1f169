"""Training batches for the region-centric R-CNN (appendix C): one proposal per image."""

from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from resdet.data.color import pca_color
from resdet.data.loader import Loader, Notes, skip_or_raise
from resdet.data.samplers import ShuffleSampler, generator_for
from resdet.errors import DataError
from resdet.images.crops import rectangle
from resdet.images.statistics import IMAGENET_MEAN
from resdet.images.warp import warp
from resdet.localization.config import LocalizerRCNNConfig
from resdet.localization.data.config import LocalizationConfig
from resdet.localization.data.crops import mirror_boxes
from resdet.localization.data.ilsvrc_loc import LocalizedImages
from resdet.localization.data.proposals import ProposalFiles
from resdet.ops import boxes as box_ops
from resdet.structures import Batch, RegionTargets

SOURCE_SCALE = 2  # regions are cut from the image at a short side of this multiple of their size, antialiased


class Region(NamedTuple):
    """A warped proposal; box and object are in pixels at the annotated size."""

    pixels: np.ndarray  # uint8 [S, S, 3]
    box: np.ndarray  # float32 [4]
    object: np.ndarray  # float32 [4]: the object with the largest IoU
    label: int  # -1: ignored
    positive: bool
    image: int  # index in the source
    note: str = ""


def sample_region(
    boxes: np.ndarray, objects: np.ndarray, positive_iou: float, positives: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Samples a proposal from [n, 4]; also returns the object of [m, 4] with the largest IoU, and whether that reaches
    `positive_iou`.

    If there are positive and negative proposals, `positives` is the probability of a positive one.
    """
    overlaps = box_ops.iou(torch.from_numpy(boxes), torch.from_numpy(objects)).numpy()
    positive = overlaps.max(1) >= positive_iou
    candidates = positive == bool(rng.random() < positives)
    chosen = int(rng.choice(np.flatnonzero(candidates) if candidates.any() else len(boxes)))
    return boxes[chosen], objects[overlaps[chosen].argmax()], bool(positive[chosen])


class RegionSamples(Dataset):
    """(position, index) -> a random proposal of the image, seeded by the position."""

    def __init__(
        self,
        source: LocalizedImages,
        proposals: ProposalFiles,
        config: LocalizationConfig,
        model: LocalizerRCNNConfig,
        seed: int,
    ):
        self.source, self.proposals, self.config, self.model, self.seed = source, proposals, config, model, seed

    def __getitem__(self, key: tuple[int, int]) -> Region:
        position, index = key
        boxes = self.proposals[index]
        if not len(boxes):
            return self.empty(index, "")
        try:
            return self.region(index, boxes, generator_for(self.seed, 0, position))
        except DataError as error:
            return self.empty(index, skip_or_raise(error, self.config.on_bad_image))

    def region(self, index: int, boxes: np.ndarray, rng: np.random.Generator) -> Region:
        limit, share = self.model.positive_iou, self.model.positive_fraction
        box, target, positive = sample_region(boxes, self.source.boxes(index), limit, share, rng)
        pixels = self.pixels(index, box)
        if rng.random() < self.config.augment.flip:
            width = float(self.source.sizes[index][0])
            pixels, (box, target) = cv2.flip(pixels, 1), mirror_boxes(np.stack([box, target]), width)
        if self.config.augment.pca_color:
            pixels = pca_color(pixels, rng, std=self.config.augment.pca_color)
        return Region(pixels, box, target, int(self.source.labels[index]), positive, index)

    def pixels(self, index: int, box: np.ndarray) -> np.ndarray:
        image = rectangle(self.source.image(index), SOURCE_SCALE * self.config.size)
        scale = np.divide(image.shape[1::-1], self.source.sizes[index])
        boxes = torch.from_numpy(box * np.tile(scale, 2))[None]
        whole = torch.from_numpy(image).permute(2, 0, 1)
        region = warp(whole, boxes, self.config.size, self.model.context, IMAGENET_MEAN)[0]
        return np.ascontiguousarray(region.round().to(torch.uint8).permute(1, 2, 0).numpy())

    def empty(self, index: int, note: str) -> Region:
        """Returns the ignored sample of an unreadable image, or of one without proposals."""
        size = self.config.size
        box = np.zeros(4, np.float32)
        return Region(np.zeros((size, size, 3), np.uint8), box, box, -1, False, index, note)


def collate_regions(regions: list[Region]) -> tuple[Batch, list[str]]:
    pixels, boxes, objects, labels, positive, indices, notes = zip(*regions)
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)
    boxes, objects = (torch.from_numpy(np.stack(part).astype(np.float32)) for part in (boxes, objects))
    targets: Any = RegionTargets(boxes, objects, torch.tensor(labels), torch.tensor(positive))  # not in Batch's type
    return Batch(images, targets, torch.tensor(indices)), [note for note in notes if note]


class RegionLoader(Loader):
    """An endless stream of training batches of regions, from any step."""

    def __init__(
        self, samples: RegionSamples, batch: int, device: torch.device, notes: Notes, rank: int = 0, world: int = 1
    ):
        sampler = ShuffleSampler(len(samples.source), batch, samples.seed)
        super().__init__(samples, sampler, collate_regions, samples.config.workers, device, notes, rank, world)
