"""A custom data format: a config dataclass with `open`, registered under its name.

The format is a folder of images, and a CSV file per split with the columns file,class,left,top,right,bottom:

    resdet train --config custom.yaml --import data_format data.name=boxes_csv data.root=FOLDER
"""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import resdet
from resdet.detection import Annotations, ScenesConfig, from_coco
from resdet.errors import DataError


@resdet.data.register("boxes_csv")
@dataclass
class BoxesCsvConfig(ScenesConfig):
    """A folder of images with `train.csv` and `val.csv`."""

    name: str = "boxes_csv"

    def open(self, split: str) -> Annotations:
        """Returns the images of a split (`train` or `val`) with their objects."""
        return from_coco(read(Path(self.root), split), self.root, self.on_bad_annotation)


def read(root: Path, split: str) -> dict[str, Any]:
    """Converts the CSV file to a COCO dict; both splits have the classes of the training file."""
    rows = read_rows(root / f"{split}.csv")
    classes = sorted({row["class"] for row in read_rows(root / "train.csv")})
    files = sorted({row["file"] for row in rows})
    annotations = []
    for number, row in enumerate(rows, 1):
        left, top, right, bottom = (float(row[side]) for side in ("left", "top", "right", "bottom"))
        box = [left, top, right - left, bottom - top]
        image, category = files.index(row["file"]) + 1, classes.index(row["class"]) + 1
        annotations.append({"id": number, "image_id": image, "category_id": category, "bbox": box, "iscrowd": 0})
    return {
        "images": [{"id": number, "file_name": file} for number, file in enumerate(files, 1)],
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in enumerate(classes, 1)],
    }


def read_rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; write one line an object: file,class,left,top,right,bottom.")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
