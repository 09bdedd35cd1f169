"""Encoded images: size from the header, detection of damage, decoding at a reduced scale.

The size of JPEG, PNG, BMP, GIF and TIFF files comes from the header; other formats that OpenCV supports (WebP, PNM) are
decoded. Sizes and pixels have the EXIF orientation applied, unless the image was annotated without it: `as_annotated`.
"""

import mmap
import os
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from resdet.errors import DataError, ImageError
from resdet.files.tar_member import member_of, read_member
from resdet.images.address import is_image_address, read_address
from resdet.images.header import JPEG, PNG, Bytes, Header, read_header, starts_with, with_plain_colors
from resdet.system import read_at

MAX_PIXELS = 2**28  # a header that declares more is damaged or malicious
HEAD, TAIL = 2**16, 2**12  # bytes at the two ends that contain header and end marker of most files


class EncodedImage:
    """The bytes of an image file, and its name in errors ("dir/a.jpg", "train.tar:n01440764/a.JPEG")."""

    def __init__(self, data: Bytes, name: str):
        self.data = data
        self.name = name

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the decoded image; from the header if the format allows."""
        if self._header is None:
            height, width = self._pixels.shape[:2]
            return width, height
        width, height = self._header.width, self._header.height
        return (height, width) if self._header.orientation in (5, 6, 7, 8) else (width, height)

    def as_annotated(self, size: tuple[int, int]) -> "EncodedImage":
        """Returns the image as annotated at `size` (width, height): without EXIF orientation if only that gives this
        size.

        Only JPEG and PNG change.
        """
        if self.size == size:
            return self
        stored = self.as_stored()
        return stored if stored.size == size else self

    def as_stored(self) -> "EncodedImage":
        """Returns the image without EXIF orientation; only JPEG and PNG change."""
        header = self._header if starts_with(self.data, JPEG, PNG) else None
        if header is None:
            return self
        stored = EncodedImage(self.data, self.name)
        stored._header = header._replace(orientation=1)
        return stored

    def decode(self, smallest: tuple[int, int] | None = None) -> np.ndarray:
        """Decodes the pixels to uint8 [H, W, 3], RGB, without alpha, 16 bits reduced to 8.

        `smallest` is the minimum (width, height) for the caller: a JPEG is then decoded at 1/2, 1/4 or 1/8 of its size,
        directly from its DCT coefficients, if that is large enough in both directions.
        """
        if self._header is None:
            return self._pixels.copy()
        return self._decode(self._reduction(smallest) if smallest else 1)

    @cached_property
    def declared(self) -> Header | None:
        """The header, even of a damaged image; None if `read_header` does not support the format."""
        return read_header(self.data)

    @cached_property
    def _header(self) -> Header | None:
        if not self.data:
            raise self._error("is an empty file")
        header = self.declared
        if header is None:
            return None
        if not header.whole:
            raise self._error("is truncated")
        if not 0 < header.width * header.height < MAX_PIXELS:
            raise self._error(f"declares the invalid size {header.width}x{header.height}")
        return header

    @cached_property
    def _pixels(self) -> np.ndarray:
        return self._decode(1)

    def _reduction(self, smallest: tuple[int, int]) -> int:
        """Returns the largest of libjpeg's reductions, which round up, with a result of at least `smallest`."""
        if not starts_with(self.data, JPEG):
            return 1
        width, height = self.size
        fits = (n for n in (8, 4, 2) if -(-width // n) >= smallest[0] and -(-height // n) >= smallest[1])
        return next(fits, 1)

    def _decode(self, reduction: int) -> np.ndarray:
        import cv2

        scaled = {
            1: cv2.IMREAD_COLOR,
            2: cv2.IMREAD_REDUCED_COLOR_2,
            4: cv2.IMREAD_REDUCED_COLOR_4,
            8: cv2.IMREAD_REDUCED_COLOR_8,
        }[reduction]
        flags = (scaled & ~cv2.IMREAD_COLOR) | cv2.IMREAD_COLOR_RGB
        # OpenCV before 4.13 ignores EXIF after XMP: apply the header's orientation, so that pixels match `size`.
        header = self._header if starts_with(self.data, JPEG, PNG) else None
        if header:
            flags |= cv2.IMREAD_IGNORE_ORIENTATION
        try:
            pixels = cv2.imdecode(np.frombuffer(with_plain_colors(self.data), np.uint8), flags)
        except cv2.error as error:
            raise self._error(f"cannot be decoded ({error.err})") from error
        if pixels is None:
            raise self._error("is not an image that OpenCV can decode")
        return upright(pixels, header.orientation) if header and header.orientation > 1 else pixels

    def _error(self, problem: str) -> ImageError:
        return ImageError(f"{self.name} {problem}.")


class RawImage:
    """An array in memory, uint8 [H, W, 3] RGB, with the interface of EncodedImage."""

    def __init__(self, pixels: np.ndarray, name: str):
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
            raise DataError(f"{name} is {pixels.dtype} {list(pixels.shape)}: give RGB pixels as uint8 [H, W, 3].")
        self.pixels = pixels
        self.name = name

    @property
    def size(self) -> tuple[int, int]:
        return self.pixels.shape[1], self.pixels.shape[0]

    def decode(self, smallest: tuple[int, int] | None = None) -> np.ndarray:
        """Returns a writable copy of the pixels."""
        return np.array(self.pixels, order="C")


def as_image(image: "str | Path | np.ndarray | EncodedImage | RawImage") -> "EncodedImage | RawImage":
    """Wraps a path, an address or a uint8 RGB array [H, W, 3]; returns an image unchanged."""
    if isinstance(image, (EncodedImage, RawImage)):
        return image
    if isinstance(image, str) and is_image_address(image):
        return EncodedImage(read_address(image), image)
    if isinstance(image, (str, Path)):
        return read_image(image, "name an image file")
    return RawImage(np.asarray(image), "the given array")


def read_image(path: str | Path, remedy: str) -> EncodedImage:
    """Reads a whole file, or a member of a tar file; `remedy` ends the DataError for an unreadable file."""
    if member := member_of(path):
        return EncodedImage(read_member(member), str(path))
    try:
        with open(path, "rb") as file:
            return EncodedImage(file.read(), str(path))
    except (OSError, ValueError) as error:  # ValueError: a path with NUL
        raise DataError(f"{path}: cannot read the file ({_reason(error)}); {remedy}.") from error


def map_image(path: str | Path, remedy: str) -> EncodedImage:
    """Memory-maps a file to read its header: reads few pages, and releases the GIL while it prefetches them. Members of
    tar files are read."""
    if member_of(path):
        return read_image(path, remedy)
    try:
        with open(path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            read_at(file, HEAD, 0)
            read_at(file, TAIL, max(0, size - TAIL))
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot read the file ({_reason(error)}); {remedy}.") from error
    return EncodedImage(data, str(path))


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


class Source(Protocol):
    """Images with one label each; cheap to share with forked workers, and picklable."""

    classes: list[str]
    labels: np.ndarray  # int64 [N], indices into `classes`; -1 if unknown

    def __len__(self) -> int: ...

    def image(self, i: int) -> EncodedImage | RawImage: ...

    def header_size(self, i: int) -> tuple[int, int]:
        """Returns (width, height) from the file header; raises a DataError if training cannot use the image."""
        ...

    def name(self, i: int) -> str: ...


class EncodedSource(Source, Protocol):
    """A source of image files."""

    def image(self, i: int) -> EncodedImage: ...


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Applies an EXIF orientation: transposes, then mirrors in either direction."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.array(pixels, order="C")  # ascontiguousarray keeps the negative stride of a side of one pixel
