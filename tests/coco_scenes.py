"""Generates random COCO ground truth and detections that cover the edge cases of evaluators."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as pycocotools_mask

LIMITS = (9.0, 10.0, 32.0, 96.0)  # 32² and 96² are COCO's area thresholds


def make(seed: int) -> tuple[dict[str, list[dict]], list[dict]]:
    """Returns a COCO dict and results, both with boxes and masks.

    They include crowds, tied scores, classes and images without objects, images without detections, areas at the
    thresholds, areas that differ from the box area, boxes of zero area, polygons, both kinds of RLE, unsorted sparse
    ids and, for some seeds, more than 100 detections per image.
    """
    rng = np.random.default_rng(seed)
    images = [
        {"id": int(i) * 3 + 1, "width": int(rng.integers(20, 130)), "height": int(rng.integers(20, 130))}
        for i in rng.permutation(rng.integers(2, 5))
    ]
    categories = [{"id": int(c) * 2 + 1, "name": f"class {c}"} for c in rng.permutation(rng.integers(2, 5))]
    annotations = [make_object(rng, image, categories[:-1]) for image in images[1:] for _ in range(rng.integers(3, 10))]
    for number, annotation in enumerate(rng.permutation(annotations), start=1):
        annotation["id"] = number
    most = 220 if seed % 5 == 0 else 20
    results = [
        make_detection(rng, image, [a for a in annotations if a["image_id"] == image["id"]], categories)
        for image in images[:-1]
        for _ in range(rng.integers(1, most))
    ]
    rng.shuffle(results)
    return {"images": images, "categories": categories, "annotations": annotations}, results


def make_object(rng: np.random.Generator, image: dict, categories: list[dict]) -> dict[str, Any]:
    box = make_box(rng, image)
    area = float(rng.choice([0, 1024, 9216, 1e10])) if rng.random() < 0.2 else box[2] * box[3]
    return {
        "image_id": image["id"],
        "category_id": categories[rng.integers(len(categories))]["id"],
        "bbox": box,
        "area": area,
        "iscrowd": int(rng.random() < 0.15),
        "segmentation": make_mask(rng, image, box, rng.choice(["polygon", "counts", "rle"])),
    }


def make_detection(rng: np.random.Generator, image: dict, objects: list[dict], categories: list[dict]) -> dict:
    box, category = make_box(rng, image), categories[rng.integers(len(categories))]["id"]
    if objects and rng.random() < 0.6:
        like = objects[rng.integers(len(objects))]
        box = [abs(float(side + rng.choice([0, 0, 2]) * rng.normal())) for side in like["bbox"]]
        category = like["category_id"] if rng.random() < 0.9 else category
    score = float(rng.random())
    return {
        "image_id": image["id"],
        "category_id": category,
        "bbox": box,
        "score": round(score, 1) if rng.random() < 0.5 else score,
        "segmentation": make_mask(rng, image, box, "rle"),
    }


def make_box(rng: np.random.Generator, image: dict) -> list[float]:
    corner, sides = rng.uniform(0, 0.7, 2), rng.uniform(0, 0.6, 2)
    box = [*(corner * (image["width"], image["height"])), *(sides * (image["width"], image["height"]))]
    if rng.random() < 0.3:
        box[2:] = rng.choice(LIMITS, 2)
    if rng.random() < 0.5:
        box = np.round(box)
    return [float(side) for side in box]


def make_mask(rng: np.random.Generator, image: dict, box: list[float], form: str) -> Any:
    x, y, width, height = box
    if form == "polygon":
        return [[x, y, x + width, y, x + width, y + height, x + width / 2, y + height + 1, x, y + height]]
    size = [image["height"], image["width"]]
    pixels = np.zeros(size, np.uint8)
    pixels[int(y) : int(y + height) + 1, int(x) : int(x + width) + 1] = 1
    pixels[rng.random(size) < 0.1] = 0
    if form == "rle":
        return {"size": size, "counts": pycocotools_mask.encode(np.asfortranarray(pixels))["counts"].decode()}
    runs = np.diff(np.flatnonzero(np.diff(pixels.T.ravel(), prepend=0, append=2)), prepend=0)
    return {"size": size, "counts": runs.tolist()}


def written(folder: Path, truth: dict, results: list[dict]) -> tuple[Path, Path]:
    paths = folder / "truth.json", folder / "results.json"
    for path, content in zip(paths, (truth, results)):
        path.write_text(json.dumps(content))
    return paths


def one_image(*objects: dict, names=("a", "b")) -> dict:
    """Returns ground truth of a single 100×100 image."""
    defaults = {"image_id": 1, "category_id": 1, "iscrowd": 0}
    return {
        "images": [{"id": 1, "width": 100, "height": 100}],
        "categories": [{"id": k, "name": name} for k, name in enumerate(names, start=1)],
        "annotations": [
            {**defaults, "id": k, "area": thing["bbox"][2] * thing["bbox"][3], **thing}
            for k, thing in enumerate(objects, start=1)
        ],
    }


def found(bbox: list, score: float, category_id: int = 1) -> dict:
    return {"image_id": 1, "category_id": category_id, "bbox": bbox, "score": score}
