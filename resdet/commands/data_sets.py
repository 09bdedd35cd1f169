"""`resdet data convert|split|merge|subset|show`: detection data sets in any annotation format."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from resdet.data import output_folder
from resdet.data.class_names import known_class
from resdet.detection.data.annotations import Annotations
from resdet.detection.formats.data_set import DataSet, sample_images
from resdet.detection.formats.registry import recognize
from resdet.detection.formats.share_classes import Content, share_classes
from resdet.detection.formats.val_split import ValSplit
from resdet.detection.formats.writer import Written, gather, write_data_set, writers
from resdet.errors import DataError, number_of, printable
from resdet.images.encode import check_image_suffix, write_image
from resdet.images.resize import new_size, resize_pixels
from resdet.results.spread import spread

COLUMNS = 4  # of a contact sheet
CELL = 480  # long side of its images in pixels; smaller ones are enlarged by an integer factor


def convert(source: str, target: str, to: str, name: str | None = None) -> dict[str, Any]:
    """Writes the data set `source` (in format `name`; None: detected) in format `to`; returns a summary."""
    output_folder.check_target(target, source)
    data = _opened(source, name)
    return _summary(write_data_set(Path(target), gather(data), to), target, to, [data])


def merge(sources: Sequence[str], target: str) -> dict[str, Any]:
    """Merges data sets into one in COCO format; classes with equal names become one class, even within a source."""
    output_folder.check_target(target, *sources)
    sets = [_opened(source) for source in sources]
    parts = [gather(data) for data in sets]
    gathered = [(split, content) for part in parts for split, content in part.items()]
    shared = share_classes([content for _, content in gathered])
    contents: dict[str, list[Content]] = {}
    for (split, _), content in zip(gathered, shared):
        contents.setdefault(split, []).append(content)
    joined = {split: _join(parts) for split, parts in contents.items()}
    written = write_data_set(Path(target), joined, "coco")
    names = _repeated(shared[0])
    notes = [
        f"{data.layout.root}: the {count} classes named {printable(name)} are one class"
        for data, part in zip(sets, parts)
        for name, count in _repeated(next(iter(part.values()))).items()
        if name not in names
    ]
    return _summary(written, target, "coco", sets, notes)


def subset(source: str, target: str, classes: Sequence[str], count: int | None, min_size: float) -> dict[str, Any]:
    """Writes a subset of a data set, in its own format if resdet can write it, else in COCO format.

    Keeps only objects of `classes`, if given, and the images that contain one; `count` images per split, the same ones
    in each call; and only objects of at least `min_size` pixels in width and height.
    """
    output_folder.check_target(target, source)
    data = _opened(source)
    contents = {split: _part(content, classes, count, min_size) for split, content in gather(data).items()}
    to = data.layout.format if data.layout.format in writers else "coco"
    return _summary(write_data_set(Path(target), contents, to), target, to, [data])


def split(root: str, share: float, seed: int) -> dict[str, Any]:
    """Creates another validation split of a data set that has none, and writes its file."""
    data = DataSet(recognize(root))
    if data.has_val:
        raise DataError(f"{data.layout}: it has a validation split already; remove it to make another.")
    if "train" not in data.layout.splits:
        raise DataError(f"{data.layout}: there are no training images to split.")
    made = data.assign(ValSplit(share, seed))
    sources = {side: data.open(side) for side in ("train", "val")}
    print(f"{data.layout}")
    train, val = number_of(len(sources["train"]), "image"), len(sources["val"])
    print(f"{made.file}: {train} for training, {val} for validation")
    counts = {side: dict(zip(source.classes, source.images_with().tolist())) for side, source in sources.items()}
    for name in sources["train"].classes:
        print(f"  {printable(name)}: in {counts['train'][name]} and {number_of(counts['val'][name], 'image')}")
    images = {side: len(source) for side, source in sources.items()}
    return {"root": root, "file": str(made.file), "share": share, "seed": seed, "images": images, "images_with": counts}


def show(root: str, out: str, count: int) -> dict[str, Any]:
    """Draws some readable images of each split with their objects on a contact sheet."""
    from resdet.results.visualizer import sheet

    check_image_suffix(out)
    data = _opened(root)
    sources = [data.open(name) for name in data.splits]
    annotated = [(source, i) for source in sources for i in _annotated(source)]
    drawn: list[np.ndarray] = []
    files: list[str] = []
    left_out: list[str] = []
    for place in spread(len(annotated), count):
        source, i = annotated[place]
        try:
            drawn.append(_drawn(source, i))
            files.append(source.name(i))
        except DataError as error:
            left_out.append(str(error))
    if not drawn:
        raise DataError(f"{root} has no image that can be drawn: {next(iter(left_out), 'add its images.')}")
    write_image(out, sheet(drawn, COLUMNS))
    print(f"{data.layout}\n{number_of(len(files), 'image')} in {out}")
    if left_out:
        print(f"left out {number_of(len(left_out), 'image')} that cannot be read, the first: {left_out[0]}")
    return {"root": root, "format": data.layout.format, "out": out, "images": files, "left_out": left_out}


def _opened(root: str, name: str | None = None) -> DataSet:
    return DataSet(recognize(root, name))


def _repeated(content: Content) -> dict[str, int]:
    """Returns names that several classes share, with the number of these classes."""
    counts = Counter(category["name"] for category in content["categories"])
    return {name: count for name, count in counts.items() if count > 1}


def _summary(
    written: Written, target: str, to: str, sources: Sequence[DataSet], notes: Sequence[str] = ()
) -> dict[str, Any]:
    """Prints and returns what was written and what was lost."""
    problems = [*(sentence for data in sources for sentence in data.problems), *notes]
    lost = {kind: count for kind, count in written.lost.items() if count}
    for data in sources:
        print(data.layout)
    for sentence in problems:
        print(sentence)
    counts = (
        f"{number_of(count, 'image')} of {name} with {number_of(written.objects[name], 'object')}"
        for name, count in written.images.items()
    )
    print(f"{', '.join(counts)} in {target}, in the format {to}; train on them with data.root={target}")
    for sentence in written.losses(to):
        print(sentence)
    return {
        "sources": [{"root": str(data.layout.root), "format": data.layout.format} for data in sources],
        "root": target,
        "format": to,
        "images": dict(written.images),
        "objects": dict(written.objects),
        "lost": lost,
        "missing": written.missing,
        "problems": problems,
    }


def _join(parts: Sequence[Content]) -> Content:
    """Joins the contents into one, with new ids of images and annotations."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for part in parts:
        ids = {image["id"]: number for number, image in enumerate(part["images"], len(images) + 1)}
        images += [image | {"id": ids[image["id"]]} for image in part["images"]]
        annotations += [entry | {"image_id": ids[entry["image_id"]]} for entry in part["annotations"]]
    numbered = [entry | {"id": number} for number, entry in enumerate(annotations, 1)]
    return {"images": images, "annotations": numbered, "categories": parts[0]["categories"]}


