"""Batches of decoded, augmented images, made by worker processes and brought to the device."""

import atexit
import logging
import os
import signal
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from resdet.data.samplers import ShuffleSampler, generator_for
from resdet.errors import DataError, Error
from resdet.structures import Batch

log = logging.getLogger(__name__)


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


RUNNING: weakref.WeakSet = weakref.WeakSet()  # iterators whose workers are alive


@atexit.register  # before multiprocessing's own, which waits for the workers and sends them a signal that they ignore
def stop_workers() -> None:
    for batches in list(RUNNING):
        if hasattr(batches, "_shutdown_workers"):
            batches._shutdown_workers()


def prepare_worker(_: int) -> None:
    """Leaves signals that go to a whole group of processes to the main process, which ends its workers itself; and
    stops OpenCV's own threads, which would fight over the cores with the other workers."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    import cv2

    cv2.setNumThreads(0)


@dataclass
class Notes:
    """What workers report of the data, numbered, through `say`; once for all that is alike up to the first colon."""

    title: ClassVar[str] = "note on the data"
    say: Callable[[str], None]
    seen: set[str] = field(default_factory=set)

    def note(self, sentences: list[str]) -> None:
        for sentence in sentences:
            subject = sentence.partition(": ")[0]
            if subject not in self.seen:
                self.seen.add(subject)
                self.say(f"{self.title} {len(self.seen)}: {sentence}")


class Skipped(Notes):
    """Images that could not be read, and why."""

    title = "skipped image"


class Loader:
    """Training batches without end from any step; each process makes its share of the batch.

    `row(step)` gives the images of a step, [batch]; a sample's key is its position, by which its randomness is
    drawn, and its image. `collate` makes a batch and sentences for `notes` of samples.
    """

    def __init__(
        self,
        samples: Dataset,
        row: Callable[[int], np.ndarray],
        steps_per_epoch: float,
        collate: Callable[[list], tuple[Any, list[str]]],
        workers: int,
        device: torch.device,
        notes: Notes,
        rank: int = 0,
        world: int = 1,
    ):
        self.samples, self.row, self.steps_per_epoch, self.collate = samples, row, steps_per_epoch, collate
        self.workers, self.device, self.notes = worker_count(workers), device, notes
        self.rank, self.world = rank, world

    def keys(self, first_step: int) -> Iterator[list[tuple[int, int]]]:
        """The (position, index) pairs of this process, step after step."""
        step = first_step
        while True:
            images = self.row(step).tolist()
            share = len(images) // self.world
            mine = range(self.rank * share, (self.rank + 1) * share)
            yield [(step * len(images) + slot, images[slot]) for slot in mine]
            step += 1

    def batches(self, first_step: int) -> Iterator[Any]:
        made = collated(self.samples, self.keys(first_step), self.collate, self.workers, self.device)
        return to_device(made, self.device, self.notes)


class TrainingLoader(Loader):
    """A classifier's."""

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
        order = ShuffleSampler(len(samples.source), samples.seed, repeats)
        row = lambda step: order.take(step * batch, (step + 1) * batch)
        super().__init__(samples, row, order.steps_per_pass(batch), collate, workers, device, skipped, rank, world)


def collated(
    samples: Dataset,
    keys: Iterable[list],
    collate: Callable[[list], tuple[Any, list[str]]],
    workers: int,
    device: torch.device,
) -> Iterator[tuple[Any, list[str]]]:
    """What `collate` makes of the samples of each list of keys, in worker processes.

    When one of them dies, as for want of memory, all are started again and make its batches anew; an Error where that
    does not help.
    """
    pending = PendingKeys(keys)
    loader = DataLoader(
        Guarded(samples),
        batch_sampler=pending,
        num_workers=workers,
        collate_fn=GuardedCollate(collate),
        pin_memory=device.type == "cuda",
        worker_init_fn=prepare_worker,
    )
    died_at = None  # batches that were made before
    while True:
        try:
            for made in iterate(loader):
                if isinstance(made, Error):
                    raise made
                pending.finish()
                yield made
            return
        except (RuntimeError, ConnectionError, EOFError) as error:
            if not (workers and is_death(error)):
                raise
            if pending.done == died_at:
                raise Error(
                    "Loader workers died twice at the same batch, for want of memory or by a crash in a decoder: "
                    "lower data.workers, or set it to 0 to see the crash."
                ) from error
            died_at = pending.done
            log.warning("a worker of the loader died, perhaps for want of memory; its batches are made anew")


def iterate(loader: DataLoader) -> Iterator[Any]:
    """Its batches. torch's handler of SIGCHLD, which would raise in the midst of a step when a worker dies, is taken
    away: the death is noticed where its batch is waited for."""
    former = signal.getsignal(signal.SIGCHLD)
    batches = iter(loader)
    RUNNING.add(batches)
    if former is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, former)
    yield from batches


def is_death(error: Exception) -> bool:
    """Whether it says that a worker died: by torch's sentence, or by a broken connection to one."""
    return not isinstance(error, RuntimeError) or str(error).startswith("DataLoader worker (pid")


class PendingKeys:
    """Keys for a loader, which come again when it is iterated again, but for those that are finished."""

    def __init__(self, keys: Iterable[list]):
        self.rest = iter(keys)
        self.pending: deque[list] = deque()
        self.done = 0

    def __iter__(self) -> Iterator[list]:
        yield from list(self.pending)
        for key in self.rest:
            self.pending.append(key)
            yield key

    def finish(self) -> None:
        """The first of the pending keys needs not come again."""
        self.pending.popleft()
        self.done += 1


class Guarded(Dataset):
    """A user's error is a sample of its own: DataLoader would bury its sentence in a worker's traceback."""

    def __init__(self, samples: Dataset):
        self.samples = samples

    def __getitem__(self, key: Any) -> Any:
        try:
            return self.samples[key]
        except Error as error:
            return error


class GuardedCollate:
    """The first error among the samples, or what `collate` makes of them."""

    def __init__(self, collate: Callable[[list], Any]):
        self.collate = collate

    def __call__(self, samples: list) -> Any:
        return next((sample for sample in samples if isinstance(sample, Error)), None) or self.collate(samples)


def to_device(made: Iterable[tuple[Any, list[str]]], device: torch.device, notes: Notes) -> Iterator[Any]:
    """Keeps one batch under way to the device while another is worked on. None is a batch of which nothing was left."""
    under_way: deque[Any] = deque()
    for batch, sentences in made:
        notes.note(sentences)
        if batch is not None:
            under_way.append(batch.to(device))
        if len(under_way) > 1:
            yield under_way.popleft()
    yield from under_way
