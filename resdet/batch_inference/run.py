"""Batch prediction, in one process or in the processes of torchrun."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch

from resdet.batch_inference.folder import IMAGES, Parts, locked, prepare_folder, shared
from resdet.batch_inference.images import Address, list_images
from resdet.batch_inference.program import Loaded, Program
from resdet.engine import distributed
from resdet.errors import DataError, number_of
from resdet.files.folder_lock import share
from resdet.results.parquet import Row, write_rows


def predict_to_parquet(
    program: Program, sources: Sequence[str], out: str | Path, size: int = IMAGES, device: str = "auto"
) -> None:
    """Predicts all images and writes the results in parts of `size` images; skips the parts that `out` already has.

    Under torchrun, each process writes its share of the parts.
    """
    parts = Parts(Path(out), list_images(sources), size)
    world = distributed.join(device, key="--device")
    with ExitStack() as stack:

        def claim() -> tuple[list[int], str]:
            lock = stack.enter_context(locked(parts.folder))
            numbers = open_folder(program, parts)
            if world.size > 1:
                share(lock)
            return numbers, parts.checksum

        try:
            numbers, expected = distributed.from_main(claim)
            if not world.is_main:
                stack.enter_context(shared(parts.folder))
            # The main process also waits here until all others share its lock.
            changed = distributed.any_rank(parts.checksum != expected)
        finally:
            distributed.leave()  # from here on, processes do not wait for each other
        if changed:
            raise DataError(f"{', '.join(sources)}: images were added or removed meanwhile: start the command again.")
        write_parts(program, parts, numbers[world.rank :: world.size], world.device)


def open_folder(program: Program, parts: Parts) -> list[int]:
    """Prepares the folder and returns the numbers of the parts to write."""
    defaults = Program(weights=()).settings()
    prepare_folder(parts.folder, parts.manifest(program.settings()), defaults)
    numbers, total = parts.remaining(), parts.count
    images = number_of(len(parts.images), "image")
    print(f"{parts.folder}: {images}, {total - len(numbers)} of {total} parts finished before")
    return numbers


def write_parts(program: Program, parts: Parts, numbers: Sequence[int], device: torch.device) -> None:
    if not numbers:
        return
    loaded = program.load(device)
    for number in numbers:
        print(write_part(loaded, parts.file(number), parts.images_of(number)), flush=True)


def write_part(loaded: Loaded, file: Path, images: Sequence[Address]) -> str:
    """Writes a part; returns a line for the log."""
    start = time.monotonic()
    counts: Counter[bool] = Counter()
    write_rows(file, counted(loaded.rows(images), counts))
    bad = f", {counts[True]} of them unreadable" if counts[True] else ""
    return f"{file}: {number_of(len(images), 'image')}{bad}, {len(images) / (time.monotonic() - start):.1f} per second"


def counted(rows: Iterable[Row], counts: "Counter[bool]") -> Iterator[Row]:
    for row in rows:
        counts["error" in row] += 1
        yield row
