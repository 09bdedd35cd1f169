"""Provides small data sets in every format, of noise images, so that none is a near-duplicate of another."""

import base64
import io
import json
import zlib
from pathlib import Path

import cv2
import numpy as np

from resdet.detection.data.annotations import Annotations
from resdet.detection.data.config import AutoConfig

SIZE = (60, 40)  # width, height


def picture(path: Path, seed: int | None = None, size: tuple[int, int] = SIZE) -> Path:
    """Writes an image of blocks of noise, seeded by its path by default."""
    path.parent.mkdir(parents=True, exist_ok=True)
    number = sum(path.as_posix().encode()) if seed is None else seed
    blocks = np.random.default_rng(number).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    cv2.imwrite(str(path), cv2.resize(blocks, size, interpolation=cv2.INTER_NEAREST))
    return path


def write(root: Path, files: dict[str, str | bytes | dict | None], size: tuple[int, int] = SIZE) -> Path:
    """Writes files by path: text, bytes, JSON of a dict, or an image for None."""
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
    """Returns class and box, xyxy rounded to 0.01, of the objects of each image by path."""
    found = {}
    for i in range(len(source)):
        own = source.objects(i)
        boxes = [[round(side, 2) for side in box] for box in own.boxes.tolist()]
        found[source.files[i]] = [(source.classes[label], box) for label, box in zip(own.labels, boxes)]
    return found


def coco(images: dict[int, str], boxes: list[tuple], names=("cat", "dog"), size=SIZE) -> dict:
    """Returns a COCO dict; each box is (image id, category id, x, y, width, height)."""
    return {
        "images": [{"id": i, "file_name": name, "width": size[0], "height": size[1]} for i, name in images.items()],
        "annotations": [
            {"id": n, "image_id": image, "category_id": category, "bbox": box, "iscrowd": 0}
            for n, (image, category, *box) in enumerate(boxes, 1)
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, 1)],
    }


def voc(*things: tuple, size=SIZE, filename: str = "") -> str:
    """Returns VOC's XML; each thing is (name, xmin, ymin, xmax, ymax), 1-based and inclusive."""
    text = f"<annotation><filename>{filename}</filename>"
    text += f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    for name, *corners in things:
        box = "".join(f"<{key}>{side}</{key}>" for key, side in zip(("xmin", "ymin", "xmax", "ymax"), corners))
        text += f"<object><name>{name}</name><bndbox>{box}</bndbox></object>"
    return text + "</annotation>"


CVAT = {
    "images/sub/a.jpg": None,
    "images/b.jpg": None,
    "annotations.xml": """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><labels>
    <label><name>cat</name></label><label><name>dog</name></label><label><name>car</name></label>
  </labels></task></meta>
  <image id="0" name="sub/a.jpg" subset="Train" width="60" height="40">
    <box label="cat" source="manual" occluded="0" xtl="15.0" ytl="10.0" xbr="45.0" ybr="30.0" z_order="0"></box>
    <box label="dog" rotation="90" xtl="15" ytl="10" xbr="45" ybr="30"></box>
    <polygon label="car" points="1.0,2.0;21.0,2.0;21.0,22.0"></polygon>
    <ellipse label="cat" cx="30" cy="20" rx="20" ry="10"></ellipse>
    <mask label="dog" rle="1, 4, 1" left="4" top="3" width="3" height="2"></mask>
    <points label="cat" points="3,4"></points>
    <polyline label="cat" points="3,4;5,6"></polyline>
    <mask label="dog" rle="1, 4, 2" left="4" top="3" width="3" height="2"></mask>
    <polygon label="car" points="1.0,2.0;21.0"></polygon>
    <tag label="cat"></tag>
  </image>
  <image id="1" name="b.jpg" subset="Validation" width="60" height="40">
    <box label="dog" xtl="1" ytl="1" xbr="9" ybr="9"></box>
  </image>
</annotations>""",
}


def shape(label: str, kind: str, *points: tuple, **more) -> dict:
    return {"label": label, "points": [list(point) for point in points], "group_id": None, "shape_type": kind, **more}


def labelme(image: str, shapes: list[dict]) -> dict:
    about = {"version": "5.4.1", "flags": {}, "imagePath": image, "imageData": None}
    return {**about, "shapes": shapes, "imageHeight": SIZE[1], "imageWidth": SIZE[0]}


def base64_png(rows: list[list[int]]) -> str:
    return base64.b64encode(cv2.imencode(".png", np.array(rows, np.uint8) * 255)[1]).decode()


