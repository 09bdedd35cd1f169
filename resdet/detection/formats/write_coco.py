"""Writes COCO's format, which says everything: SPLIT/IMAGE and annotations/SPLIT.json."""

from collections.abc import Mapping

from resdet.detection.formats.share_classes import Content
from resdet.detection.formats.writer import Writer, Written
from resdet.files.atomic import write_json


class CocoWriter(Writer):
    def write(self, contents: Mapping[str, Content], written: Written) -> None:
        for split, content in contents.items():
            images = [image | {"file_name": written.place(image["file_name"], split)} for image in content["images"]]
            area = lambda entry: {"area": entry["bbox"][2] * entry["bbox"][3], "iscrowd": 0}
            annotations = [area(entry) | entry for entry in content["annotations"]]
            whole = content | {"images": images, "annotations": annotations}
            write_json(written.folder / "annotations" / f"{split}.json", whole)
