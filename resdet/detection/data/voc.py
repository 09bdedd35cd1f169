"""PASCAL VOC: XML files, image sets and the devkit's layout; ILSVRC DET and VID use the same XML.

xmin, ymin, xmax and ymax are the first and last pixels of a box. VOC counts pixels from 1, ILSVRC from 0.
"""

import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from resdet.data.array_cache import Arrays, cached
from resdet.detection.data.annotations import Annotations, concatenate
from resdet.detection.data.coco_file import LARGEST
from resdet.detection.data.compile_annotations import (
    Measured,
    OnBad,
    Problems,
    RawAnnotations,
    compile_annotations,
    file_states,
    unchanged,
)
from resdet.errors import DataError

CLASSES = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person pottedplant "
    "sheep sofa train tvmonitor"
).split()
EXTENSIONS = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG")
CORNERS = ("xmin", "ymin", "xmax", "ymax")
BROKEN = (ElementTree.ParseError, ValueError, LookupError)  # includes undecodable bytes and unknown encodings
Box = tuple[float, float, float, float]


@dataclass
class VocObject:
    """An object of an XML file."""

    name: str
    box: Box | None  # xyxy, continuous; None if not four numbers
    difficult: bool
    truncated: bool
    occluded: bool
    generated: bool  # ILSVRC VID: interpolated between annotated boxes
    track: int  # ILSVRC VID: number of the object in its video; -1: none
    polygon: list[float]  # x1, y1, x2, y2 …, written by some tools; used only by formats/voc


@dataclass
class Record:
    """An image and the content of its XML file."""

    stem: str
    file: str  # path of the image below the image folder
    size: tuple[int, int] | None  # width, height
    objects: list[VocObject]


def open_voc(
    annotations: Path | str,
    images: Path | str,
    image_set: Path | str | None = None,
    classes: Sequence[str] | None = None,
    on_bad: OnBad = "skip",
    cache_dir: Path | None = None,
) -> Annotations:
    """Opens the images listed in `image_set` (None: all with an XML file), with their objects.

    `annotations` and `images` are folders; a line of `image_set` is a name without extension, and a second column of
    -1, 0 or 1 is ignored. `classes` default to the sorted names in the files, or to VOC's twenty if there are no
    others, so that all parts of VOC share labels. A bad entry raises an error, or is skipped and counted in `problems`.
    """
    annotations, images = Path(annotations), Path(images)
    stems = _read_image_set(Path(image_set)) if image_set else _stems_in(annotations)

    def build() -> Arrays:
        problems, measured = Problems(annotations, on_bad), Measured(images)
        locate = lambda stem, written: _image_file(images, stem, written)
        records = read_records(annotations, measured, stems, locate, 1, problems)
        names = classes or _names_in(records)
        return compile_records(records, dict(zip(names, names)), problems) | measured.arrays()

    sources = [annotations, images, *([Path(image_set)] if image_set else [])]
    key = f"voc-{on_bad}-{zlib.crc32(chr(10).join(classes or []).encode()):08x}"
    holds = lambda arrays: unchanged(arrays, images)
    # Editing an XML file in place does not change the folder's state.
    states = file_states(annotations, (f"{stem}.xml" for stem in stems)).tolist()
    return Annotations(cached(key, sources, build, cache_dir, states, holds=holds), images)


def open_devkit(
    root: Path | str, year: str, split: str, on_bad: OnBad = "skip", cache_dir: Path | None = None
) -> Annotations:
    """Opens a split of VOC in the devkit's layout; `root` is VOCdevkit or its parent.

    Join several years with `concatenate([open_devkit(root, "2007", "trainval"), …])`.
    """
    places = [Path(root) / f"VOC{year}", Path(root) / "VOCdevkit" / f"VOC{year}"]
    home = next((place for place in places if place.is_dir()), None)
    if home is None:
        raise DataError(f"{root} has no folder VOC{year} or VOCdevkit/VOC{year}: unpack VOC {year} there.")
    image_set = home / "ImageSets" / "Main" / f"{split}.txt"
    return open_voc(home / "Annotations", home / "JPEGImages", image_set, CLASSES, on_bad, cache_dir)


def read_records(
    folder: Path,
    measured: Measured,
    stems: Iterable[str],
    locate: Callable[[str, str | None], str],
    origin: int,
    problems: Problems,
    negatives: frozenset[str] = frozenset(),
) -> list[Record]:
    """Reads the XML file of each stem; `negatives`: stems without objects, whose XML file may be missing.

    `locate(stem, <filename>)` returns the image path below its folder; `origin` is the coordinate of the first pixel.
    """
    records, missing, broken = [], [], []
    for stem in stems:
        try:
            records.append(read_record(folder / f"{stem}.xml", stem, locate, origin))
        except BROKEN:
            broken.append(stem)
        except OSError:
            if stem in negatives:
                records.append(Record(stem, locate(stem, None), None, []))
            else:
                missing.append(stem)
    for record in records:
        record.size = record.size or measured.size_of(record.file)
    problems.leave_out("image", missing, "no XML file that can be read")
    problems.leave_out("image", broken, "a broken XML file")
    sizeless = [record.stem for record in records if not record.size]
    problems.leave_out("image", sizeless, "no size in its XML, nor a readable file")
    return [record for record in records if record.size]


