"""Image files by name, in a folder and below it."""

import os
from collections.abc import Iterator
from pathlib import Path

from resdet.errors import DataError

IMAGE_SUFFIXES = tuple(".jpg .jpeg .jpe .jfif .png .bmp .dib .gif .tif .tiff .webp .ppm .pgm .pbm .pnm .jp2".split())
SKIPPED = "__MACOSX"  # folder in archives made on macOS, with metadata of the images
DEEPEST = 64  # maximum nesting of folders


def is_image(name: str) -> bool:
    """Whether a file name has the suffix of an image, in upper or lower case."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def images_of(folder: Path | str) -> list[Path]:
    """Returns the image files of a folder, sorted; neither hidden ones nor those of subfolders."""
    entries = (entry for entry in visible(folder) if is_image(entry.name) and not _is_folder(entry))
    return sorted(Path(entry.path) for entry in entries)


def walk(folder: Path | str) -> Iterator[str]:
    """Yields files at any depth below a folder, relative to it and with `/`, except hidden ones.

    Follows links, except to a folder that contains them; omits unreadable subfolders. A broken link is a file.
    """
    return _walk(visible(folder), "", frozenset([_identity(folder)]))


def visible(folder: Path | str) -> list[os.DirEntry[str]]:
    """Returns the entries of a folder that are not hidden."""
    try:
        return [entry for entry in os.scandir(folder) if not entry.name.startswith(".") and entry.name != SKIPPED]
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror}): check its permissions.") from error


def _walk(entries: list[os.DirEntry[str]], prefix: str, ancestors: frozenset[tuple[int, int]]) -> Iterator[str]:
    for entry in entries:
        if not _is_folder(entry):
            yield prefix + entry.name
        elif len(ancestors) < DEEPEST and (identity := _identity(entry.path)) not in ancestors:
            yield from _walk(_readable(entry.path), f"{prefix}{entry.name}/", ancestors | {identity})


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or into an unreadable folder
        return False


def _readable(folder: str) -> list[os.DirEntry[str]]:
    """Returns the entries of a folder; none if it cannot be read."""
    try:
        return visible(folder)
    except DataError:
        return []


def _identity(folder: Path | str) -> tuple[int, int]:
    stat = os.stat(folder)
    return stat.st_dev, stat.st_ino
