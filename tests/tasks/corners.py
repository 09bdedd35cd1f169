"""Generates scenes of rectangles with their corners as keypoints, in COCO's format."""

import json
from pathlib import Path

import cv2
import numpy as np

NAMES = ["left_top", "right_top", "left_bottom", "right_bottom"]
SKELETON = [[1, 2], [2, 4], [4, 3], [3, 1]]
SIDE = 64


def write(folder: Path, train: int = 8, val: int = 4) -> Path:
    """Writes images and annotations; some images have no object, some objects a hidden or no labeled keypoint."""
    rng = np.random.default_rng(0)
    (folder / "annotations").mkdir(parents=True)
    for split, count in (("train", train), ("val", val)):
        (folder / split).mkdir()
        images, annotations = [], []
        for number in range(1, count + 1):
            name = f"{number}.png"
            images.append({"id": number, "file_name": name, "width": SIDE, "height": SIDE})
            pixels = rng.integers(0, 60, (SIDE, SIDE, 3), dtype=np.uint8)
            objects = 0 if number == count else 1 + number % 2
            for place in range(objects):
                width, height = rng.integers(18, 28, 2)
                x, y = rng.integers(2, 34 - width) + 30 * place, rng.integers(2, SIDE - 2 - height)
                pixels[y : y + height, x : x + width] = 220
                corners = [[cx, cy, 2] for cy in (y, y + height - 1) for cx in (x, x + width - 1)]
                if number % 4 == 3 and place == 0:
                    corners[3][2] = 1
                points = np.array(corners if number % 4 or place else [[0, 0, 0]] * 4)
                annotation = {"id": len(annotations) + 1, "image_id": number, "category_id": 1, "iscrowd": 0}
                # A too large area makes OKS lenient, so that a barely trained detector has an AP above 0.
                annotation |= {"bbox": [int(x), int(y), int(width), int(height)], "area": int(64 * width * height)}
                annotation |= {"keypoints": points.flatten().tolist(), "num_keypoints": int((points[:, 2] > 0).sum())}
                annotations.append(annotation)
            cv2.imwrite(str(folder / split / name), pixels)
        categories = [{"id": 1, "name": "card", "keypoints": NAMES, "skeleton": SKELETON}]
        content = {"images": images, "categories": categories, "annotations": annotations}
        (folder / "annotations" / f"{split}.json").write_text(json.dumps(content))
    return folder
