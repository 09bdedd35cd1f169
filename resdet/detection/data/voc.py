"""PASCAL VOC: one XML file an image, lists of images, and the devkit's layout; also the XML that ILSVRC DET shares.

A box's xmin, ymin, xmax and ymax name its first and last pixel. VOC counts pixels from 1, ILSVRC from 0.
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
Box = tuple[float, float, float, float]


@dataclass
class Thing:
    """An object of an XML file."""

    name: str
    box: Box | None  # xyxy, continuous; None where it is not four numbers
    difficult: bool
    truncated: bool


@dataclass
class Record:
    """An image and what its XML file says."""

    stem: str
    file: str  # of the image, below the folder of the images
    size: tuple[int, int] | None  # width, height
    things: list[Thing]


def open_voc(
    annotations: Path | str,
    images: Path | str,
    image_set: Path | str | None = None,
    classes: Sequence[str] | None = None,
    on_bad: OnBad = "skip",
    cache_dir: Path | None = None,
) -> Annotations:
    """The images that `image_set` lists (all that have an XML file without it), and the objects in them.

    `annotations` and `images` are folders; a line of `image_set` is a name without extension, perhaps with a second
    column of -1, 0 or 1, which is ignored. `classes` are by default the names in the files, sorted; VOC's twenty where
    there are no others, so that every part of VOC numbers them alike. What is wrong is an error, or left out and
    counted in `problems`.
    """
    annotations, images = Path(annotations), Path(images)
    stems = _listed(Path(image_set)) if image_set else _all_in(annotations)

    def build() -> Arrays:
        problems, measured = Problems(annotations, on_bad), Measured(images)
        locate = lambda stem, written: _image_file(images, stem, written)
        records = read_records(annotations, measured, stems, locate, 1, problems)
        names = classes or _names_in(records)
        return compile_records(records, dict(zip(names, names)), problems) | measured.arrays()

    sources = [annotations, images, *([Path(image_set)] if image_set else [])]
    key = f"voc-{on_bad}-{zlib.crc32(chr(10).join(classes or []).encode()):08x}"
    holds = lambda arrays: unchanged(arrays, images)
    # One that is edited in place leaves no trace in its folder.
    states = file_states(annotations, (f"{stem}.xml" for stem in stems)).tolist()
    return Annotations(cached(key, sources, build, cache_dir, states, holds=holds), images)


def open_devkit(
    root: Path | str, year: str, split: str, on_bad: OnBad = "skip", cache_dir: Path | None = None
) -> Annotations:
    """A split of VOC as its archives unpack: `root` is VOCdevkit, or the folder that holds it.

    Several years are trained on as one with `concatenate([open_devkit(root, "2007", "trainval"), …])`.
    """
    places = [Path(root) / f"VOC{year}", Path(root) / "VOCdevkit" / f"VOC{year}"]
    home = next((place for place in places if place.is_dir()), None)
    if home is None:
        raise DataError(f"{root} has no folder VOC{year} or VOCdevkit/VOC{year}: unpack VOC {year} there")
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
    """What the XML file of each stem says; `negatives` are images without objects, which need none.

    `locate(stem, <filename>)` is the path of the image below its folder; `origin` is the coordinate of the first pixel.
    """
    records, missing, broken = [], [], []
    for stem in stems:
        try:
            records.append(_record(ElementTree.parse(folder / f"{stem}.xml").getroot(), stem, locate, origin))
        except (ElementTree.ParseError, ValueError, LookupError):  # bytes that are no text, an unknown encoding
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


def compile_records(records: list[Record], classes: dict[str, str], problems: Problems) -> Arrays:
    """The index of the records; `classes` are their names by what the XML calls them, and have the ids 1 to C."""
    label_of = {name: label for label, name in enumerate(classes)}
    things = [
        (image, f"{number} of {record.stem}.xml", thing)
        for image, record in enumerate(records)
        for number, thing in enumerate(record.things, 1)
    ]
    boxless = [name for _, name, thing in things if thing.box is None]
    unknown = [name for _, name, thing in things if thing.box and thing.name not in label_of]
    problems.leave_out("object", boxless, "no box of four numbers")
    problems.leave_out("object", unknown, "a class that is not among the given ones")
    things = [(image, name, thing) for image, name, thing in things if thing.box and thing.name in label_of]
    found = RawAnnotations(
        files=[record.file for record in records],
        sizes=[record.size for record in records],
        images=[image for image, _, _ in things],
        boxes=[thing.box for _, _, thing in things],
        labels=[label_of[thing.name] for _, _, thing in things],
        names=[name for _, name, _ in things],
        crowd=[thing.difficult for _, _, thing in things],
        difficult=[thing.difficult for _, _, thing in things],
        truncated=[thing.truncated for _, _, thing in things],
    )
    return compile_annotations(found, dict(enumerate(classes.values(), 1)), problems, "object")


def _record(root: ElementTree.Element, stem: str, locate: Callable[[str, str | None], str], origin: int) -> Record:
    width, height = (_number(root.findtext(f"size/{side}")) or 0 for side in ("width", "height"))
    size = (int(width), int(height)) if 1 <= width < LARGEST and 1 <= height < LARGEST else None
    things = [_thing(element, origin) for element in root.findall("object")]
    return Record(stem, locate(stem, root.findtext("filename")), size, things)


def _thing(element: ElementTree.Element, origin: int) -> Thing:
    first_x, first_y, last_x, last_y = (_number(element.findtext(f"bndbox/{corner}")) for corner in CORNERS)
    box = None
    if None not in (first_x, first_y, last_x, last_y):
        box = first_x - origin, first_y - origin, last_x + 1 - origin, last_y + 1 - origin
    flag = lambda name: _number(element.findtext(name)) == 1
    return Thing((element.findtext("name") or "").strip(), box, flag("difficult"), flag("truncated"))


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def _names_in(records: list[Record]) -> list[str]:
    names = {thing.name for record in records for thing in record.things}
    return CLASSES if names <= set(CLASSES) else sorted(names)


def _listed(image_set: Path) -> list[str]:
    try:
        lines = image_set.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{image_set} cannot be read ({error}): name a text file with an image a line") from error
    return list(dict.fromkeys(re.sub(r"\s+(-1|0|1)$", "", line.strip()) for line in lines if line.strip()))


def _all_in(annotations: Path) -> list[str]:
    stems = sorted(file.stem for file in annotations.glob("*.xml"))
    if not stems:
        raise DataError(f"{annotations} has no XML files: check the path of the annotations in your config")
    return stems


def _image_file(images: Path, stem: str, written: str | None) -> str:
    """By the XML's own name, which moves with renamed files; else by the name that is written in it."""
    candidates = [stem + extension for extension in EXTENSIONS] + ([written] if written else [])
    return next((name for name in candidates if (images / name).is_file()), candidates[0])


def open_sets(root: Path, sets: Sequence[str], key: str, on_bad: OnBad = "skip") -> Annotations:
    """Sets of a VOCdevkit as 2007_trainval, in one; `key` names them in errors."""
    named = [name.split("_", 1) for name in sets]
    if any(len(parts) != 2 for parts in named):
        raise DataError(f"{key} is {list(sets)}: name each as 2007_trainval.")
    return concatenate([open_devkit(root, *parts, on_bad=on_bad) for parts in named])
