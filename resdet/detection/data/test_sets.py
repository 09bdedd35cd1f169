"""Test sets without public annotations, for submissions: VOC, ILSVRC DET, ILSVRC VID and COCO."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from resdet.data.array_cache import Arrays
from resdet.detection.data.annotations import Annotations
from resdet.detection.data.coco_file import CocoFile, is_text
from resdet.detection.data.compile_annotations import Problems, RawAnnotations, compile_annotations
from resdet.detection.data.ilsvrc_classes import DET, VID
from resdet.detection.data.validation import refuse
from resdet.detection.data.voc import CLASSES
from resdet.errors import ConfigError, DataError
from resdet.files.json_file import read_json
from resdet.images.decode import read_image


def voc_test(root: Path, sets: Sequence[str]) -> Annotations:
    """Opens a set such as 2012_test; ImageSets/Main lists its images."""
    if len(sets) != 1 or "_" not in sets[0]:
        raise ConfigError(f"data.val_sets is {list(sets)}: a submission needs one set, such as 2012_test.")
    year, split = sets[0].split("_", 1)
    home = first_with(f"ImageSets/Main/{split}.txt", (root / f"VOC{year}", root / "VOCdevkit" / f"VOC{year}"))
    stems = first_words(home / f"ImageSets/Main/{split}.txt")
    return unlabeled([f"{stem}.jpg" for stem in stems], home / "JPEGImages", CLASSES)


def det_test(root: Path, split: str) -> Annotations:
    """Opens test or val; ImageSets/DET lists the images in the order of the server's numbering."""
    return ilsvrc_test(root, "DET", split, list(DET.values()))


def vid_test(root: Path, split: str) -> Annotations:
    """Opens test or val; ImageSets/VID lists the frames in the order of the server's numbering."""
    return ilsvrc_test(root, "VID", split, list(VID.values()))


def ilsvrc_test(root: Path, task: str, split: str, classes: Sequence[str]) -> Annotations:
    file = f"ImageSets/{task}/{split}.txt"
    home = first_with(file, (root, root / "ILSVRC", root / "ILSVRC2015"))
    folder = home / "Data" / task / ("test" if split.startswith("test") else "val")
    return unlabeled([f"{stem}.JPEG" for stem in first_words(home / file)], folder, classes)


def coco_test(images: Path, info: Path) -> Annotations:
    """Opens an image_info file, with the server's image and category ids."""
    content = read_json(info)
    unlabeled = content | {"annotations": []} if isinstance(content, dict) else content
    coco = CocoFile(unlabeled, f"{info} (which should be COCO's image_info_test-dev2015.json)", refuse(str(info)))
    files = coco.images.values("file_name")
    coco.images.require(np.array([is_text(file) for file in files], bool), "no text as file_name", "file_name")
    coco.images.require((coco.sizes > 0).all(1), "no width and height")
    raw = no_annotations(files, coco.sizes, {"image_ids": coco.image_ids})
    arrays = compile_annotations(raw, coco.classes, Problems(info, "error"), "annotation")
    return Annotations(arrays | {"intact": np.array([False])}, images, info)


def unlabeled(files: Sequence[str], folder: Path, classes: Sequence[str]) -> Annotations:
    """Returns images without objects, in their stored orientation (without EXIF rotation)."""
    sizes = [stored_size(folder / file) for file in files]
    raw = no_annotations(list(files), sizes)
    return Annotations(
        compile_annotations(raw, dict(enumerate(classes, 1)), Problems(folder, "error"), "object"), folder
    )


def stored_size(path: Path) -> tuple[int, int]:
    try:
        return read_image(path, "restore it").as_stored().size
    except DataError as error:
        raise DataError(f"{str(error).rstrip('.')}; the server requires all images of its list.") from error


def no_annotations(
    files: list[str], sizes: Sequence[tuple[int, int]] | np.ndarray, columns: Arrays | None = None
) -> RawAnnotations:
    return RawAnnotations(files, sizes, images=[], boxes=[], labels=[], names=[], image_columns=columns or {})


def first_with(file: str, homes: Sequence[Path]) -> Path:
    home = next((home for home in homes if (home / file).is_file()), None)
    if home is None:
        raise DataError(f"{homes[0] / file} is missing: put the list of the test images there.")
    return home


def first_words(file: Path) -> list[str]:
    return [line.split()[0] for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
