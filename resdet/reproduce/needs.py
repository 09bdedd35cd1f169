"""Which data sets a plan needs, and what to put where if they are not there; told before anything is spent."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from resdet.reproduce.plan import Setting
from resdet.reproduce.records import Training

SIZES = {
    "cifar10": "163 MB; `resdet data get cifar10` fetches it",
    "imagenet": "about 145 GB, after registration at image-net.org",
    "ilsvrc_loc": "about 145 GB and the boxes, after registration at image-net.org",
    "ilsvrc_det": "about 50 GB, after registration at image-net.org",
    "coco": "about 20 GB, from cocodataset.org",
    "voc": "about 4 GB, from host.robots.ox.ac.uk/pascal/VOC",
}
TRAINVAL = "annotations/instances_trainval2014.json"
Piece = tuple[str, ...]  # files or folders of which one must be there


def pieces(data: Any) -> list[Piece]:
    """What must lie in the folder of a data set (datasets/README.md has all layouts)."""
    if data.name == "cifar10":
        kinds = ("cifar-10-batches-py", "cifar-10-batches-bin", "cifar-10-python.tar.gz", "cifar-10-binary.tar.gz")
        return [kinds]
    if data.name == "voc":
        years = sorted({name.split("_")[0] for name in (*data.train_sets, *data.val_sets)})
        return [(f"VOC{year}", f"VOCdevkit/VOC{year}") for year in years]
    if data.name == "coco":
        return coco_pieces(data)
    if data.name == "ilsvrc_det":
        lists = [(f"ImageSets/DET/{half}.txt", f"ILSVRC/ImageSets/DET/{half}.txt") for half in ("val1", "val2")]
        return [("Annotations/DET", "ILSVRC/Annotations/DET"), ("Data/DET", "ILSVRC/Data/DET"), *lists]
    images = [(part, f"ILSVRC2012_img_{part}.tar", f"ILSVRC/Data/CLS-LOC/{part}") for part in ("train", "val")]
    if data.name == "imagenet":
        return images
    kaggle = ("ILSVRC/Annotations/CLS-LOC", "Annotations/CLS-LOC")
    return [
        *images,
        ("bbox_train", "ILSVRC2012_bbox_train_v2.tar.gz", *kaggle),
        ("bbox_val", "ILSVRC2012_bbox_val_v3.tgz", *kaggle),
    ]


def coco_pieces(data: Any) -> list[Piece]:
    if data.train.annotations != TRAINVAL:
        return [(part,) for split in (data.train, data.val) for part in (split.images, split.annotations)]
    return [(part,) for half in ("train2014", "val2014") for part in (half, f"annotations/instances_{half}.json")]


def missing(trainings: Iterable[Training], setting: Setting) -> dict[str, str]:
    """{data set: what to put where}, of those that are not there."""
    found = {}
    for training in trainings:
        data = setting.experiment(training).data
        root = setting.data_root(data.name)
        lacking = [piece for piece in pieces(data) if not any((root / part).exists() for part in piece)]
        if lacking:
            names = ", ".join(" or ".join(piece) for piece in lacking)
            found[data.name] = f"{data.name}: put {names} into {root} ({SIZES[data.name]})"
    return found


def needs_trainval(trainings: Iterable[Training], setting: Setting) -> bool:
    """Whether COCO's two halves are trained on as one."""
    datas = [setting.experiment(training).data for training in trainings]
    return any(data.name == "coco" and data.train.annotations == TRAINVAL for data in datas)


def write_trainval(root: Path) -> Path:
    """COCO 2014's training and validation annotations as one file, whose images are named from `root` on."""
    from resdet.weights.saving import write_atomically

    target = root / TRAINVAL
    if target.exists():
        return target
    whole: dict[str, list] = {"images": [], "annotations": []}
    for half in ("train2014", "val2014"):
        content = json.loads((root / f"annotations/instances_{half}.json").read_text(encoding="utf-8"))
        whole["images"] += [{**image, "file_name": f"{half}/{image['file_name']}"} for image in content["images"]]
        whole["annotations"] += content["annotations"]
        whole["categories"] = content["categories"]
    write_atomically(target, lambda temporary: temporary.write_text(json.dumps(whole), encoding="utf-8"))
    return target
