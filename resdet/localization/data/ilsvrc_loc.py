"""ILSVRC classification with localization (appendix C): the images of `imagenet`, with the boxes of their class.

The boxes are in the official XML files, unpacked or not. All validation images have some; of the training images 40 %
have: the others cannot be learned from and are left out. So are, as the development kit does, the validation images
of its blacklist, where that file is present.
"""

import os
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

import numpy as np

from resdet.classification.data.imagenet import OFFICIAL, imagenet
from resdet.data.array_cache import Arrays, Strings, cached
from resdet.detection.data.coco_file import LARGEST
from resdet.errors import DataError
from resdet.images.decode import EncodedImage, Source

FOLDERS = ("ILSVRC/Annotations/CLS-LOC/{}", "Annotations/CLS-LOC/{}", "bbox_{}")
ARCHIVES = {"train": "ILSVRC2012_bbox_train_v2.tar.gz", "val": "ILSVRC2012_bbox_val_v3.tgz"}
BLACKLIST = "*_clsloc_validation_blacklist.txt"  # numbers of validation images, from the kits of 2013 on


class LocalizedImages:
    """Those of a source's images that have boxes; the boxes are of instances of the image's class. Picklable."""

    def __init__(
        self,
        source: Source,
        positions: np.ndarray,
        sizes: np.ndarray,
        starts: np.ndarray,
        corners: np.ndarray,
        problems: list[str],
    ):
        """For n images: `positions` [n] in the source, `sizes` [n, 2] (width, height) that the boxes were drawn in,
        and of image i the boxes `corners[starts[i]:starts[i + 1]]`."""
        self.source, self.positions, self.sizes = source, positions, sizes
        self.starts, self.corners = starts, corners
        self.classes, self.labels = source.classes, source.labels[positions]
        self.problems = problems

    def __len__(self) -> int:
        return len(self.positions)

    def name(self, i: int) -> str:
        return self.source.name(int(self.positions[i]))

    def image(self, i: int) -> EncodedImage:
        return self.source.image(int(self.positions[i])).as_annotated(tuple(self.sizes[i].tolist()))

    def header_size(self, i: int) -> tuple[int, int]:
        return self.source.header_size(int(self.positions[i]))

    def boxes(self, i: int) -> np.ndarray:
        """float32 [k, 4], xyxy in pixels of a picture of `sizes[i]`, which is the image's own size but for a few."""
        return np.array(self.corners[self.starts[i] : self.starts[i + 1]])


def open_ilsvrc_loc(root: Path | str, split: str, cache_dir: Path | None = None) -> LocalizedImages:
    """The split "train" or "val" under `root`, with images in any layout that `imagenet` knows, and boxes

    - in a folder of XML files, `ILSVRC/Annotations/CLS-LOC/<split>` (Kaggle's), `Annotations/CLS-LOC/<split>` or
      `bbox_<split>`, at any depth;
    - or in the official archives `ILSVRC2012_bbox_train_v2.tar.gz` and `ILSVRC2012_bbox_val_v3.tgz`, not unpacked.

    They are read once. XML files that are changed in place are not noticed: remove the folder .resdet beside them then.
    """
    root = Path(root)
    place = _place(root, split)
    source = imagenet(root, split)
    arrays = cached(f"ilsvrc-loc-{split}", [place], lambda: _compile(place), cache_dir)
    return _join(source, arrays, place, _blacklist(root) if split == "val" else set())


def stem_of(name: str) -> str:
    """ILSVRC2012_val_00000001, of any path or member of an archive."""
    return PurePosixPath(name.rpartition(":")[2]).stem


def _place(root: Path, split: str) -> Path:
    candidates = [*(root / folder.format(split) for folder in FOLDERS), root / ARCHIVES[split]]
    place = next((place for place in candidates if place.exists()), None)
    if place is None:
        raise DataError(
            f"{root} has no boxes of {split}: put {ARCHIVES[split]} from {OFFICIAL} there, or its XML files "
            f"into {candidates[1]}"
        )
    return place


def _compile(place: Path) -> Arrays:
    """All XML files as columns; what cannot be used is left out and said in `problems`."""
    stems, sizes, counts, boxes, names, broken = [], [], [], [], [], []
    for stem, data in _files(place):
        found = _parse(data)
        if found is None:
            broken.append(stem)
            continue
        size, objects = found
        stems.append(stem)
        sizes.append(size)
        counts.append(len(objects))
        names += [name for name, _ in objects]
        boxes += [box for _, box in objects]
    if not stems:
        raise DataError(f"{place} has no XML files that can be read: fetch the boxes again from {OFFICIAL}")
    kinds, codes = np.unique(names, return_inverse=True)
    problems = [f"{place}: left out {len(broken)} broken XML files: {', '.join(broken[:5])}"] if broken else []
    return {
        "sizes": np.array(sizes, np.int32).reshape(-1, 2),
        "starts": np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        "boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "codes": codes.astype(np.int32).reshape(-1),
        **Strings.pack(kinds.tolist()).arrays("kinds"),
        **Strings.pack(stems).arrays("stems"),
        **Strings.pack(problems).arrays("problems"),
    }