LABELME = {
    "train/a.jpg": None,
    "val/b.jpg": None,
    "train/broken.json": '{"shapes": 3}',
    "val/b.json": labelme("b.jpg", [shape("cat", "rectangle", (1, 1), (9, 9))]),
    "train/a.json": labelme(
        "a.jpg",
        [
            shape("cat", "rectangle", (45, 10), (15, 30)),  # corners in any order
            shape("dog", "mask", (2, 2), (6, 5), mask=base64_png([[1, 0, 0, 1], [0, 1, 1, 0], [1, 1, 1, 1]])),
            shape("dog", "polygon", (1, 1), (11, 1), (11, 11), group_id=4),
            shape("dog", "polygon", (21, 1), (31, 1), (31, 11), (21, 11), group_id=4),
            shape("car", "circle", (20, 20), (20, 30), group_id=4),  # of another label
            shape("car", "line", (20, 20), (20, 30)),
            shape("car", "point", (20, 20)),
            shape("car", "polygon", (20, 20), ("x", 30), (1, 2)),
            shape("car", "mask", (58, 2), (62, 5), mask=base64_png([[1] * 4] * 3)),
        ],
    ),
}
OPEN_IMAGES = {
    "train/0001.jpg": None,
    "validation/0001.jpg": None,
    "train-annotations-bbox.csv": "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,"
    "IsGroupOf,IsDepiction,IsInside\n"
    "0001,xclick,/m/01yrx,1,0.25,0.75,0.25,0.75,0,0,0,0,0\n"
    "0001,xclick,/m/0bt9lr,1,0,1,0,0.5,0,0,1,0,0\n"
    "beyond,xclick,/m/01yrx,1,0.25,0.75,0.25,0.75,0,0,0,0,0\n",
    "validation-annotations-bbox.csv": "ImageID,LabelName,XMin,XMax,YMin,YMax\n0001,/m/01yrx,0,.5,0,1\n",
    "class-descriptions-boxable.csv": '/m/01yrx,Cat\n/m/0bt9lr,"Toy, dog"\n',
}


def packed(mask: np.ndarray) -> dict:
    """Encodes a mask as FiftyOne exports it: a compressed .npy file as a MongoDB binary."""
    file = io.BytesIO()
    np.save(file, mask, allow_pickle=False)
    return {"$binary": {"base64": base64.b64encode(zlib.compress(file.getvalue())).decode(), "subType": "00"}}


def fiftyone_sample(filepath: str, detections: list[dict] | None, tags=(), size=SIZE, **fields) -> dict:
    metadata = {"_cls": "ImageMetadata", "size_bytes": 9, "mime_type": "image/jpeg", "num_channels": 3}
    about = {"_id": {"$oid": "6744a2f8"}, "filepath": filepath, "tags": list(tags), "_media_type": "image"}
    sides = None if size is None else {**metadata, "width": size[0], "height": size[1]}
    truth = None if detections is None else {"_cls": "Detections", "detections": detections}
    return {**about, "metadata": sides, "_rand": 0.5, "ground_truth": truth, **fields}


def detection(label: str, box: list[float], **more) -> dict:
    return {"_id": {"$oid": "1"}, "_cls": "Detection", "attributes": {}, "tags": [], "label": label} | {
        "bounding_box": box,
        **more,
    }


def fiftyone_metadata(*fields: str, polylines: str = "", keypoints: str = "", **more) -> dict:
    kinds = {name: "fiftyone.core.labels.Detections" for name in fields}
    kinds |= {polylines: "fiftyone.core.labels.Polylines"} if polylines else {}
    kinds |= {keypoints: "fiftyone.core.labels.Keypoints"} if keypoints else {}
    kinds |= {"weather": "fiftyone.core.labels.Classification"}
    ftype = "fiftyone.core.fields.EmbeddedDocumentField"
    listed = [{"name": name, "ftype": ftype, "embedded_doc_type": kind} for name, kind in kinds.items()]
    return {"name": "set", "media_type": "image", "sample_fields": [{"name": "filepath"}, *listed], **more}


