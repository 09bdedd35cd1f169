"""Reads data sets with damaged files in every annotation format as `data.name=auto` does."""

import io
import json
import random
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from detection.formats import samples
from fuzz.cases import Case, Trial
from fuzz.damage import COORDINATES, STRINGS, damage_bytes, damage_text, mutate_tree, mutations, odd_value, to_json

from resdet.detection.data.coco import from_coco
from resdet.detection.formats.data_set import DataSet
from resdet.detection.formats.registry import recognize

CAT = "0 0.5 0.5 0.5 0.5\n1 0.1 0.1 0.6 0.1 0.3 0.8\n"
VALUES = [*map(str, COORDINATES), *STRINGS, "1e400", "-1", "0x1", "1_0", "½", "nan", "65536", "9" * 5000]
# The first word of an entry is the format.
FORMATS = (
    *("coco", "yolo", "yolo poses", "voc", "cvat", "labelme", "openimages", "fiftyone", "csv", "mask_png"),
    "fiftyone shapes",
    "webdataset",
)


@cache
def undamaged(name: str) -> dict[str, bytes]:
    return {file: data_of(file, content) for file, content in TREES[name].items()}


def data_of(file: str, content: Any) -> bytes:
    if content is None:
        blocks = np.random.default_rng(len(file)).integers(0, 256, (40, 60, 3), dtype=np.uint8)
        return cv2.imencode(Path(file).suffix, blocks)[1].tobytes()
    if file.endswith(".tar"):
        return tar_of({name: data_of(name, member) for name, member in content.items()})
    text = json.dumps(content) if isinstance(content, dict) else content
    return text if isinstance(text, bytes) else text.encode()


