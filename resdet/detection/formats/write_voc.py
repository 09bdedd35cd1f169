"""Writes PASCAL VOC's format: JPEGImages, Annotations and ImageSets/Main/SPLIT.txt."""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from resdet.data import output_folder
from resdet.detection.data.coco_file import objects_by_image
from resdet.detection.formats.folder import stem
from resdet.detection.formats.share_classes import Content
from resdet.detection.formats.writer import Writer, Written
from resdet.errors import DataError
from resdet.files.atomic import write_text

CONTROL = "[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]"  # invalid in XML, or line ends


class VocWriter(Writer):
    """Boxes count pixels from 1, inclusive; crowds become difficult objects. Masks, keypoints and classes without
    objects are lost.

    Readers strip names, so class names lose surrounding spaces and image names get `_` instead.
    """

    def write(self, contents: Mapping[str, Content], written: Written) -> None:
        categories = next(iter(contents.values()))["categories"]
        names = dict(zip((category["id"] for category in categories), _class_names(categories, written)))
        shown = {entry["category_id"] for content in contents.values() for entry in content["annotations"]}
        written.lost["classes without objects"] += len(names.keys() - shown)
        for split, content in contents.items():
            objects, stems = objects_by_image(content), []
            for image in content["images"]:
                name = written.place(image["file_name"], "JPEGImages", _spelled)
                stems.append(stem(name))
                root = _element(name, image, [(names[e["category_id"]], e) for e in objects[image["id"]]], written)
                ElementTree.indent(root)
                path = written.folder / "Annotations" / f"{stems[-1]}.xml"
                output_folder.put(path, ElementTree.tostring(root, encoding="utf-8"))
            write_text(written.folder / "ImageSets" / "Main" / f"{split}.txt", "".join(f"{stem}\n" for stem in stems))


def _class_names(categories: Sequence[dict[str, Any]], written: Written) -> list[str]:
    """Returns names that VOC can store; raises DataError if there are none."""
    given = [category["name"] for category in categories]
    names = [name.strip() for name in given]
    for name, old in zip(names, given):
        if not name or re.search(CONTROL, name):
            raise DataError(f"The class {old!r} has a name that XML cannot store: rename it in the source.")
        if names.count(name) > 1:
            raise DataError(
                f"Two classes are {name!r} apart from outer spaces, which VOC drops: rename one in the source."
            )
    written.lost["leading or trailing spaces of a class name"] += sum(map(str.__ne__, names, given))
    return names


def _spelled(name: str) -> str:
    """Returns the name of an image, with `_` for characters that a line of ImageSets cannot store."""
    base = stem(name)
    return re.sub(rf"^\s+|\s+$|{CONTROL}+", "_", base) + name[len(base) :]


def _element(
    name: str, image: dict[str, Any], objects: list[tuple[str, dict[str, Any]]], written: Written
) -> ElementTree.Element:
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = name
    size = ElementTree.SubElement(root, "size")
    for key, side in (("width", image["width"]), ("height", image["height"]), ("depth", 3)):
        ElementTree.SubElement(size, key).text = str(side)
    for label, entry in objects:
        written.lost["masks"] += bool(entry.get("segmentation"))
        written.lost["keypoints of an object"] += any(entry.get("keypoints") or ())
        element = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(element, "name").text = label
        ElementTree.SubElement(element, "difficult").text = str(int(bool(entry.get("iscrowd"))))
        box = ElementTree.SubElement(element, "bndbox")
        x, y, width, height = entry["bbox"]
        for key, side in zip(("xmin", "ymin", "xmax", "ymax"), (x + 1, y + 1, x + width, y + height)):
            ElementTree.SubElement(box, key).text = f"{side:.10g}"
    return root
