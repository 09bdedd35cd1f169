"""A small data set without faults, and more than forty faults to plant in it."""

import copy
import json
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from resdet import config
from resdet.detection.check.report import DEPTH, Depth, Report, check_config

WIDTH, HEIGHT = 120, 90
CLASSES = ("cat", "dog", "bird")
SETTINGS = (
    "data.augment.min_size=[180]", "data.max_objects=8", "model.pretrained=null", "model.backbone=resnet18",
)  # fmt: skip
Found = set[tuple[str, str, str | None, tuple]]


class Expected(NamedTuple):
    kind: str
    split: str = "train"
    image: str | None = None
    annotations: tuple = ()


class DataSet:
    """Images of smooth noise, each with an object of each class and rectangular masks."""

    def __init__(self, train: int = 45, val: int = 8):
        self.rng = np.random.default_rng(0)
        self.files: dict[str, bytes] = {}
        self.content: dict[str, dict[str, Any]] = {}
        self.objects = 0
        self.fresh = 0  # index of the next training image without a fault
        for split, count in (("train", train), ("val", val)):
            categories = [{"id": id, "name": name} for id, name in enumerate(CLASSES, 1)]
            self.content[split] = {"images": [], "annotations": [], "categories": categories}
            for _ in range(count):
                self.add_image(split, encoded(self.picture()))

    def picture(self) -> np.ndarray:
        """Makes an image with a random hash: any two differ in about half of the bits."""
        grid = self.rng.integers(0, 256, (8, 9, 3), np.uint8)
        return cv2.resize(grid, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)

    def add_image(self, split: str, data: bytes, suffix: str = ".jpg") -> dict[str, Any]:
        images = self.content[split]["images"]
        image = {"id": len(images) + 1, "file_name": f"{split}{len(images):03}{suffix}"}
        image |= {"width": WIDTH, "height": HEIGHT}
        images.append(image)
        self.files[f"{split}/{image['file_name']}"] = data
        for k in range(len(CLASSES)):
            x, y = 6 + 38 * k, 20 + int(self.rng.integers(0, 20))
            self.add_object(split, image, k + 1, [x, y, 26 + int(self.rng.integers(0, 8)), 30])
        return image

    def add_object(self, split: str, image: dict, category: int, box: list, **values: Any) -> dict[str, Any]:
        annotations = self.content[split]["annotations"]
        self.objects += 1
        entry = {"id": self.objects, "image_id": image["id"], "category_id": category, "bbox": box}
        entry |= {"iscrowd": 0, "segmentation": [rectangle(*corners(box))], **values}
        annotations.append(entry)
        return entry

    def next(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns the next training image without a fault, and its first object."""
        image = self.content["train"]["images"][self.fresh]
        self.fresh += 1
        return image, next(a for a in self.content["train"]["annotations"] if a["image_id"] == image["id"])

    def write(self, root: Path) -> Path:
        for name, data in self.files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
        (root / "annotations").mkdir()
        for split, content in self.content.items():
            (root / "annotations" / f"{split}.json").write_text(json.dumps(content))
        return root


def rectangle(x1: float, y1: float, x2: float, y2: float) -> list[float]:
    return [x1, y1, x2, y1, x2, y2, x1, y2]


def corners(box: list) -> list[float]:
    x, y, width, height = box
    return [x, y, x + width, y + height]


def encoded(pixels: np.ndarray, suffix: str = ".jpg", quality: int = 95) -> bytes:
    return cv2.imencode(suffix, pixels, [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix == ".jpg" else [])[1].tobytes()


def rotated(data: bytes, orientation: int) -> bytes:
    """Adds an EXIF orientation to a JPEG."""
    tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0" + bytes([orientation, 0, 0, 0]) + b"\0\0\0\0"
    exif = b"Exif\0\0" + tiff
    return data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]


def holed() -> dict[str, Any]:
    """Returns uncompressed RLE of a mask of the box [30, 20, 30, 30] with four holes of one pixel."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[20:50, 30:60] = 1
    mask[[25, 25, 40, 40], [35, 50, 35, 50]] = 0
    changes = np.flatnonzero(np.diff(mask.T.ravel(), prepend=0, append=2))
    return {"size": [HEIGHT, WIDTH], "counts": np.diff(changes, prepend=0).tolist()}


def check(root: Path, *overrides: str, depth: Depth = DEPTH) -> Report:
    return check_config(experiment(root, *overrides), depth)


def experiment(root: Path, *overrides: str):
    return config.load("custom.yaml", *SETTINGS, f"data.root={root}", *overrides)


def found(report: Report) -> Found:
    return {(each.kind, each.split, each.image, each.annotations) for each in report.findings}


def plant_files(data: DataSet) -> list[Expected]:
    expected = []

    def change(kind: str, make) -> None:
        image, _ = data.next()
        name = f"train/{image['file_name']}"
        data.files[name] = make(data.files[name])
        expected.append(Expected(kind, "train", image["file_name"]))

    image, _ = data.next()
    del data.files[f"train/{image['file_name']}"]
    expected.append(Expected("missing", "train", image["file_name"]))
    change("unreadable", lambda old: b"")
    change("unreadable", lambda old: b"<html>not found</html>")
    change("truncated", lambda old: old[: len(old) // 2])
    png = encoded(data.picture(), ".png")
    change("truncated", lambda old: png[:-20])
    change("image_size", lambda old: encoded(cv2.resize(data.picture(), (100, 75))))
    change("exif", lambda old: rotated(old, 3))
    change("exif_stored", lambda old: rotated(old, 6))
    return expected


def plant_copies(data: DataSet) -> list[Expected]:
    """Adds the copies after the other images, each with other objects."""
    pictures = [data.picture() for _ in range(4)]
    expected = []
    for pixels, kind, split in zip(pictures, ("duplicate_image", "near_duplicate"), ("train", "train")):
        data.add_image("train", encoded(pixels))
        image = data.add_image(split, encoded(pixels, quality=95 if kind == "duplicate_image" else 60))
        expected.append(Expected(kind, split, image["file_name"]))
    for pixels, kind in zip(pictures[2:], ("leak", "near_leak")):
        data.add_image("train", encoded(pixels))
        image = data.add_image("val", encoded(pixels, quality=95 if kind == "leak" else 60))
        expected.append(Expected(kind, "val", image["file_name"]))
    first, _ = data.next()
    again = {**first, "id": 900}
    data.content["train"]["images"].append(again)
    return [*expected, Expected("file_twice", "train", first["file_name"])]


def plant_ids(data: DataSet) -> list[Expected]:
    train = data.content["train"]
    image, _ = data.next()
    train["images"].append({**image, "file_name": "again.jpg"})
    _, thing = data.next()
    of_thing, _ = data.next()
    thing["id"] = 1
    expected = [
        Expected("image_id", "train", "again.jpg"),
        Expected("annotation_id", "train", train["images"][thing["image_id"] - 1]["file_name"], (1,)),
    ]
    for key, value, kind in (
        ("image_id", 12345, "unknown_image"),
        ("category_id", 77, "unknown_category"),
        ("area", "large", "annotation_invalid"),
        ("id", "seven", "annotation_id"),
    ):
        image, thing = data.next()
        thing[key] = value
        name = None if kind == "unknown_image" else image["file_name"]
        expected.append(Expected(kind, "train", name, (thing["id"],)))
    train["images"].append({"id": 901, "width": 10, "height": 10})
    train["images"].append({"id": 902, "file_name": "nowhere.jpg"})
    expected += [Expected("image_invalid", "train", ""), Expected("image_invalid", "train", "nowhere.jpg")]
    train["categories"].append({"id": 2, "name": "second dog"})
    return [*expected, Expected("category_id")]


def plant_boxes(data: DataSet) -> list[Expected]:
    expected = []

    def change(box: Any, *kinds: str, mask: Any = ()) -> dict[str, Any]:
        image, thing = data.next()
        thing["bbox"] = box
        thing["segmentation"] = [rectangle(*mask)] if mask else thing["segmentation"]
        expected.extend(Expected(kind, "train", image["file_name"], (thing["id"],)) for kind in kinds)
        return image

    change([1, 2, "3", 4], "box_invalid")
    change([1, 2, 3], "box_invalid")
    change([1, 2, float("nan"), 4], "box_invalid")
    change([40, 70, -30, -40], "box_inverted")
    change([10, 10, 0, 20], "box_no_area")
    change([0.2, 0.3, 0.4, 0.5], "box_normalized", "tiny", mask=(0.2, 0.3, 0.6, 0.8))
    change([30, 20, 110, 85], "box_xyxy", mask=(30, 20, 110, 85))
    change([10, 80, 75, 30], "box_swapped", mask=(10, 80, 85, 90))
    change([130, 10, 20, 20], "box_outside")
    change([2, 55, 40, 38], "box_clipped", mask=(2, 55, 42, 90))
    change([3, 60, 1.5, 20], "tiny", mask=(3, 60, 4.5, 80))
    for category, kind in ((1, "box_duplicate"), (2, "box_two_classes")):
        image, thing = data.next()
        x, y, width, height = thing["bbox"]
        copy_ = data.add_object("train", image, category, [x + 0.25, y, width, height])
        expected.append(Expected(kind, "train", image["file_name"], (copy_["id"], thing["id"])))
    image, _ = data.next()
    for k in range(6):
        data.add_object("train", image, 1, [4 + 19 * k, 72, 16, 16])
    return [*expected, Expected("crowded", "train", image["file_name"])]


def plant_masks(data: DataSet) -> list[Expected]:
    expected = []
    box = [30, 20, 30, 30]
    parts = [rectangle(30 + 5 * k, 20 + 15 * row, 33 + 5 * k, 20 + 15 * row + 15) for k in range(6) for row in (0, 1)]
    for kind, mask in (
        ("mask_invalid", [[30, 20, 60, 50]]),
        ("mask_missing", []),
        ("mask_empty", [[30, 20, 45, 35, 60, 50]]),
        ("mask_differs", [rectangle(50, 40, 60, 50)]),
        ("mask_outside", [rectangle(30, 20, 60, 56)]),
        ("mask_holes", [rectangle(30, 20, 60, 50), rectangle(40, 30, 50, 40)]),
        ("mask_holes", holed()),
        ("mask_parts", [*parts[:-1], rectangle(55, 35, 60, 50)]),
    ):
        image, _ = data.next()
        owned = [a for a in data.content["train"]["annotations"] if a["image_id"] == image["id"]]
        owned[0] |= {"bbox": box, "segmentation": mask}
        data.content["train"]["annotations"].remove(owned[1])  # the box would cover it
        expected.append(Expected(kind, "train", image["file_name"], (owned[0]["id"],)))
    return expected


def plant_categories(data: DataSet) -> list[Expected]:
    for content in data.content.values():
        content["categories"] += [{"id": 8, "name": "fish"}, {"id": 9, "name": "owl"}, {"id": 10, "name": "Owl "}]
    image = data.content["train"]["images"][44]
    data.add_object("train", image, 9, [60, 70, 20, 18])
    data.add_object("val", data.content["val"]["images"][0], 10, [60, 70, 20, 18])
    return [
        Expected("category_empty"),
        Expected("category_absent", "val"),
        Expected("category_absent", "train"),
        Expected("category_name"),
        Expected("imbalance"),
    ]


def plant_everything(data: DataSet) -> list[Expected]:
    plants = (plant_files, plant_ids, plant_boxes, plant_masks, plant_copies, plant_categories)
    return [expected for plant in plants for expected in plant(data)]


def copy_of(data: DataSet) -> DataSet:
    return copy.deepcopy(data)
