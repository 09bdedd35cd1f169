"""The duration of MP4 and MOV files, whose edit list may restrict the frames that are shown."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

SUFFIXES = (".mp4", ".m4v", ".mov")


class Box(NamedTuple):
    """A part of the file: its kind, and the position of its content."""

    kind: bytes
    start: int
    end: int


def shown_seconds(path: str | Path) -> float:
    """Returns the duration that a player shows, in seconds; infinite if the file does not state it."""
    if Path(path).suffix.lower() not in SUFFIXES:
        return float("inf")
    try:
        with open(path, "rb") as file:
            return next(_durations(file), 0) or float("inf")
    except (OSError, struct.error, ZeroDivisionError):
        return float("inf")


def _durations(file: BinaryIO) -> Iterator[float]:
    """Yields the duration in each movie header."""
    for movie in _boxes(file, 0, file.seek(0, 2)):
        if movie.kind == b"moov":
            yield from (_duration(file, box.start) for box in _boxes(file, *movie[1:]) if box.kind == b"mvhd")


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[Box]:
    while start + 8 <= end:
        file.seek(start)
        header = file.read(16)
        (size, kind), content = struct.unpack_from(">I4s", header), start + 8
        if size == 1:  # a size of 64 bits follows
            (size,), content = struct.unpack_from(">Q", header, 8), start + 16
        size = size or end - start  # 0: to the end
        yield Box(kind, content, start + size)
        start += max(size, 8)


def _duration(file: BinaryIO, start: int) -> float:
    file.seek(start)
    header = file.read(32)
    unit, duration = (
        struct.unpack_from(">IQ", header, 20) if header[:1] == b"\1" else struct.unpack_from(">II", header, 12)
    )
    return float(duration / unit)
