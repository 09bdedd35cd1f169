"""ILSVRC classification with localization (appendix C): the images of `imagenet`, with the boxes of their class.

The boxes come from the official XML files, unpacked or not. All validation images have boxes, but only 40 % of the
training images; the others are omitted. As in the development kit, the validation images on its blacklist are omitted
too, if that file is present.
"""

import os
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, cast
from xml.etree import ElementTree

import numpy as np

from resdet.classification.data.imagenet import OFFICIAL, imagenet
from resdet.data.array_cache import Arrays, Strings, cached
from resdet.detection.data.coco_file import LARGEST
from resdet.errors import DataError, number_of
from resdet.images.decode import EncodedImage, EncodedSource

FOLDERS = ("ILSVRC/Annotations/CLS-LOC/{}", "Annotations/CLS-LOC/{}", "bbox_{}")
ARCHIVES = {"train": "ILSVRC2012_bbox_train_v2.tar.gz", "val": "ILSVRC2012_bbox_val_v3.tgz"}
BLACKLIST = "*_clsloc_validation_blacklist.txt"  # numbers of validation images, in the kits since 2013


class LocalizedImages:
    """The images of a source that have boxes of instances of their class. Picklable."""

    def __init__(
        self,
        source: EncodedSource,
        positions: np.ndarray,
        sizes: np.ndarray,
        starts: np.ndarray,
        corners: np.ndarray,
        problems: list[str],
    ):
        """For n images: `positions` [n] in the source, annotated `sizes` [n, 2] (width, height); the boxes of image i
        are `corners[starts[i]:starts[i + 1]]`."""
        self.source, self.positions, self.sizes = source, positions, sizes
        self.starts, self.corners = starts, corners
        self.classes, self.labels = source.classes, source.labels[positions]
        self.problems = problems

    def __len__(self) -> int:
        return len(self.positions)

    def name(self, i: int) -> str:
        return self.source.name(int(self.positions[i]))

    def image(self, i: int) -> EncodedImage:
        width, height = self.sizes[i].tolist()
        return self.source.image(int(self.positions[i])).as_annotated((width, height))

    def header_size(self, i: int) -> tuple[int, int]:
        return self.source.header_size(int(self.positions[i]))

    def boxes(self, i: int) -> np.ndarray:
        """Returns float32 [k, 4], xyxy in pixels at the annotated size `sizes[i]`; a few images have another size."""
        return np.array(self.corners[self.starts[i] : self.starts[i + 1]])


def open_ilsvrc_loc(root: Path | str, split: str, cache_dir: Path | None = None) -> LocalizedImages:
    """Opens the split "train" or "val" under `root`, with images in any layout of `imagenet`, and boxes

    - in a folder of XML files, `ILSVRC/Annotations/CLS-LOC/<split>` (Kaggle's), `Annotations/CLS-LOC/<split>` or
      `bbox_<split>`, at any depth;
    - or in the official archives `ILSVRC2012_bbox_train_v2.tar.gz` and `ILSVRC2012_bbox_val_v3.tgz`, not unpacked.

    The boxes are read once and cached. After changing XML files in place, remove the folder .resdet next to them.
    """
    root = Path(root)
    origin = _annotations(root, split)
    source = imagenet(root, split)
    arrays = cached(f"ilsvrc-loc-{split}", [origin], lambda: _compile(origin), cache_dir)
    return _join(source, arrays, origin, _blacklist(root) if split == "val" else set())


def stem_of(name: str) -> str:
    """Returns the stem of a path or an archive member, such as ILSVRC2012_val_00000001."""
    return PurePosixPath(name.rpartition(":")[2]).stem


def _annotations(root: Path, split: str) -> Path:
    """Returns the folder or archive of the XML files."""
    candidates = [*(root / folder.format(split) for folder in FOLDERS), root / ARCHIVES[split]]
    origin = next((path for path in candidates if path.exists()), None)
    if origin is None:
        raise DataError(
            f"{root} has no boxes of {split}: put {ARCHIVES[split]} from {OFFICIAL} there, or its XML files "
            f"into {candidates[1]}."
        )
    return origin


def _compile(origin: Path) -> Arrays:
    """Reads all XML files into columns; `problems` reports the unusable ones."""
    stems, sizes, counts, boxes, names, broken = [], [], [], [], [], []
    for stem, data in _files(origin):
        annotation = _parse(data)
        if annotation is None:
            broken.append(stem)
            continue
        size, objects = annotation
        stems.append(stem)
        sizes.append(size)
        counts.append(len(objects))
        names += [name for name, _ in objects]
        boxes += [box for _, box in objects]
    if not stems:
        raise DataError(f"{origin} has no readable XML files: download the boxes again from {OFFICIAL}.")
    kinds, codes = np.unique(names, return_inverse=True)
    skipped = f"{origin}: skipped {number_of(len(broken), 'invalid XML file')}: {', '.join(broken[:5])}"
    problems = [skipped] if broken else []
    return {
        "sizes": np.array(sizes, np.int32).reshape(-1, 2),
        "starts": np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        "boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "codes": codes.astype(np.int32).reshape(-1),
        **Strings.pack(kinds.tolist()).arrays("kinds"),
        **Strings.pack(stems).arrays("stems"),
        **Strings.pack(problems).arrays("problems"),
    }