FIFTYONE_MASK = np.array([[1, 0, 0, 1], [0, 1, 1, 0], [1, 1, 1, 1]], bool)
FIFTYONE = {
    "data/a.jpg": None,
    "data/b.jpg": None,
    "data/c.jpg": None,
    "fields/ground_truth.detections.mask_path/a.png": cv2.imencode(".png", FIFTYONE_MASK * np.uint8(255))[1].tobytes(),
    "metadata.json": fiftyone_metadata("predictions", "ground_truth", default_classes=["0", "dog", "2", "cat"]),
    "samples.json": {
        "samples": [
            fiftyone_sample(
                "data/a.jpg",
                [
                    detection("cat", [0.25, 0.25, 0.5, 0.5]),
                    detection("dog", [4 / 60, 3 / 40, 4 / 60, 3 / 40], mask=packed(FIFTYONE_MASK)),
                    detection("dog", [4 / 60, 3 / 40, 8 / 60, 6 / 40], mask=packed(FIFTYONE_MASK.astype(np.uint8))),
                    detection(
                        "cat",
                        [10 / 60, 20 / 40, 4 / 60, 3 / 40],
                        mask_path="fields/ground_truth.detections.mask_path/a.png",
                        iscrowd=1,
                    ),
                    detection("dog", [0.1, 0.1, 0.2], tags=["val"]),
                    detection("dog", [0, 0, 0.5, 0.5], mask={"$binary": {"base64": "eJw=", "subType": "00"}}),
                    detection("dog", [0.9, 0.9, 0.2, 0.2], mask=packed(FIFTYONE_MASK)),
                ],
                ["train", "sunny"],
                predictions={"_cls": "Detections", "detections": [detection("bird", [0, 0, 1, 1])]},
            ),
            fiftyone_sample("data/c.jpg", None, ["train"]),
            fiftyone_sample("data/b.jpg", [detection("owl", [0, 0, 0.5, 1])], ["validation"], size=None),
            fiftyone_sample("data/film.mp4", [], ["train"]),
        ]
    },
}


def polyline(label: str, *shapes: list, filled: bool = True, closed: bool = True, size=SIZE, **more) -> dict:
    """Returns a polyline of shapes in pixels, converted to fractions of the image."""
    points = [[[x / size[0], y / size[1]] for x, y in shape] for shape in shapes]
    return {"_id": {"$oid": "2"}, "_cls": "Polyline", "label": label, "points": points, "attributes": {}} | {
        "closed": closed,
        "filled": filled,
        **more,
    }


def keypoint(label: str, *points: tuple[float, float] | None, size=SIZE, **more) -> dict:
    """Returns keypoints in pixels, converted to fractions of the image; None is a missing point, stored as NaN."""
    nan = float("nan")
    pairs = [[nan, nan] if point is None else [point[0] / size[0], point[1] / size[1]] for point in points]
    return {"_id": {"$oid": "3"}, "_cls": "Keypoint", "label": label, "points": pairs, **more}


TRIANGLE = [(15, 10), (45, 10), (45, 30)]
SQUARE = [(2, 2), (8, 2), (8, 8), (2, 8)]
FIFTYONE_SHAPES = {
    "data/a.jpg": None,
    "data/b.jpg": None,
    "metadata.json": fiftyone_metadata(
        "ground_truth",
        polylines="shapes",
        keypoints="poses",
        skeletons={
            "poses": {"_cls": "KeypointSkeleton", "labels": ["nose", "left_ear", "right_ear"], "edges": [[1, 0, 2]]}
        },
    ),
    "samples.json": {
        "samples": [
            fiftyone_sample(
                "data/a.jpg",
                [
                    detection("cat", [0.25, 0.25, 0.5, 0.5]),
                    detection("dog", [0.25, 0.25, 0.5, 0.5], instance={"_cls": "Instance", "_id": {"$oid": "9"}}),
                    detection("cat", [0, 0, 1, 1]),
                ],
                ["train"],
                shapes={
                    "_cls": "Polylines",
                    "polylines": [
                        polyline("cat", TRIANGLE, SQUARE),
                        polyline("cat", TRIANGLE),
                        polyline("dog", SQUARE, instance={"_cls": "Instance", "_id": {"$oid": "9"}}),
                        polyline("owl", SQUARE),
                        polyline("owl", SQUARE, filled=False),
                        polyline("owl", SQUARE, closed=False),
                        polyline("owl", [(1, 1), (float("nan"), 2), (3, 3)]),
                        {"label": "owl", "points": [[1, 2]]},
                    ],
                },
                poses={
                    "_cls": "Keypoints",
                    "keypoints": [
                        keypoint("cat", (20, 15), (30, 20), None),
                        keypoint("cat", (1, 1), (50, 39), (30, 20)),
                        keypoint("dog", (1, 2), (3, 4), (5, 7)),
                        keypoint("cat", (20, 15), (30, 20)),
                        keypoint("cat", None, None, None),
                        {"label": "cat", "points": [0.1, 0.2]},
                    ],
                },
            ),
            fiftyone_sample("data/b.jpg", None, ["validation"], shapes={"polylines": 3}, poses=None),
        ]
    },
}