def compile_records(
    records: list[Record], classes: dict[str, str], problems: Problems, columns: Arrays | None = None
) -> Arrays:
    """Compiles the records to an index; `classes`: class names by their names in the XML, with ids 1 to C.

    `columns`, [M] each: additional columns of all objects of the records, in order.
    """
    label_of = {name: label for label, name in enumerate(classes)}
    objects = [
        (image, f"{number} of {record.stem}.xml", item)
        for image, record in enumerate(records)
        for number, item in enumerate(record.objects, 1)
    ]
    boxless = [name for _, name, item in objects if item.box is None]
    unknown = [name for _, name, item in objects if item.box and item.name not in label_of]
    problems.leave_out("object", boxless, "no box of four numbers")
    problems.leave_out("object", unknown, "a class that is not among the given ones")
    kept = [k for k, (_, _, item) in enumerate(objects) if item.box and item.name in label_of]
    objects = [objects[k] for k in kept]
    raw = RawAnnotations(
        files=[record.file for record in records],
        sizes=[record.size for record in records if record.size],
        images=[image for image, _, _ in objects],
        boxes=[item.box for _, _, item in objects if item.box],
        labels=[label_of[item.name] for _, _, item in objects],
        names=[name for _, name, _ in objects],
        crowd=[item.difficult for _, _, item in objects],
        difficult=[item.difficult for _, _, item in objects],
        truncated=[item.truncated for _, _, item in objects],
        object_columns={name: column[kept] for name, column in (columns or {}).items()},
    )
    return compile_annotations(raw, dict(enumerate(classes.values(), 1)), problems, "object")


def read_record(file: Path, stem: str, locate: Callable[[str, str | None], str], origin: int) -> Record:
    """Reads an XML file; raises an OSError, or one of BROKEN."""
    root = _parsed(file)
    width, height = (_number(root.findtext(f"size/{side}")) or 0 for side in ("width", "height"))
    size = (int(width), int(height)) if 1 <= width < LARGEST and 1 <= height < LARGEST else None
    objects = [_read_object(element, origin) for element in root.findall("object")]
    return Record(stem, locate(stem, root.findtext("filename")), size, objects)


def _parsed(file: Path) -> ElementTree.Element:
    """Returns the root, without the default namespace (`xmlns`) that some tools declare."""
    root = ElementTree.parse(file).getroot()
    if root.tag.startswith("{"):
        for element in root.iter():
            element.tag = element.tag.rpartition("}")[2]
    return root


def _read_object(element: ElementTree.Element, origin: int) -> VocObject:
    x1, y1, x2, y2 = (_number(element.findtext(f"bndbox/{corner}")) for corner in CORNERS)
    box = None
    if x1 is not None and y1 is not None and x2 is not None and y2 is not None:
        box = x1 - origin, y1 - origin, x2 + 1 - origin, y2 + 1 - origin
    flag = lambda name: _number(element.findtext(name)) == 1
    track = _number(element.findtext("trackid"))
    return VocObject(
        name=(element.findtext("name") or "").strip(),
        box=box,
        difficult=flag("difficult"),
        truncated=flag("truncated"),
        occluded=flag("occluded"),
        generated=flag("generated"),
        track=int(track) if track is not None and 0 <= track < LARGEST else -1,
        polygon=_polygon(element, origin),
    )


def _polygon(element: ElementTree.Element, origin: int) -> list[float]:
    """Returns an object's coordinates x1, y1, x2, y2 …, in pixels from 0; empty with fewer than three points."""
    polygon = element.find("polygon")
    numbers = [] if polygon is None else [_number(child.text) for child in polygon]
    points = [number - origin for number in numbers if number is not None]
    return points if len(points) == len(numbers) >= 6 and len(points) % 2 == 0 else []


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def _names_in(records: list[Record]) -> list[str]:
    names = {item.name for record in records for item in record.objects}
    return CLASSES if names <= set(CLASSES) else sorted(names)


def _read_image_set(image_set: Path) -> list[str]:
    try:
        lines = image_set.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{image_set} cannot be read ({error}): give a text file with one image per line.") from error
    return list(dict.fromkeys(re.sub(r"\s+(-1|0|1)$", "", line.strip()) for line in lines if line.strip()))


def _stems_in(annotations: Path) -> list[str]:
    stems = sorted(file.stem for file in annotations.glob("*.xml"))
    if not stems:
        raise DataError(f"{annotations} has no XML files: check the path of the annotations in your config.")
    return stems


def _image_file(images: Path, stem: str, written: str | None) -> str:
    """Finds the image named like the XML file, or else by its <filename>, which may be outdated after renaming."""
    candidates = [stem + extension for extension in EXTENSIONS] + ([written] if written else [])
    return next((name for name in candidates if (images / name).is_file()), candidates[0])


def open_sets(root: Path, sets: Sequence[str], key: str, on_bad: OnBad = "skip") -> Annotations:
    """Opens and joins sets of a VOCdevkit, such as 2007_trainval; `key`: their config key, for errors."""
    parts = [name.partition("_") for name in sets]
    if not all(separator for _, separator, _ in parts):
        raise DataError(f"{key} is {list(sets)}: write each as 2007_trainval.")
    return concatenate([open_devkit(root, year, split, on_bad=on_bad) for year, _, split in parts])
