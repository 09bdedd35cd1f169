"""Headers of JPEG, PNG, BMP, GIF and TIFF files: size, EXIF orientation, and whether the file is complete."""

import mmap
import struct
from collections.abc import Iterator
from typing import NamedTuple

JPEG, PNG, BMP, GIF, TIFF = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"GIF8", (b"II*\0", b"MM\0*")
END_OF_IMAGE = b"\xff\xd9"
APP1, START_OF_SCAN = 0xE1, 0xDA
START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
WITHOUT_LENGTH = frozenset([0x00, 0x01, 0xFF, *range(0xD0, 0xD9)])  # stuffing, fill bytes, restarts
TIFF_WIDTH, TIFF_HEIGHT, TIFF_ORIENTATION, TIFF_ALPHA = 256, 257, 274, 338
MULTIPLIED, NOT_MULTIPLIED = 1, 2  # values of TIFF_ALPHA: whether the colors are stored multiplied by alpha
TIFF_VALUES = {3: "H", 4: "I"}
Bytes = bytes | mmap.mmap


class Header(NamedTuple):
    """A file's header: stored size, EXIF orientation (5 to 8 swap the sides), whether the file is complete."""

    width: int
    height: int
    orientation: int = 1
    whole: bool = True


def read_header(data: Bytes) -> Header | None:
    """Reads the header of a JPEG, PNG, BMP, GIF or TIFF file; None for any other."""
    readers = {(JPEG,): _jpeg, (PNG,): _png, (BMP,): _bmp, (GIF,): _gif, TIFF: _tiff}
    for magics, reader in readers.items():
        if starts_with(data, *magics):
            try:
                return reader(data)
            except struct.error:  # a truncated header
                return Header(0, 0, whole=False)
    return None


def starts_with(data: Bytes, *magics: bytes) -> bool:
    return data[:8].startswith(magics)


def _jpeg(data: Bytes) -> Header:
    width = height = 0
    orientation = None
    whole = False
    for marker, start, end in _jpeg_segments(data):
        if marker in START_OF_FRAME:
            height, width = struct.unpack_from(">HH", data, start + 1)
        elif marker == APP1 and orientation is None and data[start : start + 6] == b"Exif\0\0":
            orientation = _tiff_tags(data[start + 6 : end]).get(TIFF_ORIENTATION, 1)
        elif marker == START_OF_SCAN:
            # In compressed data, 0xFF is followed by 0 or a restart, so this is the end of the image, not that of a
            # thumbnail, which is in an earlier segment; junk may follow it.
            whole = data[-2:] == END_OF_IMAGE or data.find(END_OF_IMAGE, end) >= 0
    return Header(width, height, orientation or 1, whole)


def _jpeg_segments(data: Bytes) -> Iterator[tuple[int, int, int]]:
    """Yields (marker, start, end) of each segment's content, through the header of the first scan."""
    position = data.find(b"\xff", 2)
    while 0 <= position <= len(data) - 4:
        marker, length = struct.unpack_from(">BH", data, position + 1)
        if marker in WITHOUT_LENGTH:
            position = data.find(b"\xff", position + 1)
            continue
        end = position + 2 + length
        if end > len(data):
            return
        yield marker, position + 4, end
        if marker == START_OF_SCAN:
            return
        position = data.find(b"\xff", end)


def _png(data: Bytes) -> Header:
    width, height = struct.unpack_from(">II", data, 16)
    orientation, position = 1, 8
    while position < len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        start, position = position + 8, position + 12 + length
        if kind == b"eXIf":
            orientation = _tiff_tags(data[start : start + length]).get(TIFF_ORIENTATION, 1)
        if kind == b"IEND":
            return Header(width, height, orientation, whole=position <= len(data))
    return Header(width, height, orientation, whole=False)


def _bmp(data: Bytes) -> Header:
    (header_size,) = struct.unpack_from("<I", data, 14)
    if header_size == 12:  # the header of OS/2
        return Header(*struct.unpack_from("<HH", data, 18))
    width, height = struct.unpack_from("<ii", data, 18)
    return Header(width, abs(height))


def _gif(data: Bytes) -> Header:
    return Header(*struct.unpack_from("<HH", data, 6))


def _tiff(data: Bytes) -> Header:
    tags = _tiff_tags(data)
    return Header(tags.get(TIFF_WIDTH, 0), tags.get(TIFF_HEIGHT, 0), tags.get(TIFF_ORIENTATION, 1))


def _tiff_tags(data: Bytes) -> dict[int, int]:
    """Returns the integers of the first directory of a TIFF structure, which EXIF uses too.

    Omits unreadable tags, since damaged EXIF is common in valid photographs.
    """
    tags: dict[int, int] = {}
    for entry in _tiff_entries(data):
        tags.setdefault(entry.tag, entry.value)  # the first of duplicates counts, as in libtiff
    return tags


class _Entry(NamedTuple):
    """An integer in a directory of a TIFF structure, and the format and place of its bytes."""

    tag: int
    value: int
    format: str
    place: int


def _tiff_entries(data: Bytes) -> Iterator[_Entry]:
    if not starts_with(data, *TIFF):
        return
    order = "<" if starts_with(data, b"II") else ">"
    try:
        (directory,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, directory)
        for entry in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", data, entry)
            if kind in TIFF_VALUES:
                format = order + TIFF_VALUES[kind]
                yield _Entry(tag, struct.unpack_from(format, data, entry + 8)[0], format, entry + 8)
    except struct.error:
        pass


def with_plain_colors(data: Bytes) -> Bytes:
    """Returns a TIFF file whose colors OpenCV leaves unchanged, because its alpha is declared as already multiplied."""
    for entry in _tiff_entries(data):
        if (entry.tag, entry.value) == (TIFF_ALPHA, NOT_MULTIPLIED):
            plain = bytearray(data)
            struct.pack_into(entry.format, plain, entry.place, MULTIPLIED)
            return bytes(plain)
    return data