def _files(place: Path) -> Iterator[tuple[str, bytes]]:
    """The stem and content of each XML file in a folder or an archive."""
    if place.is_dir():
        for folder, folders, files in os.walk(place):
            folders.sort()
            for name in sorted(files):
                if name.endswith(".xml"):
                    yield name.removesuffix(".xml"), Path(folder, name).read_bytes()
        return
    try:
        with tarfile.open(place) as archive:
            for member in archive:
                if member.name.endswith(".xml"):
                    yield stem_of(member.name), archive.extractfile(member).read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DataError(f"{place} is damaged ({error}): fetch it again from {OFFICIAL}") from error


def _parse(data: bytes) -> tuple[tuple[int, int], list[tuple[str, list[float]]]] | None:
    """The size of the picture and its objects, by name and box (continuous, right and bottom exclusive)."""
    try:
        root = ElementTree.fromstring(data)
        size = (int(root.findtext("size/width")), int(root.findtext("size/height")))
        objects = [
            (
                thing.findtext("name").strip(),
                [float(thing.findtext(f"bndbox/{c}")) for c in ("xmin", "ymin", "xmax", "ymax")],
            )
            for thing in root.findall("object")
        ]
    except (ElementTree.ParseError, TypeError, ValueError, AttributeError, LookupError):
        return None
    if not 1 <= min(size) <= max(size) < LARGEST:
        return None
    # A box names its first and last pixel, counted from 0; a few reach out of their image, or have no area.
    limits = np.tile(size, 2)
    clipped = [(name, np.clip(np.add(box, (0, 0, 1, 1)), 0, limits).tolist()) for name, box in objects]
    return size, [(name, box) for name, box in clipped if box[0] < box[2] and box[1] < box[3]]


def _join(source: Source, arrays: Arrays, place: Path, blacklist: set[str]) -> LocalizedImages:
    """The images of the source that have boxes of their class."""
    row_of = {stem: row for row, stem in enumerate(Strings.from_arrays(arrays, "stems")) if stem not in blacklist}
    rows = np.fromiter((row_of.get(stem_of(source.name(i)), -1) for i in range(len(source))), np.int64, len(source))
    positions = np.flatnonzero(rows >= 0)
    rows = rows[positions]
    starts, members = _ragged(arrays["starts"], rows)
    owners = np.repeat(np.arange(len(rows)), np.diff(starts))

    # Some XML files call their image's class by a name that is no synset; another synset is another object.
    label_of = {synset: label for label, synset in enumerate(source.classes)}
    kinds = np.array([label_of.get(kind, -1) for kind in Strings.from_arrays(arrays, "kinds")], np.int64)
    labels = kinds[arrays["codes"][members]]
    own = (labels < 0) | (labels == source.labels[positions][owners])
    counts = np.bincount(owners[own], minlength=len(rows))
    kept = counts > 0
    if not kept.any():
        raise DataError(f"No image of {source.name(0)} … has a box in {place}: check that both are of one split")
    problems = list(Strings.from_arrays(arrays, "problems"))
    left_out = len(source) - int(kept.sum())
    if left_out:
        blacklisted = f" or on the blacklist ({len(blacklist)})" if blacklist else ""
        problems.append(f"{place}: left out {left_out} of {len(source)} images, without a box{blacklisted}")
    return LocalizedImages(
        source,
        positions[kept],
        arrays["sizes"][rows[kept]],
        np.concatenate([[0], np.cumsum(counts[kept])]),
        arrays["boxes"][members[own]],
        problems,
    )


def _ragged(starts: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For these rows of a ragged array: their own starts, and the places of their members."""
    lengths = starts[rows + 1] - starts[rows]
    ends = np.cumsum(lengths)
    members = np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts[rows] - (ends - lengths), lengths)
    return np.concatenate([[0], ends]).astype(np.int64), members


def _blacklist(root: Path) -> set[str]:
    folders = (root, *(root / kit for kit in ("devkit/data", "ILSVRC/devkit/data", "ILSVRC2012_devkit_t12/data")))
    files = [file for folder in folders for file in sorted(folder.glob(BLACKLIST))]
    return {f"ILSVRC2012_val_{int(number):08d}" for number in files[0].read_text().split()} if files else set()
