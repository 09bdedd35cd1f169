"""FiftyOne's native export (`FiftyOneDataset`): metadata.json, and samples.json, samples.jsonl or a folder `samples` of
JSON files.

Objects come from the field `ground_truth`, or from the only field of each kind: `Detections`, `Polylines`, `Keypoints`.
Boxes are x, y, width and height as fractions of the image; a mask covers its box. A tag of the sample, or a folder of
its image, names its split.
"""

import json
import math
import mmap
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from resdet.data.split_words import SPLITS
from resdet.detection.data.coco import is_possible
from resdet.detection.formats.collector import Collector, number_in, read_text, size_in
from resdet.detection.formats.fiftyone_mask import file_of, has_mask, mask_of, rle_of_mask
from resdet.detection.formats.fiftyone_shapes import (
    Instance,
    Pending,
    add_keypoints,
    around,
    declare_keypoints,
    instance_of,
    points_of,
    rings_of,
    skeleton_of,
    with_polygons,
)
from resdet.detection.formats.folder import Folder, split_in
from resdet.detection.formats.layout import Layout, Split, Unfit
from resdet.errors import DataError
from resdet.files.json_columns import JsonColumns, read_columns
from resdet.files.json_file import read_json
from resdet.images.image_files import is_image

METADATA = "metadata.json"
DETECTIONS, POLYLINES, KEYPOINTS = "Detections", "Polylines", "Keypoints"  # kinds of fields
LISTS = {DETECTIONS: "detections", POLYLINES: "polylines", KEYPOINTS: "keypoints"}  # key of the labels within a field
GROUND_TRUTH = "ground_truth"
PREDICTED = re.compile("predict", re.IGNORECASE)  # part of the names of prediction fields
SAMPLE = re.compile(rb'"filepath"\s*:\s*("(?:[^"\\]|\\.)*")(?:\s*,\s*"tags"\s*:\s*\[([^\]]*)\])?')
TAG = re.compile(rb'"([A-Za-z]+)"')
SIDES = 4  # numbers per box


@dataclass
class Export:
    """The files in a folder with a metadata.json; `home` is the folder, empty or ending with `/`."""

    folder: Folder
    home: str

    @cached_property
    def files(self) -> list[str]:
        """Files with samples."""
        names = (f"{self.home}{name}" for name in ("samples.json", "samples.jsonl"))
        single = [name for name in names if self.folder.has(name)]
        return single[:1] or [file for file in self.folder.having(".json") if file.startswith(f"{self.home}samples/")]

    @cached_property
    def metadata(self) -> Mapping[str, Any]:
        try:
            content = read_json(self.folder.root / f"{self.home}{METADATA}")
        except DataError:
            return {}
        return content if isinstance(content, Mapping) else {}

    def fields(self, kind: str) -> list[str]:
        """Returns the fields of a kind."""
        fields = self.metadata.get("sample_fields")
        entries = [entry for entry in fields if isinstance(entry, Mapping)] if isinstance(fields, list) else []
        names = [entry.get("name") for entry in entries if str(entry.get("embedded_doc_type")).endswith(f".{kind}")]
        return [name for name in names if isinstance(name, str)]

    @cached_property
    def field_of(self) -> dict[str, str]:
        """{kind: field to read}, ignoring fields of predicted polylines and keypoints."""
        chosen = {}
        for kind in LISTS:
            fields = self.fields(kind)
            if kind != DETECTIONS:
                fields = [name for name in fields if not PREDICTED.search(name)]
            if GROUND_TRUTH in fields or len(fields) == 1:
                chosen[kind] = GROUND_TRUTH if GROUND_TRUTH in fields else fields[0]
        return chosen

    @property
    def is_open(self) -> bool:
        """Whether the field to read is ambiguous or missing."""
        return not self.field_of or (DETECTIONS not in self.field_of and bool(self.fields(DETECTIONS)))

    @property
    def classes(self) -> list[str]:
        """Classes listed in metadata.json, without the numbers that represent unused COCO ids."""
        by_field = self.metadata.get("classes")
        lists = [by_field.get(name) for name in self.field_of.values()] if isinstance(by_field, Mapping) else []
        listed = next(filter(None, lists), None) or self.metadata.get("default_classes")
        names = listed if isinstance(listed, list) and all(isinstance(name, str) for name in listed) else []
        return [name for number, name in enumerate(names) if name != str(number)]

    def samples(self, file: str) -> "JsonColumns | Sequence[Any]":
        """Returns the samples of a file; None for lines that are not valid JSON."""
        if file.endswith(".jsonl"):
            return [_parsed(line) for line in read_text(self.folder, file).splitlines() if line.strip()]
        content = read_columns(self.folder.root / file, ("samples",))
        samples = content.get("samples") if isinstance(content, dict) else None
        return samples if isinstance(samples, (JsonColumns, list)) else [content]


