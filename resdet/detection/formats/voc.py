"""PASCAL VOC's format: an XML file per image, with or without the devkit's ImageSets, including exports of LabelImg,
Roboflow, FiftyOne and supervision."""

import re
from typing import Any

from resdet.detection.data.voc import BROKEN, CLASSES, Record, VocObject, read_record
from resdet.detection.formats.collector import Collector, read_text
from resdet.detection.formats.folder import Folder, by_split, stem
from resdet.detection.formats.layout import Layout, Split, Unfit
from resdet.errors import number_of

ROOT = re.compile(rb"<annotation[\s>]")
SAMPLE = 5  # XML files to inspect
LIST = re.compile(r"(.*?)(ImageSets/(?:Main/)?)(trainval|train|val|test)\.txt", re.IGNORECASE)
LABELED = re.compile(r"\s+(-1|0|1)$")  # second column of a class's list


class Voc:
    def recognize(self, folder: Folder) -> Layout | Unfit:
        files = folder.having(".xml")
        if not files:
            return Unfit("no XML files")
        if not any(ROOT.search(folder.head(file)) for file in files[:SAMPLE]):
            return Unfit(f"{files[0]} has no element <annotation>", len(files))
        listed, lists = _listed(folder, files)
        splits = listed or by_split(files)
        evidence = f"{files[0]} and {number_of(len(files) - 1, 'more XML file')}" if len(files) > 1 else files[0]
        layout = {split: Split(tuple(names), annotated=len(names)) for split, names in splits.items() if names}
        devkit = any(re.search(r"(^|/)VOC20\d\d/", file) for file in files)
        classes = CLASSES if devkit else ()
        return Layout("voc", folder, layout, ", ".join([evidence, *lists]), classes)

    def read(self, layout: Layout, split: str, collector: Collector) -> dict[str, Any]:
        """Reads a split. Boxes count pixels from 1, inclusive; difficult objects are crowds, which training ignores."""
        missing, broken = [], []
        for file in layout.splits[split].annotations:
            locate = lambda name, written: _locate(layout.folder, file, split, written)
            try:
                record = read_record(layout.root / file, file, locate, 1)
            except BROKEN:
                broken.append(file)
            except OSError:
                missing.append(file)
            else:
                _add(record, collector)
        collector.leave_out("image", missing, "no XML file that can be read")
        collector.leave_out("image", broken, "a broken XML file")
        return collector.content(layout.classes)


def _add(record: Record, collector: Collector) -> None:
    image = collector.add_image(record.file, record.size)
    for number, item in enumerate(record.objects, 1):
        place = f"{number} of {record.stem}"
        polygon = {"segmentation": [item.polygon]} if item.polygon else {}
        box = item.box or _bounds(item)
        if box:
            collector.add_object(image, item.name, box, place, iscrowd=int(item.difficult), **polygon)
        else:
            collector.leave_out("object", [place], "no box of four numbers")


def _bounds(item: VocObject) -> tuple[float, float, float, float] | None:
    xs, ys = item.polygon[0::2], item.polygon[1::2]
    return (min(xs), min(ys), max(xs), max(ys)) if xs else None


def _locate(folder: Folder, file: str, split: str, written: str | None) -> str:
    """Finds the image named like the XML file, or else by its <filename>, which may be outdated after renaming."""
    name = file.rpartition("/")[2][: -len(".xml")]
    image = folder.locate(name, file, split) or (folder.locate(written, file, split) if written else None)
    return image or written or f"{stem(name)}.jpg"


def _listed(folder: Folder, files: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Returns the XML files of the splits listed in ImageSets, and these lists."""
    matches = [match for file in folder.having(".txt") if (match := LIST.fullmatch(file))]
    known = {file.lower(): file for file in files} | {file: file for file in files}
    homes: dict[str, dict[str, list[str]]] = {}
    for match in matches:
        home, names = match[1], read_text(folder, match[0]).splitlines()
        paths = dict.fromkeys(_named(name.strip(), home, known) for name in names if name.strip())
        homes.setdefault(home, {}).setdefault(match[3].lower(), []).extend(paths)
    splits: dict[str, list[str]] = {}
    for lists in homes.values():
        for split, names in _without_trainval(lists).items():
            splits.setdefault(split, []).extend(names)
    return {split: names for split, names in splits.items() if names}, [match[0] for match in matches if splits]


def _without_trainval(lists: dict[str, list[str]]) -> dict[str, list[str]]:
    """Returns the lists of a year; unless both train and val exist, train is `trainval` without val."""
    splits = dict(lists)
    both = splits.pop("trainval", [])
    if both and not splits.get("val"):
        splits["train"] = both
    elif both and not splits.get("train"):
        splits["train"] = sorted(set(both) - set(splits["val"]))
    return splits


def _named(line: str, home: str, known: dict[str, str]) -> str:
    """Returns the XML file named by a line of a list, exactly or in another case, with or without a class column."""
    paths = [f"{home}Annotations/{name}.xml" for name in (line, LABELED.sub("", line))]
    tried = (known.get(key) for path in paths for key in (path, path.lower()))
    return next(filter(None, tried), paths[-1])