def _files(origin: Path) -> Iterator[tuple[str, bytes]]:
    """Yields the stem and content of each XML file in a folder or an archive."""
    return _files_in_folder(origin) if origin.is_dir() else _files_in_archive(origin)


def _files_in_folder(origin: Path) -> Iterator[tuple[str, bytes]]:
    for folder, folders, files in os.walk(origin):
        folders.sort()
        for name in sorted(file for file in files if file.endswith(".xml")):
            yield name.removesuffix(".xml"), Path(folder, name).read_bytes()


def _files_in_archive(origin: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(origin) as archive:
            for member in archive:
                if member.name.endswith(".xml"):
                    yield stem_of(member.name), cast(IO[bytes], archive.extractfile(member)).read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DataError(f"{origin} is damaged ({error}): download it again from {OFFICIAL}.") from error


def _parse(data: bytes) -> tuple[tuple[int, int], list[tuple[str, list[float]]]] | None:
    """Returns the image size and (name, box) pairs, right and bottom exclusive; None for an invalid file."""
    try:
        root = ElementTree.fromstring(data)
        size = (int(_text(root, "size/width")), int(_text(root, "size/height")))
        objects = [
            (
                _text(node, "name").strip(),
                [float(_text(node, f"bndbox/{c}")) for c in ("xmin", "ymin", "xmax", "ymax")],
            )
            for node in root.findall("object")
        ]
    except (ElementTree.ParseError, ValueError, LookupError):
        return None
    if not 1 <= min(size) <= max(size) < LARGEST:
        return None
    # XML boxes are the first and last pixel, counted from 0; a few exceed their image or have no area.
    limits = np.tile(size, 2)
    clipped = [(name, np.clip(np.add(box, (0, 0, 1, 1)), 0, limits).tolist()) for name, box in objects]
    return size, [(name, box) for name, box in clipped if box[0] < box[2] and box[1] < box[3]]


def _text(node: ElementTree.Element, path: str) -> str:
    text = node.findtext(path)
    if text is None:
        raise LookupError(path)
    return text


def _join(source: EncodedSource, arrays: Arrays, origin: Path, blacklist: set[str]) -> LocalizedImages:
    """Selects the images of the source that have boxes of their class."""
    row_of = {stem: row for row, stem in enumerate(Strings.from_arrays(arrays, "stems")) if stem not in blacklist}
    rows = np.fromiter((row_of.get(stem_of(source.name(i)), -1) for i in range(len(source))), np.int64, len(source))
    positions = np.flatnonzero(rows >= 0)
    rows = rows[positions]
    starts, members = _ragged(arrays["starts"], rows)
    owners = np.repeat(np.arange(len(rows)), np.diff(starts))

    # Some XML files name the image's class by something other than a synset; another synset is another class.
    label_of = {synset: label for label, synset in enumerate(source.classes)}
    kinds = np.array([label_of.get(kind, -1) for kind in Strings.from_arrays(arrays, "kinds")], np.int64)
    labels = kinds[arrays["codes"][members]]
    matching = (labels < 0) | (labels == source.labels[positions][owners])
    counts = np.bincount(owners[matching], minlength=len(rows))
    kept = counts > 0
    if not kept.any():
        raise DataError(f"No image of {source.name(0)} … has a box in {origin}: check that both are of one split.")
    problems = list(Strings.from_arrays(arrays, "problems"))
    skipped = len(source) - int(kept.sum())
    if skipped:
        blacklisted = f" or on the blacklist ({len(blacklist)})" if blacklist else ""
        problems.append(f"{origin}: skipped {skipped} of {len(source)} images, without a box{blacklisted}")
    return LocalizedImages(
        source,
        positions[kept],
        arrays["sizes"][rows[kept]],
        np.concatenate([[0], np.cumsum(counts[kept])]),
        arrays["boxes"][members[matching]],
        problems,
    )


def _ragged(starts: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns starts and member positions of the given rows of a ragged array."""
    lengths = starts[rows + 1] - starts[rows]
    ends = np.cumsum(lengths)
    members = np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts[rows] - (ends - lengths), lengths)
    return np.concatenate([[0], ends]).astype(np.int64), members


def _blacklist(root: Path) -> set[str]:
    folders = (root, *(root / kit for kit in ("devkit/data", "ILSVRC/devkit/data", "ILSVRC2012_devkit_t12/data")))
    files = [file for folder in folders for file in sorted(folder.glob(BLACKLIST))]
    return {f"ILSVRC2012_val_{int(number):08d}" for number in files[0].read_text().split()} if files else set()