class FiftyOne:
    def recognize(self, folder: Folder) -> Layout | Unfit:
        exports = [export for export in _exports(folder) if export.files]
        files = [file for export in exports for file in export.files]
        if not exports:
            return Unfit(f"no {METADATA} beside samples.json")
        for export in exports:
            if export.is_open:
                fields = export.fields(DETECTIONS)
                named = f"the fields {', '.join(fields)}" if fields else "no field"
                problem = f"{export.home}{METADATA} has {named} of Detections: name one {GROUND_TRUTH}"
                return Unfit(problem, len(files) * bool(fields))
        counts = {file: _count(folder, file) for file in files}
        splits = {}
        for split in dict.fromkeys(split for count in counts.values() for split in count):
            holding = tuple(file for file in files if counts[file][split])
            splits[split] = Split(holding, annotated=sum(counts[file][split] for file in holding))
        if not splits:
            return Unfit(f"{files[0]} has no samples", len(files))
        shared = tuple(f"{export.home}{METADATA}" for export in exports)
        classes = list(dict.fromkeys(name for export in exports for name in export.classes))
        return Layout("fiftyone", folder, splits, f"{shared[0]} and {files[0]}", classes, shared)

    def read(self, layout: Layout, split: str, collector: Collector) -> dict[str, Any]:
        files = set(layout.splits[split].annotations)
        reader = _Reader(layout, split, collector)
        for export in _exports(layout.folder):
            for file in export.files:
                if file in files:
                    reader.read(export, file)
        return reader.content()


