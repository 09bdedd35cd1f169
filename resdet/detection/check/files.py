"""Findings about image files, from their headers: missing, truncated, with another size, or rotated."""

import os
from collections.abc import Iterator

from resdet.detection.check.finding import Finding
from resdet.detection.check.split import Split
from resdet.errors import DataError
from resdet.files.tar_member import exists
from resdet.images.decode import EncodedImage, map_image, read_image
from resdet.images.header import read_header
from resdet.threads import map_in_threads

SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap the sides
UNUSABLE = ("missing", "unreadable", "truncated", "undecodable")


def check_files(split: Split, decode: bool = False) -> list[Finding]:
    """Checks the headers; with `decode`, also decodes all images."""
    rows = split.usable_images().tolist()
    by_image = map_in_threads(lambda row: list(_of_file(split, row, decode)), rows, "checking images")
    return [finding for findings in by_image for finding in findings] + list(_listed_twice(split))


def _of_file(split: Split, row: int, decode: bool) -> Iterator[Finding]:
    path = split.path(row)
    make = lambda kind, sentence, **values: split.finding(kind, sentence, row, **values)
    if not exists(path):
        yield make("missing", f"{split.files[row]} does not exist")
        return
    try:
        image = map_image(path, "restore it")
        header = read_header(image.data)
        if image.data and header and not header.whole:
            yield make("truncated", f"{split.files[row]} is truncated")
            return
        size = image.size
    except DataError as error:
        yield make("unreadable", str(error))
        return
    declared = (int(split.sizes[row, 0]), int(split.sizes[row, 1]))
    yield from _of_size(split, row, image, size, declared)
    if decode:
        try:
            read_image(path, "restore it").decode()
        except DataError as error:
            yield make("undecodable", str(error))


def _of_size(
    split: Split, row: int, image: EncodedImage, size: tuple[int, int], declared: tuple[int, int]
) -> Iterator[Finding]:
    """Yields findings about the size and EXIF orientation of a file."""
    header = read_header(image.data)
    orientation = header.orientation if header else 1
    file = split.files[row]
    if size == declared:
        if orientation > 1 and (orientation not in SIDEWAYS or size[0] == size[1]):
            sentence = (
                f"{file} has EXIF orientation {orientation}, and its size does not tell whether the annotations fit "
                f"the upright image or the stored pixels"
            )
            yield split.finding("exif", sentence, row, orientation=orientation)
    elif image.as_annotated(declared).size == declared:
        sentence = f"{file} has EXIF orientation {orientation} and is annotated without it"
        yield split.finding("exif_stored", sentence, row, orientation=orientation)
    elif not split.other_sizes:
        sentence = f"{file} has {size[0]}x{size[1]} pixels and is annotated as {declared[0]}x{declared[1]}"
        yield split.finding("image_size", sentence, row, file=list(size), annotated=list(declared))


def _listed_twice(split: Split) -> Iterator[Finding]:
    first: dict[str, int] = {}
    for row in split.usable_images().tolist():
        path = os.path.normpath(split.path(row))
        if first.setdefault(path, row) != row:
            ids = split.image_ids[first[path]], split.image_ids[row]
            yield split.finding("file_twice", f"{split.files[row]} is the file of images {ids[0]} and {ids[1]}", row)
