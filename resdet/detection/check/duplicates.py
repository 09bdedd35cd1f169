"""Findings about equal and nearly equal images, within and across splits."""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from resdet.detection.check.finding import Finding
from resdet.detection.check.nearest import nearest
from resdet.detection.check.split import Split
from resdet.errors import DataError
from resdet.files.download import digest
from resdet.files.tar_member import exists, member_of, read_member, size_of
from resdet.images.dhash import hashes_of
from resdet.threads import map_in_threads

Place = tuple[int, int]  # index of the split, row of the image


def check_duplicates(splits: Sequence[Split], near: bool = True) -> list[Finding]:
    """Compares all images of all splits by their bytes and, with `near`, by a perceptual hash, which decodes them."""
    places = _distinct_files(splits)
    copies = dict(_copies(splits, places))
    findings = [_finding(splits, place, other, "leak", "duplicate_image") for place, other in copies.items()]
    if near:
        findings += _near(splits, [place for place in places if place not in copies])
    return findings


def _distinct_files(splits: Sequence[Split]) -> list[Place]:
    """Returns the images with existing files; a file listed twice in a split is one image."""
    places: dict[tuple[int, str], Place] = {}
    for s, split in enumerate(splits):
        for row in split.usable_images().tolist():
            path = os.path.normpath(split.path(row))
            if exists(path):
                places.setdefault((s, path), (s, row))
    return list(places.values())


def _copies(splits: Sequence[Split], places: Sequence[Place]) -> Iterator[tuple[Place, Place]]:
    """Yields each image with the first image of the same bytes; reads only files of equal size."""
    by_size = defaultdict(list)
    for s, row in places:
        with suppress(OSError):
            by_size[size_of(splits[s].path(row))].append((s, row))
    candidates = [place for size, same in by_size.items() if size and len(same) > 1 for place in same]
    content_of = lambda place: content_hash(splits[place[0]].path(place[1]))
    hashes = map_in_threads(content_of, candidates, "comparing files of equal size")
    first: dict[str, Place] = {}
    for place, image_hash in zip(candidates, hashes):
        if image_hash is not None and first.setdefault(image_hash, place) != place:
            yield place, first[image_hash]


def content_hash(path: str) -> str | None:
    """Returns the SHA-256 of a file or a member of a tar file; None if it cannot be read."""
    try:
        if member := member_of(path):
            return sha256(read_member(member)).hexdigest()
        return digest(Path(path), "sha256")
    except (OSError, DataError):
        return None


def _near(splits: Sequence[Split], places: Sequence[Place]) -> list[Finding]:
    hashes = hashes_of([splits[s].path(row) for s, row in places])
    others, distances = nearest(hashes, np.array([s for s, _ in places], np.int64))
    return [
        _finding(splits, places[i], places[other], "near_leak", "near_duplicate", bits=int(distances[i]))
        for i, other in enumerate(others.tolist())
        if other >= 0
    ]


def _finding(splits: Sequence[Split], place: Place, other: Place, across: str, within: str, **values: int) -> Finding:
    (s, row), (other_split, other_row) = place, other
    split, file = splits[other_split], splits[other_split].files[other_row]
    relation = "nearly equal" if values else "equal"
    sentence = f"{splits[s].files[row]} is {relation} to {file} of {split.name}"
    if values:
        sentence += f" ({values['bits']} of 64 bits of the hash differ)"
    pair: dict[str, Any] = {"other_split": split.name, "other_image": file, "other_row": other_row, **values}
    return splits[s].finding(within if s == other_split else across, sentence, row, **pair)
