"""Training batches of a classifier: decoded and augmented images with their labels."""

from collections.abc import Callable

import numpy as np
import torch
from torch.utils.data import Dataset

from resdet.data.loader import Loader, Skipped, skip_or_raise
from resdet.data.samplers import ShuffleSampler, generator_for
from resdet.errors import DataError
from resdet.images.decode import Source
from resdet.structures import Batch


class Samples(Dataset):
    """(position, index) -> pixels [S, S, 3], label, index, message; a damaged image raises or gets the label -1."""

    def __init__(self, source: Source, transform: Callable, seed: int, size: int, on_bad_image: str):
        self.source, self.transform, self.seed = source, transform, seed
        self.size, self.on_bad_image = size, on_bad_image

    def __getitem__(self, key: tuple[int, int]) -> tuple[np.ndarray, int, int, str]:
        position, index = key
        try:
            pixels = self.transform(self.source.image(index), generator_for(self.seed, 0, position))
        except DataError as error:
            message = skip_or_raise(error, self.on_bad_image)
            return np.zeros((self.size, self.size, 3), np.uint8), -1, index, message
        return pixels, int(self.source.labels[index]), index, ""


def collate(samples: list[tuple[np.ndarray, int, int, str]]) -> tuple[Batch, list[str]]:
    """Returns a batch with images uint8 [B, 3, H, W] (channels last in memory), and the messages of skipped images."""
    pixels, labels, indices, reasons = zip(*samples)
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)
    return Batch(images, torch.tensor(labels), torch.tensor(indices)), [reason for reason in reasons if reason]


class TrainingLoader(Loader):
    """Training batches of a classifier."""

    def __init__(
        self,
        samples: Samples,
        batch: int,
        repeats: int,
        workers: int,
        device: torch.device,
        skipped: Skipped,
        rank: int = 0,
        world: int = 1,
    ):
        sampler = ShuffleSampler(len(samples.source), batch, samples.seed, repeats)
        super().__init__(samples, sampler, collate, workers, device, skipped, rank, world)