def _part(content: Content, classes: Sequence[str], count: int | None, min_size: float) -> Content:
    known = [category["name"] for category in content["categories"]]
    for name in classes:
        if name not in known:
            raise DataError(f"There is no class {name!r}: {known_class(name, known)}")
    kept = {category["id"] for category in content["categories"] if not classes or category["name"] in classes}
    fits = lambda entry: entry["category_id"] in kept and min(entry["bbox"][2:]) >= min_size
    annotations = [entry for entry in content["annotations"] if fits(entry)]
    shown = {entry["image_id"] for entry in annotations}
    images = [image for image in content["images"] if not classes or image["id"] in shown]
    categories = [category for category in content["categories"] if category["id"] in kept]
    smaller = content | {"images": images, "annotations": annotations, "categories": categories}
    return sample_images(smaller, count or len(images))


def _annotated(source: Annotations) -> list[int]:
    """Returns the images with objects; all if there are none."""
    counts = np.diff(source.arrays["starts"])
    return (np.flatnonzero(counts) if counts.any() else np.arange(len(source))).tolist()


def _drawn(source: Annotations, i: int) -> np.ndarray:
    """Draws image i with its objects, with a long side of CELL or an integer factor below."""
    from resdet.detection.evaluation.pictures import drawn_objects

    pixels = source.image(i).decode()
    height, width = pixels.shape[:2]
    small = resize_pixels(pixels, *new_size(width, height, CELL, CELL)) if max(height, width) > CELL else pixels
    return drawn_objects(small, source, i, max(1, CELL // max(height, width)))
