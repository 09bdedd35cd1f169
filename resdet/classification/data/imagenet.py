"""ILSVRC 2012 classification in all common layouts, unpacked or not (section 4.1).

Labels are positions in the sorted synset ids, as in all released nets. The development kit numbers the classes
differently (ILSVRC2012_ID, 1 to 1000); this module converts its numbers.
"""

import io
import re
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, cast

import numpy as np

from resdet.classification.data.shards import is_sharded, open_shards
from resdet.data.array_cache import Strings
from resdet.data.folder import ImageFiles, ImageFolder, is_image, list_folder
from resdet.data.tar_index import TarImages
from resdet.errors import DataError
from resdet.files.remote import local
from resdet.images.decode import EncodedSource

OFFICIAL = "https://image-net.org/download-images"
DEVKIT = "ILSVRC2012_devkit_t12"
GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
KAGGLE_VAL, KAGGLE_WORDS = "LOC_val_solution.csv", "LOC_synset_mapping.txt"
ARCHIVES = {"train": "ILSVRC2012_img_train.tar", "val": "ILSVRC2012_img_val.tar", "test": "ILSVRC2012_img_test*.tar"}


def imagenet(root: Path | str, split: str) -> EncodedSource:
    """Opens the split "train", "val" or "test" of the data set under `root`, in the first layout that exists:

    - a folder `<split>` or Kaggle's `ILSVRC/Data/CLS-LOC/<split>`, with a folder per synset, or tar files (one per
      synset, or WebDataset shards), or for val and test the images themselves; the shards of `resdet data shard` may
      also be at an address;
    - the official archive `ILSVRC2012_img_<split>.tar`, not unpacked.

    Val images outside synset folders get their labels from the development kit or Kaggle's LOC_val_solution.csv;
    the label of test images is -1.
    """
    root = local(root)
    folders = [folder for folder in (root / split, root / "ILSVRC/Data/CLS-LOC" / split) if folder.is_dir()]
    archives = sorted(root.glob(ARCHIVES[split]))
    if folders:
        return _from_folder(root, folders[0], split)
    if not archives:
        raise DataError(f"{root} has neither a folder {split} nor {ARCHIVES[split]}: download it from {OFFICIAL}.")
    return _from_tars(root, archives, split)


def devkit_ids(root: Path | str) -> list[str]:
    """Returns the synsets in the order of ILSVRC2012_ID, from 1."""
    return [synset for synset, _ in _devkit_classes(Path(root))]


def class_words(root: Path | str) -> dict[str, str]:
    """Returns {synset: words ("tench, Tinca tinca")} from the development kit or Kaggle's file; empty without both."""
    root = Path(root)
    if _has_devkit(root):
        return dict(_devkit_classes(root))
    if not (root / KAGGLE_WORDS).is_file():
        return {}
    lines = (root / KAGGLE_WORDS).read_text(encoding="utf-8").splitlines()
    return {synset: words for synset, _, words in (line.partition(" ") for line in lines)}


def _from_folder(root: Path, folder: Path, split: str) -> EncodedSource:
    if is_sharded(folder):
        return open_shards(folder)
    folders, files = list_folder(folder)
    tars = [folder / name for name in files if name.endswith(".tar")]
    images = [name for name in files if is_image(name)]
    if folders and split != "test":
        return ImageFolder(folder)
    if tars:
        return _from_tars(root, tars, split)
    if images and split != "train":
        return _labeled(root, ImageFiles(folder, Strings.pack(images)), split)
    raise DataError(
        f"{folder} has no known layout of ImageNet's {split} split: put the images or tar files of {OFFICIAL} there."
    )


def _from_tars(root: Path, tars: list[Path], split: str) -> EncodedSource:
    images = TarImages(tars)
    if split == "test" or tars[0].match(ARCHIVES["val"]):
        return _labeled(root, images, split)
    synsets = sorted(class_words(root))
    # WebDataset shards have class numbers only.
    return TarImages(tars, synsets) if synsets and images.classes[0].isdigit() else images