class _Reader:
    """Reads the samples of a split into a `Collector`."""

    def __init__(self, layout: Layout, split: str, collector: Collector):
        self.layout, self.split, self.collector = layout, split, collector
        self.pending: list[Pending] = []
        self.labels: list[str] = []  # names of the keypoints
        self.edges: list[list[int]] = []

    def read(self, export: Export, file: str) -> None:
        samples = export.samples(file)
        rows = [row for row in range(len(samples)) if self._is_own(samples[row], file, row)]
        images = [self._image(samples[row]["filepath"], export, file) for row in rows]
        sizes = [_declared_size(samples[row].get("metadata")) for row in rows]
        unknown = [k for k, size in enumerate(sizes) if size is None]
        for k, size in zip(unknown, self.collector.measured.sizes_of([images[k] for k in unknown])):
            sizes[k] = size
        for row, image, size in zip(rows, images, sizes):
            number = self.collector.add_image(image, size)
            if size:
                self._add_objects(samples[row], number, size, image, export)

    def content(self) -> dict[str, Any]:
        """Returns the split in COCO's format, after reading all files."""
        others = add_keypoints(self.collector, self.pending, self.labels)
        self.collector.leave_out("keypoint", others, "another number of points than the skeleton or most others")
        content = self.collector.content(self.layout.classes)
        declare_keypoints(content, self.labels, self.edges)
        return content

    def _add_objects(
        self, sample: Mapping[str, Any], number: int, size: tuple[int, int], image: str, export: Export
    ) -> None:
        """Adds the detections and polylines of a sample, and stores its keypoints until all files are read."""
        objects: list[Instance] = []
        if KEYPOINTS in export.field_of and not self.labels:
            self.labels, self.edges = skeleton_of(export.metadata, export.field_of[KEYPOINTS])
        for kind, name in export.field_of.items():
            value, key = sample.get(name), LISTS[kind]
            entries = value.get(key) if isinstance(value, Mapping) else None
            if value is not None and not isinstance(entries, list):
                self.collector.leave_out("sample", [image], f"a field {name} without a list of {key}")
            for k, given in enumerate(entries if isinstance(entries, list) else [], 1):
                entry, place = given if isinstance(given, Mapping) else {}, f"{k} of {image}"
                if kind == DETECTIONS:
                    self._add(number, size, entry, export, place, objects)
                elif kind == POLYLINES:
                    self._add_polyline(number, size, entry, place, objects)
                else:
                    self._keep_keypoints(number, size, entry, place, objects)

    def _is_own(self, sample: Any, file: str, row: int) -> bool:
        path = sample.get("filepath") if isinstance(sample, Mapping) else None
        if not isinstance(path, str) or not is_image(path) or not is_possible(path):
            self.collector.leave_out("sample", [f"{row + 1} of {file}"], "no filepath of an image")
            return False
        tags = sample.get("tags")
        split = _split_of([tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else [], path, file)
        return self.split == (split if split in self.layout.splits else next(iter(self.layout.splits)))

    def _image(self, path: str, export: Export, file: str) -> str:
        folder, path = self.layout.folder, path.replace("\\", "/")
        beside = os.path.normpath(os.path.join(export.home, path)).replace(os.sep, "/")
        return beside if folder.has(beside) else folder.locate(path, file, self.split) or beside

    def _add(
        self,
        image: int,
        size: tuple[int, int],
        entry: Mapping[str, Any],
        export: Export,
        place: str,
        objects: list[Instance],
    ) -> None:
        label, fractions = entry.get("label"), entry.get("bounding_box")
        if not (label and isinstance(label, str)) or not isinstance(fractions, list) or len(fractions) != SIDES:
            self.collector.leave_out("object", [place], "no label and bounding_box of four numbers")
            return
        x, y, width, height = (number_in(side) * size[k % 2] for k, side in enumerate(fractions))
        box = x, y, x + width, y + height
        more: dict[str, Any] = {"iscrowd": entry["iscrowd"]} if entry.get("iscrowd") else {}
        if file := file_of(entry, self.layout.folder, export.home):
            self.collector.depend_on(file)
        if has_mask(entry):
            rle = rle_of_mask(mask_of(entry, self.layout.folder, export.home), box, size)
            if rle is None:
                self.collector.leave_out("object", [place], "a damaged mask")
                return
            more["segmentation"] = rle
        self.collector.add_object(image, label, box, place, **more)
        objects.append(Instance(label, box, instance_of(entry), self.collector.annotations[-1]))

    def _add_polyline(
        self, image: int, size: tuple[int, int], entry: Mapping[str, Any], place: str, objects: list[Instance]
    ) -> None:
        label, rings, instance = entry.get("label"), rings_of(entry, size), instance_of(entry)
        if not (label and isinstance(label, str)) or rings is None:
            self.collector.leave_out("polyline", [place], "no label and lists of points")
            return
        if not (entry.get("filled") and entry.get("closed")):
            self.collector.leave_out("polyline", [place], "no area: it is not filled and closed")
            return
        box = around([(x, y) for ring in rings for x, y in zip(ring[0::2], ring[1::2])])
        known = with_polygons(objects, label, box, instance)
        if known:
            known.annotation["segmentation"] = rings
        else:
            self.collector.add_object(image, label, box, place, segmentation=rings)
            objects.append(Instance(label, box, instance, self.collector.annotations[-1]))

    def _keep_keypoints(
        self, image: int, size: tuple[int, int], entry: Mapping[str, Any], place: str, objects: list[Instance]
    ) -> None:
        label, points = entry.get("label"), points_of(entry.get("points"), size)
        if not (label and isinstance(label, str)) or points is None:
            self.collector.leave_out("keypoint", [place], "no label and list of points")
        elif not any(math.isfinite(x) and math.isfinite(y) for x, y in points):
            self.collector.leave_out("keypoint", [place], "no point that is there")
        else:
            self.pending.append(Pending(image, label, points, instance_of(entry), place, objects))


def _exports(folder: Folder) -> list[Export]:
    files = [file for file in folder.having(METADATA) if f"/{file}".endswith(f"/{METADATA}")]
    return [Export(folder, file[: -len(METADATA)]) for file in files]


def _count(folder: Folder, file: str) -> Counter[str]:
    """Counts samples by split, without parsing the file."""
    try:
        with open(folder.root / file, "rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
            samples = ((match[1], match[2] or b"") for match in SAMPLE.finditer(data))
            return Counter(_split_of(map(bytes.decode, TAG.findall(tags)), _text(path), file) for path, tags in samples)
    except (OSError, ValueError):  # ValueError: an empty file
        return Counter()


def _text(string: bytes) -> str:
    try:
        return str(json.loads(string))
    except ValueError:
        return ""


def _split_of(tags: Iterable[str], path: str, file: str) -> str:
    """Returns the split of a sample: the first tag that names one, else by the folders of its image or JSON file."""
    tagged = next(filter(None, (SPLITS.get(tag.lower()) for tag in tags)), None)
    return tagged or (None if os.path.isabs(path) else split_in(path)) or split_in(file) or "train"


def _declared_size(metadata: Any) -> tuple[int, int] | None:
    return size_in(metadata.get("width"), metadata.get("height")) if isinstance(metadata, Mapping) else None


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
