"""CSV files with a header and one box per row, with the column names of TensorFlow, Kaggle or Roboflow."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from resdet.detection.formats.collector import Collector, number_in
from resdet.detection.formats.csv_table import Table, header
from resdet.detection.formats.folder import Folder, split_in, split_of
from resdet.detection.formats.layout import Layout, Split, Unfit
from resdet.detection.formats.openimages import COLUMNS as OPEN_IMAGES

# Column names by role, in lower case without `_`, `-` and spaces.
ROLES = {
    "image": "filename file image imagepath imagename imagefile imageid path filepath img imgpath name".split(),
    "label": "class label category classname labelname categoryname object classid labelid categoryid".split(),
    "x1": "xmin x1 left xtl bboxxmin bboxx1".split(),
    "y1": "ymin y1 top ytl bboxymin bboxy1".split(),
    "x2": "xmax x2 right xbr bboxxmax bboxx2".split(),
    "y2": "ymax y2 bottom ybr bboxymax bboxy2".split(),
    "x": "x bboxx boxx".split(),
    "y": "y bboxy boxy".split(),
    "w": "w width bboxw bboxwidth boxw boxwidth".split(),
    "h": "h height bboxh bboxheight boxh boxheight".split(),
    "box": "bbox box".split(),  # [x, y, width, height] as text
    "split": "split set subset".split(),
}
LABELLESS = "object"  # class in files without a class column
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


@dataclass
class Columns:
    """A table with an image and a box in the header, and its columns by role."""

    table: Table
    by_role: dict[str, str]

    def get(self, row: dict[str, str], role: str) -> str:
        return row.get(self.by_role.get(role, ""), "")

    def box(self, row: dict[str, str]) -> list[float]:
        """Returns the box, xyxy; NaN where a field is not a number."""
        if "x1" in self.by_role:
            return [number_in(self.get(row, role)) for role in ("x1", "y1", "x2", "y2")]
        fields = NUMBER.findall(self.get(row, "box")) if "box" in self.by_role else [self.get(row, r) for r in "xywh"]
        if len(fields) != 4:
            return [float("nan")] * 4
        x, y, width, height = map(number_in, fields)
        return [x, y, x + width, y + height]

    def is_empty(self, row: dict[str, str]) -> bool:
        """Returns whether the row has no box, which marks an image without objects."""
        return not any(self.get(row, role) for role in ("x1", "x2", "x", "box"))


class CsvBoxes:
    def recognize(self, folder: Folder) -> Layout | Unfit:
        candidates = folder.having(".csv", ".tsv")
        tables = [table for file in candidates if (table := _columns(header(folder, file)))]
        if not tables:
            return Unfit("no CSV file with a header of an image, a class and four sides of a box", len(candidates))
        files: dict[str, list[str]] = {}
        for columns in tables:
            for split in _splits(folder, columns):
                files.setdefault(split, []).append(columns.table.file)
        count = len(folder.images) // len(files)
        splits = {split: Split(tuple(names), annotated=count) for split, names in files.items()}
        return Layout("csv", folder, splits, ", ".join(columns.table.file for columns in tables))

    def read(self, layout: Layout, split: str, collector: Collector) -> dict[str, Any]:
        """Reads a split; boxes are relative to the image size if all sides in the file are between 0 and 1."""
        for file in layout.splits[split].annotations:
            columns = _columns(header(layout.folder, file))
            if columns:
                _read_table(columns, split, collector)
        return collector.content()


def _read_table(columns: Columns, split: str, collector: Collector) -> None:
    file = columns.table.file
    objects: list[tuple[str, str, str, list[float]]] = []
    empty: list[str] = []
    for number, row in columns.table.rows(collector.folder):
        if "split" in columns.by_role and (split_of(columns.get(row, "split")) or "train") != split:
            continue
        name = columns.get(row, "image")
        image = collector.folder.locate(name, file, split) or name
        if columns.is_empty(row):
            empty.append(image)
        else:
            label = columns.get(row, "label") if "label" in columns.by_role else LABELLESS
            objects.append((f"{file}:{number}", image, label, columns.box(row)))
    images = list(dict.fromkeys([*(image for _, image, *_ in objects), *empty]))
    sizes = dict(zip(images, collector.measured.sizes_of(images)))
    numbers = {image: collector.add_image(image, sizes[image]) for image in images}
    fractions = _are_fractions([box for *_, box in objects])
    for place, image, label, box in objects:
        scale = sizes[image] or (0, 0) if fractions else (1, 1)
        collector.add_object(numbers[image], label, [side * scale[k % 2] for k, side in enumerate(box)], place)


def _are_fractions(boxes: Sequence[list[float]]) -> bool:
    sides = [side for box in boxes for side in box if side == side]
    return bool(sides) and min(sides) >= 0 and max(sides) <= 1


def _columns(table: Table) -> Columns | None:
    """Returns the columns by role; None unless there are an image and a box."""
    known = {re.sub(r"[\s_-]", "", column.lower()): column for column in reversed(table.columns)}
    by_role = {role: known[name] for role, names in ROLES.items() if (name := _first(names, known))}
    has_box = any(set(roles) <= set(by_role) for roles in (("x1", "y1", "x2", "y2"), "xywh", ("box",)))
    if "image" not in by_role or not has_box or set(OPEN_IMAGES) <= set(table.columns):
        return None
    return Columns(table, by_role)


def _first(names: Sequence[str], known: dict[str, str]) -> str | None:
    return next((name for name in names if name in known), None)


def _splits(folder: Folder, columns: Columns) -> list[str]:
    """Returns the splits named in a column, by the file's name, or by its folder."""
    file = columns.table.file
    if "split" in columns.by_role:
        named = {columns.get(row, "split") for _, row in columns.table.rows(folder)}
        return sorted({split_of(name) or "train" for name in named}) or ["train"]
    return [split_of(file.rpartition("/")[2]) or split_in(file) or "train"]