def tar_of(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return file.getvalue()


def png(values: list[int]) -> bytes:
    return cv2.imencode(".png", np.repeat(np.array(values, np.uint8), 400).reshape(40, 60))[1].tobytes()


POSE = f"{CAT.splitlines()[0]} 0.1 0.2 2 0.3 0.4 1\n1 0.5 0.5 0.5 0.5 0 0 0 0.9 0.9 2\n"
ONE = samples.coco({7: "a.jpg", 9: "b.jpg"}, [(7, 1, 15, 10, 30, 20), (9, 2, 1, 1, 5, 5), (9, 1, 0, 0, 60, 40)])
TREES: dict[str, dict[str, Any]] = {
    "coco": {"images/a.jpg": None, "images/b.jpg": None, "annotations.json": ONE},
    "yolo": {
        **{"images/train/a.jpg": None, "labels/train/a.txt": CAT, "images/train/b.jpg": None},
        **{"labels/train/b.txt": CAT, "images/val/c.jpg": None, "labels/val/c.txt": CAT},
        "data.yaml": "path: .\ntrain: images/train\nval:\n- images/val\nnames:\n  0: cat\n  1: dog\n",
    },
    "yolo poses": {
        **{"images/train/a.jpg": None, "labels/train/a.txt": POSE, "images/val/b.jpg": None, "labels/val/b.txt": POSE},
        "data.yaml": "train: images/train\nval: images/val\nnames: [cat, dog]\nkpt_shape: [2, 3]\nflip_idx: [1, 0]\n"
        "kpt_names:\n  0: [left_ear, right_ear]\n  1: [left_ear, right_ear]\n",
    },
    "voc": {
        **{"JPEGImages/a.jpg": None, "JPEGImages/b.jpg": None},
        **{f"Annotations/{k}.xml": samples.voc(("cat", 1, 2, 30, 20), ("dog", 3, 4, 5, 6)) for k in "ab"},
        **{"ImageSets/Main/train.txt": "a\n", "ImageSets/Main/val.txt": "b\n"},
    },
    "cvat": samples.CVAT,
    "labelme": {name: content for name, content in samples.LABELME.items() if "broken" not in name},
    "openimages": samples.OPEN_IMAGES,
    "fiftyone": samples.FIFTYONE,
    "fiftyone shapes": samples.FIFTYONE_SHAPES,
    "csv": {
        **{"a.jpg": None, "b.jpg": None},
        "train.csv": "split,filename,class,xmin,ymin,xmax,ymax\ntrain,a.jpg,cat,15,10,45,30\nval,b.jpg,dog,1,2,3,4\n",
    },
    "mask_png": {
        **{"train/images/a.jpg": None, "train/masks/a.png": png([0, 1, 2, 0, 3, 3])},
        **{"val/images/b.jpg": None, "val/masks/b.png": png([0, 0, 2, 0, 4, 3]), "classes.txt": "cell"},
    },
    "webdataset": {
        "train/000000.tar": {
            **{"0.jpg": None, "0.json": {"annotations": ONE["annotations"][:1], "width": 60, "height": 40}},
            **{"1.jpg": None, "1.json": {"annotations": [{"bbox": [1, 2, 30, 20], "category": "cat", "iscrowd": 0}]}},
        },
        "val/000000.tar": {"2.jpg": None, "2.json": {"objects": {"bbox": [[1, 2, 30, 20]], "category": ["dog"]}}},
    },
}


def make_case(rng: random.Random) -> Case:
    name = rng.choice(FORMATS)
    files = dict(undamaged(name))
    kinds = [file for file in files if not file.endswith(".jpg")]
    for file in rng.sample(kinds, min(len(kinds), rng.choice([1, 1, 1, 2]))):
        damage(rng, files, file, TREES[name][file])
    if rng.random() < 0.1:
        victim = rng.choice(sorted(files))
        files[victim if rng.random() < 0.5 else f"{rng.choice(['train', 'x', 'images/labels'])}/{victim}"] = files.pop(
            victim
        )
    form = rng.choice([None, None, name.split()[0]])
    return Case(files, {"on_bad": rng.choice(["skip", "skip", "error"]), "format": form})


def damage(rng: random.Random, files: dict[str, bytes], file: str, content: Any) -> None:
    draw = rng.random()
    if file.endswith(".tar") and draw > 0.3:
        members = {name: data_of(name, member) for name, member in content.items()}
        name = rng.choice([name for name in members if name.endswith(".json")])
        damage(rng, members, name, content[name])
        files[file] = tar_of(members)
        return
    if draw < 0.15 or isinstance(content, bytes) or file.endswith(".tar"):
        files[file] = damage_bytes(rng, files[file])
    elif draw < 0.3:
        files[file] = damage_text(rng, files[file].decode()).encode("utf-8", "surrogatepass")
    elif isinstance(content, dict):
        tree = json.loads(files[file])
        for _ in range(mutations(rng)):
            tree = mutate_tree(rng, tree)
        files[file] = to_json(tree).encode("utf-8", "surrogatepass")
    else:
        files[file] = odd_field(rng, files[file].decode()).encode("utf-8", "surrogatepass")
    if rng.random() < 0.03:
        files[file] = rng.choice(
            [b"", b"\xef\xbb\xbf" + files[file], files[file] * 3, files[file].decode("latin1").encode("utf-16")]
        )


def odd_field(rng: random.Random, text: str) -> str:
    """Replaces single values between the separators of text, XML, CSV or YAML."""
    for _ in range(mutations(rng)):
        separators = [i for i, character in enumerate(text) if character in ' ,;"<>\n:']
        if len(separators) < 2:
            return text
        k = rng.randrange(len(separators) - 1)
        value = rng.choice(VALUES) if rng.random() < 0.8 else str(odd_value(rng))[:6000]
        text = text[: separators[k] + 1] + value + text[separators[k + 1] :]
    return text


def run_case(folder: Path, options: dict[str, Any], trial: Trial) -> None:
    """Reads the data set as `data.name=auto` does, without the cached index."""
    data = trial.attempt(lambda: DataSet(recognize(folder, options["format"]), options["on_bad"], val_share=0.5))
    contents = trial.attempt(data.contents) if data else None
    for content in (contents or {}).values():
        source = from_coco(content, folder, "error")  # invalid entries have already been dropped
        assert len(source.to_coco()["annotations"]) == len(content["annotations"]) == source.arrays["starts"][-1]
    trial.skipped |= bool(contents) and any(each.problems for each in data.loaded.values())
