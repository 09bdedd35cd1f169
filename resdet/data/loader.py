"""Batches of decoded, augmented images, made by worker processes and brought to the device."""

import os
from collections import deque
from dataclasses import dataclass
from typing import Any, Callable, Iterable, Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from resdet.data.order import Order, generator_for
from resdet.errors import DataError
from resdet.structures import Batch


def worker_count(workers: int) -> int:
    """-1 means one a core, eight at most."""
    return min(os.cpu_count() or 1, 8) if workers < 0 else workers


class Samples(Dataset):
    """(position, index) -> pixels [S, S, 3], label, index; what is damaged is an error, or counted as label -1."""

    def __init__(self, source: Any, transform: Callable, seed: int, size: int, on_bad_image: str):
        self.source, self.transform, self.seed = source, transform, seed
        self.size, self.on_bad_image = size, on_bad_image

    def __getitem__(self, key: tuple[int, int]) -> tuple[np.ndarray, int, int, str]:
        position, index = key
        try:
            pixels = self.transform(self.source.image(index), generator_for(self.seed, 0, position))
        except DataError as error:
            if self.on_bad_image == "error":
                raise
            return np.zeros((self.size, self.size, 3), np.uint8), -1, index, str(error)
        return pixels, int(self.source.labels[index]), index, ""


def collate(samples: list[tuple[np.ndarray, int, int, str]]) -> tuple[Batch, list[str]]:
    """A batch whose images are uint8 [B, 3, H, W] (channels last in memory), and why images were left out."""
    pixels, labels, indices, reasons = zip(*samples)
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)
    return Batch(images, torch.tensor(labels), torch.tensor(indices)), [reason for reason in reasons if reason]


def prepare_worker(_: int) -> None:
    """OpenCV's own threads would fight over the cores with the other workers."""
    import cv2

    cv2.setNumThreads(0)


@dataclass
class Skipped:
    """Images that could not be read, counted once each and reported through `say`."""

    say: Callable[[str], None]
    seen: set[str]

    def note(self, reasons: list[str]) -> None:
        for reason in reasons:
            if reason not in self.seen:
                self.seen.add(reason)
                self.say(f"skipped image {len(self.seen)}: {reason}")


class TrainingLoader:
    """Training batches without end from any step; each process gets its share of the batch."""

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
        self.samples, self.batch, self.workers = samples, batch, worker_count(workers)
        self.device, self.skipped = device, skipped
        self.rank, self.world = rank, world
        self.order = Order(len(samples.source), samples.seed, repeats)
        self.steps_per_epoch = self.order.steps_per_pass(batch)

    def keys(self, first_step: int) -> Iterator[list[tuple[int, int]]]:
        """The (position, index) pairs of this process, step after step."""
        share = self.batch // self.world
        start = first_step * self.batch + self.rank * share
        while True:
            yield list(zip(range(start, start + share), self.order.take(start, start + share).tolist()))
            start += self.batch

    def batches(self, first_step: int) -> Iterator[Batch]:
        return to_device(
            make_loader(self.samples, self.keys(first_step), self.workers, self.device), self.device, self.skipped
        )


def make_loader(
    samples: Samples, keys: Iterable[list[tuple[int, int]]], workers: int, device: torch.device
) -> DataLoader:
    return DataLoader(
        samples,
        batch_sampler=keys,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=device.type == "cuda",
        worker_init_fn=prepare_worker,
    )


def to_device(loader: Iterable[tuple[Batch, list[str]]], device: torch.device, skipped: Skipped) -> Iterator[Batch]:
    """Keeps one batch under way to the device while another is worked on."""
    under_way: deque[Batch] = deque()
    for batch, reasons in loader:
        skipped.note(reasons)
        images, targets = (t.to(device, non_blocking=True) for t in (batch.images, batch.targets))
        under_way.append(Batch(images, targets, batch.indices))
        if len(under_way) > 1:
            yield under_way.popleft()
    yield from under_way
