"""Writes COCO's format, without loss: SPLIT/IMAGE and annotations/SPLIT.json."""

from collections.abc import Mapping
from typing import Any

from hotcoco import mask

from resdet.detection.data.rle import as_rle
from resdet.detection.formats.share_classes import Content
from resdet.detection.formats.writer import Writer, Written
from resdet.files.atomic import write_json


class CocoWriter(Writer):
    def write(self, contents: Mapping[str, Content], written: Written) -> None:
        for split, content in contents.items():
            images = [image | {"file_name": written.place(image["file_name"], split)} for image in content["images"]]
            sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
            annotations = [
                {"iscrowd": 0} | entry | {"area": area_of(entry, *sizes[entry["image_id"]])}
                for entry in content["annotations"]
            ]
            whole = content | {"images": images, "annotations": annotations}
            write_json(written.folder / "annotations" / f"{split}.json", whole)


def area_of(entry: Mapping[str, Any], height: int, width: int) -> float:
    """Returns the annotated area, else that of the mask, else that of the box."""
    if entry.get("area") is not None:
        return entry["area"]
    if entry.get("segmentation"):
        return float(mask.area(as_rle(entry["segmentation"], height, width)))
    return entry["bbox"][2] * entry["bbox"][3]
