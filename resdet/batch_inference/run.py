"""Prediction on many images, in this process or in those of torchrun."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from resdet.batch_inference.folder import (
    IMAGES,
    checksum_of,
    file_of,
    locked,
    manifest_of,
    prepare_folder,
    remaining,
    shared,
)
from resdet.batch_inference.images import Address, list_images
from resdet.batch_inference.program import Loaded, Program
from resdet.engine import distributed
from resdet.engine.distributed import World
from resdet.errors import DataError
from resdet.files.folder_lock import share
from resdet.results.parquet import Row, write_rows


def predict_to_parquet(
    program: Program, sources: Sequence[str], out: str | Path, size: int = IMAGES, device: str = "auto"
) -> None:
    """Writes the results of all images to parts of `size` images, without those that `out` has already.

    Under torchrun, each process writes its share of the parts.
    """
    folder, images = Path(out), list_images(sources)
    checksum = checksum_of(images)
    world = distributed.join(device, key="--device")
    with ExitStack() as stack:

        def claim() -> tuple[list[int], str]:
            lock = stack.enter_context(locked(folder))
            numbers = open_folder(program, folder, images, checksum, size)
            if world.size > 1:
                share(lock)
            return numbers, checksum

        try:
            numbers, expected = distributed.from_main(claim)
            if not world.is_main:
                stack.enter_context(shared(folder))
            # Here the main process also waits until all share its lock.
            changed = distributed.any_rank(checksum != expected)
        finally:
            distributed.leave()  # processes need not wait for each other any more
        if changed:
            raise DataError(f"{', '.join(sources)}: images were added or removed meanwhile: start the command again.")
        write_parts(program, folder, images, size, numbers[world.rank :: world.size], world)


def open_folder(program: Program, folder: Path, images: Sequence[Address], checksum: str, size: int) -> list[int]:
    """The numbers of the parts to write."""
    prepare_folder(folder, manifest_of(program.settings(), len(images), checksum, size))
    numbers = remaining(folder, images, size)
    total = -(-len(images) // size)
    print(f"{folder}: {len(images)} images, {total - len(numbers)} of {total} parts finished before")
    return numbers


def write_parts(
    program: Program, folder: Path, images: Sequence[Address], size: int, numbers: Sequence[int], world: World
) -> None:
    if not numbers:
        return
    loaded = program.load(world.device)
    for number in numbers:
        start = time.monotonic()
        part = images[number * size : (number + 1) * size]
        unreadable = write_part(loaded, folder, number, part)
        print(describe(folder, number, len(part), unreadable, time.monotonic() - start), flush=True)


def write_part(loaded: Loaded, folder: Path, number: int, images: Sequence[Address]) -> int:
    """Writes a part; returns the number of its unreadable images."""
    counts: Counter[bool] = Counter()
    write_rows(file_of(folder, number), counted(loaded.rows(images), counts))
    return counts[True]


def counted(rows: Iterable[Row], counts: "Counter[bool]") -> Iterator[Row]:
    for row in rows:
        counts["error" in row] += 1
        yield row


def describe(folder: Path, number: int, images: int, unreadable: int, seconds: float) -> str:
    bad = f", {unreadable} of them unreadable" if unreadable else ""
    return f"{file_of(folder, number)}: {images} images{bad}, {images / seconds:.1f} per second"
