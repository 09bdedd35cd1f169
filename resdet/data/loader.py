"""Batches of decoded, augmented images, built by worker processes and copied to the device."""

import atexit
import logging
import os
import signal
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, ClassVar

import torch
from torch.utils.data import DataLoader, Dataset

from resdet.data.samplers import Sampler
from resdet.errors import DataError, Error
from resdet.structures import share, tensors_of
from resdet.system import CHILD_ENDED, STOP_SIGNALS, usable_cores

log = logging.getLogger(__name__)


def worker_count(workers: int) -> int:
    """Resolves -1 to one worker per core, at most eight; processes of torchrun on the same machine share its cores."""
    if workers >= 0:
        return workers
    return min(max(1, usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))), 8)


def skip_or_raise(error: DataError, on_bad_image: str) -> str:
    """Returns the message about an unreadable image of a data set; raises the error if `on_bad_image` is "error"."""
    if on_bad_image == "error":
        raise error.in_data_set() from None
    return str(error)


WORKERS: weakref.WeakSet = weakref.WeakSet()  # worker processes


@atexit.register  # runs before multiprocessing's handler, which waits for workers and sends a signal that they ignore
def kill_workers() -> None:
    for worker in WORKERS:
        worker.kill()


def prepare_worker(_: int) -> None:
    """Ignores signals to the process group, since the main process ends its workers, and disables OpenCV's threads,
    which would compete with the other workers for cores."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    import cv2

    cv2.setNumThreads(0)


@dataclass
class Notes:
    """Numbers notes from loader workers and passes them to `report`, once per subject, the text before the colon.

    `number` returns the number of a new subject across all processes, or 0 if another process has reported it; by
    default, each process counts separately.
    """

    title: ClassVar[str] = "note on the data"
    report: Callable[[str], None]
    subjects: set[str] = field(default_factory=set)
    number: Callable[[str], int] | None = None

    def note(self, sentences: list[str]) -> None:
        for sentence in sentences:
            subject = sentence.partition(": ")[0]
            if subject in self.subjects:
                continue
            self.subjects.add(subject)
            if number := self.number(subject) if self.number else len(self.subjects):
                self.report(f"{self.title} {number}: {sentence}")


class Skipped(Notes):
    """Notes on unreadable images."""

    title = "skipped image"


class Loader:
    """An endless stream of training batches from any step; each process builds its share of each batch.

    The key of a sample is (position, index), where the position in the sampler's order seeds its randomness. `collate`
    turns samples into a batch and sentences for `notes`.
    """

    def __init__(
        self,
        samples: Dataset,
        sampler: Sampler,
        collate: Callable[[list], tuple[Any, list[str]]],
        workers: int,
        device: torch.device,
        notes: Notes,
        rank: int = 0,
        world: int = 1,
    ):
        self.samples, self.sampler, self.collate = samples, sampler, collate
        self.steps_per_epoch = sampler.steps_per_epoch
        self.workers, self.device, self.notes = worker_count(workers), device, notes
        self.rank, self.world = rank, world

    def keys(self, first_step: int) -> Iterator[list[tuple[int, int]]]:
        """Yields the (position, index) pairs of this process for each step."""
        step = first_step
        while True:
            images = self.sampler.row(step).tolist()
            slots = share(len(images), self.rank, self.world)
            yield [(step * len(images) + slot, images[slot]) for slot in slots]
            step += 1

    def first(self, count: int) -> list[Any]:
        """Returns the first samples of this process, built without workers."""
        return [self.samples[key] for key in islice(chain.from_iterable(self.keys(0)), count)]

    def batches(self, first_step: int) -> Iterator[Any]:
        batches = collated(self.samples, self.keys(first_step), self.collate, self.workers, self.device)
        return to_device(batches, self.device, self.notes)


def collated(
    samples: Dataset,
    keys: Iterable[list],
    collate: Callable[[list], tuple[Any, list[str]]],
    workers: int,
    device: torch.device,
) -> Iterator[tuple[Any, list[str]]]:
    """Yields the output of `collate` for the samples of each list of keys, computed in worker processes.

    If a worker dies, for example out of memory, all workers restart and repeat its batches; a second death at the same
    batch raises an Error.
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
    died_at = None  # number of batches before the death
    while True:
        try:
            for batch in iterate(loader):
                if isinstance(batch, Error):
                    raise batch
                pending.finish()
                yield batch
            return
        except (RuntimeError, ConnectionError, EOFError) as error:
            if not (workers and is_death(error)):
                raise
            if pending.done == died_at:
                raise Error(
                    "Loader workers died twice at the same batch, out of memory or by a crash in a decoder: lower "
                    "data.workers, or set it to 0 to see the crash."
                ) from error
            died_at = pending.done
            log.warning(
                "a loader worker died, possibly out of memory; restarting the workers and repeating its batches"
            )


