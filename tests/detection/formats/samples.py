"""Small data sets in every format: pictures of noise, so that none is a near-duplicate of another."""

import json
from pathlib import Path

import cv2
import numpy as np

from resdet.detection.data.annotations import Annotations
from resdet.detection.data.config import AutoConfig

SIZE = (60, 40)  # width, height


def picture(path: Path, seed: int | None = None, size: tuple[int, int] = SIZE) -> Path:
    """Writes an image of blocks of noise; without `seed`, by its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    number = sum(path.as_posix().encode()) if seed is None else seed
    blocks = np.random.default_rng(number).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    cv2.imwrite(str(path), cv2.resize(blocks, size, interpolation=cv2.INTER_NEAREST))
    return path


def write(root: Path, files: dict[str, str | bytes | dict | None], size: tuple[int, int] = SIZE) -> Path:
    """Writes files by path: text, bytes, JSON of a dict, and a picture for None."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            picture(path, size=size)
        else:
            text = json.dumps(content) if isinstance(content, dict) else content
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


def opened(root: Path, split: str = "train", **keys) -> Annotations:
    return AutoConfig(root=str(root), **keys).open(split)


def objects(source: Annotations) -> dict[str, list[tuple[str, list[float]]]]:
    """Class and box, xyxy rounded to 0.01, of the objects of each image, by its path."""
    found = {}
    for i in range(len(source)):
        own = source.objects(i)
        boxes = [[round(side, 2) for side in box] for box in own.boxes.tolist()]
        found[source.files[i]] = [(source.classes[label], box) for label, box in zip(own.labels, boxes)]
    return found


def coco(images: dict[int, str], boxes: list[tuple], names=("cat", "dog"), size=SIZE) -> dict:
    """A COCO dict; each box is image id, category id, x, y, width, height."""
    return {
        "images": [{"id": i, "file_name": name, "width": size[0], "height": size[1]} for i, name in images.items()],
        "annotations": [
            {"id": n, "image_id": image, "category_id": category, "bbox": box, "iscrowd": 0}
            for n, (image, category, *box) in enumerate(boxes, 1)
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, 1)],
    }


def voc(*things: tuple, size=SIZE, filename: str = "") -> str:
    """VOC's XML; each thing is a name and xmin, ymin, xmax, ymax, counted from 1 with the last pixel included."""
    text = f"<annotation><filename>{filename}</filename>"
    text += f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    for name, *corners in things:
        box = "".join(f"<{key}>{side}</{key}>" for key, side in zip(("xmin", "ymin", "xmax", "ymax"), corners))
        text += f"<object><name>{name}</name><bndbox>{box}</bndbox></object>"
    return text + "</annotation>"