def _labeled(root: Path, images: ImageFiles | TarImages, split: str) -> EncodedSource:
    """Labels images outside class folders by their file names."""
    images.classes = sorted(class_words(root))
    if split == "test":
        images.labels = np.full(len(images), -1, np.int64)
        return images
    truth = _validation_truth(root)
    if len(truth) != len(images):
        raise DataError(
            f"{root} has {len(images)} validation images but {len(truth)} labels: download both again from {OFFICIAL}."
        )
    images.classes = images.classes or sorted(set(truth.values()))
    position = {synset: i for i, synset in enumerate(images.classes)}
    images.labels = np.array([position[_synset_of(images.name(i), truth)] for i in range(len(images))], np.int64)
    return images


def _synset_of(name: str, truth: dict[str, str]) -> str:
    stem = PurePosixPath(name.rpartition(":")[2]).stem
    if stem not in truth:
        raise DataError(f"{name} has no label: restore its official name (ILSVRC2012_val_00000001.JPEG).")
    return truth[stem]


def _validation_truth(root: Path) -> dict[str, str]:
    """Returns the synset of each validation image, by its stem."""
    if (root / KAGGLE_VAL).is_file() and not _has_devkit(root):
        return dict(re.findall(r"^(ILSVRC2012_val_\d+),(n\d+)", (root / KAGGLE_VAL).read_text(), re.MULTILINE))
    synsets = devkit_ids(root)
    truth = {}
    for number, line in enumerate(_devkit_file(root, GROUND_TRUTH).decode().split(), 1):
        if not (line.isdigit() and 1 <= int(line) <= len(synsets)):
            raise DataError(
                f"{GROUND_TRUTH}, line {number}: {line} is not an id from 1 to {len(synsets)}; "
                f"download {DEVKIT}.tar.gz again from {OFFICIAL}."
            )
        truth[f"ILSVRC2012_val_{number:08d}"] = synsets[int(line) - 1]
    return truth


def _devkit_classes(root: Path) -> list[tuple[str, str]]:
    """Returns (synset, words) of each ILSVRC2012_ID, from 1; omits the inner WordNet nodes in meta.mat."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        nodes = loadmat(io.BytesIO(_devkit_file(root, "meta.mat")), squeeze_me=True)["synsets"]
    except (MatReadError, ValueError, KeyError, TypeError, zlib.error) as error:
        raise DataError(f"meta.mat of {DEVKIT} is damaged ({error}): download it again from {OFFICIAL}.") from error
    leaves = sorted(
        (int(node["ILSVRC2012_ID"]), str(node["WNID"]), str(node["words"]))
        for node in np.atleast_1d(nodes)
        if node["num_children"] == 0
    )
    if [number for number, _, _ in leaves] != list(range(1, len(leaves) + 1)):
        raise DataError(f"meta.mat of {DEVKIT} has invalid class numbers: download it again from {OFFICIAL}.")
    return [(synset, words) for _, synset, words in leaves]


def _has_devkit(root: Path) -> bool:
    return (root / DEVKIT).is_dir() or (root / f"{DEVKIT}.tar.gz").is_file()


def _devkit_file(root: Path, name: str) -> bytes:
    """Reads a file of the development kit's folder `data`, unpacked or in its archive."""
    unpacked, packed = root / DEVKIT / "data" / name, root / f"{DEVKIT}.tar.gz"
    if unpacked.is_file():
        return unpacked.read_bytes()
    if not packed.is_file():
        raise DataError(f"{unpacked} is missing: put {packed.name} from {OFFICIAL} into {root}.")
    try:
        with tarfile.open(packed) as kit:
            return cast(IO[bytes], kit.extractfile(f"{DEVKIT}/data/{name}")).read()
    except (tarfile.TarError, KeyError, EOFError, OSError, zlib.error) as error:
        raise DataError(f"{packed} is damaged or lacks data/{name}: download it again from {OFFICIAL}.") from error