def iterate(loader: DataLoader) -> Iterator[Any]:
    """Yields the loader's batches. Removes torch's SIGCHLD handler, which would raise in the middle of a step when a
    worker dies; without it, the error is raised where the batch is awaited."""
    former = signal.getsignal(CHILD_ENDED) if CHILD_ENDED else None
    batches = iter(loader)
    WORKERS.update(getattr(batches, "_workers", ()))  # the iterator of a loader without workers has no such list
    if CHILD_ENDED and former is not None and threading.current_thread() is threading.main_thread():
        signal.signal(CHILD_ENDED, former)
    yield from batches


def is_death(error: Exception) -> bool:
    """Whether the error means that a worker died: torch's message, or a broken connection to a worker."""
    return not isinstance(error, RuntimeError) or str(error).startswith("DataLoader worker (pid")


class PendingKeys:
    """Keys for a loader; a new iteration repeats the unfinished keys."""

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
        """Marks the first pending key as finished."""
        self.pending.popleft()
        self.done += 1


class Guarded(Dataset):
    """Returns an Error as the sample, since DataLoader would hide its message in a worker's traceback."""

    def __init__(self, samples: Dataset):
        self.samples = samples

    def __getitem__(self, key: Any) -> Any:
        try:
            return self.samples[key]
        except Error as error:
            return error


class GuardedCollate:
    """Returns the first Error among the samples, or the output of `collate`."""

    def __init__(self, collate: Callable[[list], Any]):
        self.collate = collate

    def __call__(self, samples: list) -> Any:
        return next((sample for sample in samples if isinstance(sample, Error)), None) or self.collate(samples)


def to_device(batches: Iterable[tuple[Any, list[str]]], device: torch.device, notes: Notes) -> Iterator[Any]:
    """Copies the next batch to the device while the current one is in use; skips None, a batch without samples."""
    upload = StreamUpload(device) if device.type == "cuda" else lambda batch: lambda: batch.to(device)
    in_transfer: deque[Callable[[], Any]] = deque()
    for batch, sentences in batches:
        notes.note(sentences)
        if batch is not None:
            in_transfer.append(upload(batch))
        if len(in_transfer) > 1:
            yield in_transfer.popleft()()
    while in_transfer:
        yield in_transfer.popleft()()


class StreamUpload:
    """Copies batches on a separate stream: on the compute stream, a copy would wait for the previous step."""

    def __init__(self, device: torch.device):
        self.device, self.stream = device, torch.cuda.Stream(device)

    def __call__(self, batch: Any) -> Callable[[], Any]:
        """Starts the copy; returns a function that makes the current stream wait for it and returns the batch."""
        with torch.cuda.stream(self.stream):
            moved = batch.to(self.device)
            copied = self.stream.record_event()

        def ready() -> Any:
            current = torch.cuda.current_stream(self.device)
            current.wait_event(copied)
            for tensor in tensors_of(moved):
                if tensor.is_cuda:
                    tensor.record_stream(current)
            return moved

        return ready
