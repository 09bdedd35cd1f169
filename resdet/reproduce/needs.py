"""Checks for the data sets of a plan; missing ones are reported before any training starts."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from resdet.files.atomic import write_text
from resdet.reproduce.plan import Setting
from resdet.reproduce.records import Row, Training
from resdet.reproduce.trainings import TRAININGS

SIZES = {
    "cifar10": "163 MB; `resdet data get cifar10` fetches it",
    "imagenet": "about 145 GB, after registration at image-net.org",
    "ilsvrc_loc": "about 145 GB and the boxes, after registration at image-net.org",
    "ilsvrc_det": "about 50 GB, after registration at image-net.org",
    "coco": "about 20 GB, from cocodataset.org",
    "voc": "about 4 GB, from host.robots.ox.ac.uk/pascal/VOC",
}
SPLITS = ("train", "val")
TRAINVAL = "annotations/instances_trainval2014.json"
Alternatives = tuple[str, ...]  # files or folders, one of which must exist


def required_paths(data: Any, splits: Sequence[str] = SPLITS) -> list[Alternatives]:
    """Returns the paths in a data set's folder that these splits require (datasets/README.md lists all layouts)."""
    if data.name == "cifar10":
        kinds = ("cifar-10-batches-py", "cifar-10-batches-bin", "cifar-10-python.tar.gz", "cifar-10-binary.tar.gz")
        return [kinds]
    if data.name == "voc":
        years = sorted({name.split("_")[0] for split in splits for name in getattr(data, f"{split}_sets")})
        return [(f"VOC{year}", f"VOCdevkit/VOC{year}") for year in years]
    if data.name == "coco":
        return coco_paths(data, splits)
    if data.name == "ilsvrc_det":
        halves = ["val1", "val2"] if "train" in splits else ["val2"]
        paths = ["Annotations/DET", "Data/DET", *(f"ImageSets/DET/{half}.txt" for half in halves)]
        return [(path, f"ILSVRC/{path}", f"ILSVRC2015/{path}") for path in paths]
    images: list[Alternatives] = [
        (part, f"ILSVRC2012_img_{part}.tar", f"ILSVRC/Data/CLS-LOC/{part}") for part in splits
    ]
    if data.name == "imagenet":
        return images
    kaggle = ("ILSVRC/Annotations/CLS-LOC", "Annotations/CLS-LOC")
    boxes = {"train": "ILSVRC2012_bbox_train_v2.tar.gz", "val": "ILSVRC2012_bbox_val_v3.tgz"}
    return [*images, *((f"bbox_{part}", boxes[part], *kaggle) for part in splits)]


def coco_paths(data: Any, splits: Sequence[str]) -> list[Alternatives]:
    if "train" not in splits or data.train.annotations != TRAINVAL:
        files = [getattr(data, split) for split in splits]
        return [(part,) for split in files for part in (split.images, split.annotations)]
    return [(part,) for half in ("train2014", "val2014") for part in (half, f"annotations/instances_{half}.json")]


def missing(trainings: Iterable[Training], rows: Iterable[Row], setting: Setting) -> dict[str, str]:
    """Returns {data set: which files to put where} for missing data of the trainings and of the rows' evaluations."""
    used: dict[Training, Sequence[str]] = dict.fromkeys(trainings, SPLITS)
    for row in rows:
        if row.nets:
            used.setdefault(TRAININGS[row.nets[0]], ("val",))
    lacking: dict[str, dict[str, None]] = {}
    for training, splits in used.items():
        data = setting.experiment(training).data
        root = setting.data_root(data.name)
        absent = [paths for paths in required_paths(data, splits) if not any((root / path).exists() for path in paths)]
        lacking.setdefault(data.name, {}).update(dict.fromkeys(" or ".join(paths) for paths in absent))
    return {
        name: f"{name}: put {', '.join(paths)} into {setting.data_root(name)} ({SIZES[name]})"
        for name, paths in lacking.items()
        if paths
    }


def needs_trainval(trainings: Iterable[Training], setting: Setting) -> bool:
    """Whether a training uses COCO 2014 train and val together."""
    datas: list[Any] = [setting.experiment(training).data for training in trainings]
    return any(data.name == "coco" and data.train.annotations == TRAINVAL for data in datas)


def write_trainval(root: Path) -> Path:
    """Writes the COCO 2014 train and val annotations as one file, with image paths relative to `root`."""
    target = root / TRAINVAL
    if target.exists():
        return target
    whole: dict[str, list] = {"images": [], "annotations": []}
    for half in ("train2014", "val2014"):
        content = json.loads((root / f"annotations/instances_{half}.json").read_text(encoding="utf-8"))
        whole["images"] += [{**image, "file_name": f"{half}/{image['file_name']}"} for image in content["images"]]
        whole["annotations"] += content["annotations"]
        whole["categories"] = content["categories"]
    write_text(target, json.dumps(whole))
    return target
