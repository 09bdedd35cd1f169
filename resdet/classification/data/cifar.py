"""CIFAR-10 in both published layouts: the small images of section 4.2."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from resdet.errors import DataError
from resdet.files import download, restricted_pickle
from resdet.files.archive import unpack

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
MD5 = "c58f30108f718f92721af3b95e74349a"
SIZE = 170_498_071
PIXELS = 3 * 32 * 32
BATCHES = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}


class Cifar(NamedTuple):
    images: np.ndarray  # uint8 [N, 3, 32, 32], RGB
    labels: np.ndarray  # int64 [N]
    classes: list[str]


def read(root: Path, split: Literal["train", "test"]) -> Cifar:
    """Reads a split of CIFAR-10, in the order of its files.

    `root` is or contains the folder cifar-10-batches-py or cifar-10-batches-bin, or contains one of the published
    archives, cifar-10-python.tar.gz or cifar-10-binary.tar.gz, which is then unpacked in `root`.
    """
    folder, layout = _find(Path(root))
    classes = _read_classes(folder, layout)
    batches = [_read_batch(folder / (name + layout.suffix), layout) for name in BATCHES[split]]
    images, labels = (np.concatenate(parts) for parts in zip(*batches))
    return Cifar(images.reshape(-1, 3, 32, 32), labels.astype(np.int64), classes)


def get(root: Path, *, url: str = URL, md5: str = MD5, size: int | None = SIZE) -> Path:
    """Returns the folder with CIFAR-10 under `root`; downloads and unpacks the archive if there is none.

    For the binary layout, pass url=".../cifar-10-binary.tar.gz", md5="c32a1d4ab5d03f1284b67883e8d87530",
    size=170_052_171.
    """
    root = Path(root)
    if not _unpacked(root):
        download.fetch(url, root / url.rsplit("/", 1)[-1], md5=md5, size=size)
    return _find(root)[0]


class _Layout(NamedTuple):
    """A published layout of CIFAR-10."""

    archive: str
    folder: str
    suffix: str
    meta: str
    read_classes: Callable[[Path], list[str]]
    read_records: Callable[[Path], tuple[np.ndarray, np.ndarray]]  # pixels uint8 [N, 3072], labels [N]


def _unpacked(root: Path) -> tuple[Path, _Layout] | None:
    for layout in LAYOUTS:
        for folder in (root, root / layout.folder):
            if any((folder / (name + layout.suffix)).is_file() for name in BATCHES["train"] + BATCHES["test"]):
                return folder, layout
    return None


def _find(root: Path) -> tuple[Path, _Layout]:
    if unpacked := _unpacked(root):
        return unpacked
    for layout in LAYOUTS:
        if (root / layout.archive).is_file():
            return unpack(root / layout.archive, root / layout.folder, layout.folder), layout
    raise DataError(f"{root} holds no CIFAR-10: run `resdet data get cifar10`, or put {LAYOUTS[0].archive} there.")


def _bad(file: Path, problem: str) -> DataError:
    return DataError(f"{file}{problem}: delete the folder {file.parent} and run `resdet data get cifar10`.")


def _read_classes(folder: Path, layout: _Layout) -> list[str]:
    file = folder / layout.meta
    if not file.is_file():
        raise _bad(file, " is missing")
    classes = layout.read_classes(file)
    if len(classes) != 10:
        raise _bad(file, f" names {len(classes)} classes instead of 10")
    return classes


def _read_batch(file: Path, layout: _Layout) -> tuple[np.ndarray, np.ndarray]:
    if not file.is_file():
        raise _bad(file, " is missing")
    pixels, labels = layout.read_records(file)
    outside = np.flatnonzero((labels < 0) | (labels > 9))
    if len(outside):
        raise _bad(file, f", record {outside[0]}: the label {labels[outside[0]]} is not in 0..9")
    return pixels, labels


def _read_python_classes(file: Path) -> list[str]:
    meta = restricted_pickle.load(file)
    if not isinstance(meta, dict) or not isinstance(meta.get("label_names"), list):
        raise _bad(file, " has no list of label_names")
    return meta["label_names"]


def _read_python_records(file: Path) -> tuple[np.ndarray, np.ndarray]:
    batch = restricted_pickle.load(file)
    if not isinstance(batch, dict) or not {"data", "labels"} <= batch.keys():
        raise _bad(file, " has no data and labels")
    pixels, labels = batch["data"], batch["labels"]
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[1:] != (PIXELS,):
        raise _bad(file, f" has data that are not bytes [N, {PIXELS}]")
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise _bad(file, " has labels that are not a list of integers")
    if not len(pixels) == len(labels) > 0:
        raise _bad(file, f" has {len(labels)} labels for {len(pixels)} images")
    return pixels, np.array(labels)


def _read_binary_classes(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").split()


def _read_binary_records(file: Path) -> tuple[np.ndarray, np.ndarray]:
    size, record = file.stat().st_size, 1 + PIXELS
    if size == 0 or size % record:
        raise _bad(file, f" has {size} bytes, which is not a multiple of the record size, {record}")
    records = np.fromfile(file, np.uint8).reshape(-1, record)
    return records[:, 1:], records[:, 0]


LAYOUTS = (
    _Layout(
        archive="cifar-10-python.tar.gz",
        folder="cifar-10-batches-py",
        suffix="",
        meta="batches.meta",
        read_classes=_read_python_classes,
        read_records=_read_python_records,
    ),
    _Layout(
        archive="cifar-10-binary.tar.gz",
        folder="cifar-10-batches-bin",
        suffix=".bin",
        meta="batches.meta.txt",
        read_classes=_read_binary_classes,
        read_records=_read_binary_records,
    ),
)
