"""Files for the test servers of detection tasks, and checks of their format: PASCAL VOC, ILSVRC DET, COCO.

Those of ILSVRC's classification and localization are in `resdet.classification.submission`.
"""

import gzip
import io
import json
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from resdet.data.ilsvrc_files import read_text
from resdet.detection.data.annotations import Annotations
from resdet.detection.evaluation.results import Results
from resdet.errors import DataError
from resdet.files.atomic import write_bytes, write_text

Competition = Literal["comp3", "comp4"]  # trained on VOC's own data alone, or on any (ImageNet's weights are any)
COCO_NAME = re.compile(r"detections_(val|test|test-dev)(2014|2015|2017)_[A-Za-z0-9-]+_results")
LARGEST_COCO = 100  # detections of an image that COCO's server reads


def write_voc(
    path: str | Path, results: Results, source: Annotations, year: str, split: str, competition: Competition = "comp4"
) -> None:
    """A .tar.gz with results/VOC2012/Main/comp4_det_test_aeroplane.txt and so on, a file a class.

    A line is the image's name, the score, and xmin, ymin, xmax, ymax from 1 on, the last pixel included.
    """
    lines: dict[int, list[str]] = {category: [] for category in source.category_ids}
    for image, category, score, box in rows_of(results, source, first=1):
        lines[category].append(f"{source.image_id(image)} {score:.6f} {box}\n")
    with_names = {voc_member(year, split, competition, name): lines[category] for name, category in classes_of(source)}
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as archive:
        for name, own in with_names.items():
            content = "".join(own).encode()
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    write_bytes(path, whole.getvalue())


def voc_member(year: str, split: str, competition: Competition, name: str) -> str:
    return f"results/VOC{year}/Main/{competition}_det_{split}_{name}.txt"


def check_voc(path: str | Path, source: Annotations, year: str, split: str, competition: Competition = "comp4") -> None:
    """Raises a DataError that names the first thing which VOC's server would refuse."""
    stems = {str(source.image_id(i)): source.sizes[i].tolist() for i in range(len(source))}
    wanted = [voc_member(year, split, competition, name) for name, _ in classes_of(source)]
    try:
        content = io.BytesIO(gzip.decompress(Path(path).read_bytes()))  # whole: tarfile does not miss a cut end
        with tarfile.open(fileobj=content) as archive:
            found = {member.name: archive.extractfile(member).read().decode() for member in archive if member.isfile()}
    except (OSError, EOFError, zlib.error, tarfile.TarError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no .tar.gz of text files ({error}): write it again.") from error
    if sorted(found) != sorted(wanted):
        odd = sorted(set(found) ^ set(wanted))[0]
        raise DataError(f"{path}: {odd} is {'too much' if odd in found else 'missing'}: there is one file a class.")
    for name, text in found.items():
        for row, line in enumerate(text.splitlines(), start=1):
            fields = line.split()
            if len(fields) != 6 or fields[0] not in stems:
                raise DataError(f"{path}, {name}, line {row}: write an image of the list, a score and four corners.")
            complain(numbers(fields[1:]), stems[fields[0]], 1, f"{path}, {name}, line {row}")


def write_det(path: str | Path, results: Results, source: Annotations) -> None:
    """A line a detection: the image's number in the list of the test set, ILSVRC2014_DET_ID, score, and the box.

    Boxes are xmin, ymin, xmax, ymax from 0 on, the last pixel included, as in the XML files.
    """
    rows = rows_of(results, source, first=0)
    lines = [f"{image + 1} {category} {score:.6f} {box}\n" for image, category, score, box in rows]
    write_text(path, "".join(lines))


def check_det(path: str | Path, source: Annotations) -> None:
    """Raises a DataError that names the first line which ILSVRC's server would refuse."""
    categories = set(source.category_ids)
    for row, line in enumerate(read_text(path).splitlines(), start=1):
        where = f"{path}, line {row}"
        values = numbers(line.split())
        if len(values) != 7:
            raise DataError(f"{where}: write an image's number, a class's number, a score and four corners.")
        if values[0] not in range(1, len(source) + 1) or values[1] not in categories:
            raise DataError(f"{where}: there is no such image (1 to {len(source)}) or class (1 to {len(categories)}).")
        complain(values[2:], source.sizes[int(values[0]) - 1].tolist(), 0, where)


def write_coco(path: str | Path, results: Results) -> None:
    """COCO's results format: JSON named detections_test-dev2015_NAME_results.json, or that in a .zip of this name."""
    path = Path(path)
    check_coco_name(path)
    if path.suffix == ".json":
        return results.save(path)
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{path.stem}.json", json.dumps(results.to_list()))
    write_bytes(path, whole.getvalue())


def check_coco_name(path: Path) -> None:
    if path.suffix not in (".json", ".zip") or not COCO_NAME.fullmatch(path.stem):
        raise DataError(
            f"{path.name} is no name that COCO's server takes: "
            "call it detections_test-dev2015_NAME_results.json or .zip."
        )


def check_coco(path: str | Path, source: Annotations) -> None:
    """Raises a DataError that names the first thing which COCO's server would refuse."""
    path = Path(path)
    check_coco_name(path)
    results = read_coco(path)
    ids = [source.result_id(i) for i in range(len(source))]
    results.check({
        "images": [{"id": number} for number in ids],
        "categories": [{"id": number} for number in source.category_ids],
    })  # fmt: skip
    most_of, most = max(
        zip(*np.unique(results.image_ids, return_counts=True)), key=lambda pair: pair[1], default=(0, 0)
    )
    if most > LARGEST_COCO:
        raise DataError(f"{path}: image {most_of} has {most} detections: the server reads {LARGEST_COCO} of an image.")


def read_coco(path: Path) -> Results:
    if path.suffix == ".json":
        return Results.read(path)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = json.loads(archive.read(f"{path.stem}.json"))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is no .zip that holds {path.stem}.json ({error}): write it again.") from error
    return Results.from_list(entries, str(path))


def rows_of(results: Results, source: Annotations, first: int) -> Iterator[tuple[int, int, float, str]]:
    """Image, category, score and corners of each detection, image by image, best first; pixels count from `first`."""
    position = {source.result_id(i): i for i in range(len(source))}
    images = np.array([position[number] for number in results.image_ids.tolist()], np.int64)
    for k in np.lexsort((-results.scores, images)).tolist():
        x, y, width, height = results.boxes[k]
        right, bottom = source.sizes[images[k]].tolist()
        corners = np.clip([x, y, x + width - 1, y + height - 1], 0, [right - 1, bottom - 1] * 2)
        corners[2:] = np.maximum(corners[2:], corners[:2])
        text = " ".join(f"{value + first:.2f}" for value in corners)
        yield int(images[k]), int(results.category_ids[k]), float(results.scores[k]), text


def classes_of(source: Annotations) -> Iterator[tuple[str, int]]:
    return zip(source.classes, source.category_ids)


def numbers(fields: Sequence[str]) -> list[float]:
    """Empty where one is no number."""
    try:
        return [float(field) for field in fields]
    except ValueError:
        return []


def complain(values: Sequence[float], size: Sequence[int], first: int, where: str) -> None:
    """About a score and four corners in pixels that count from `first`."""
    if len(values) != 5 or not np.isfinite(values).all():
        raise DataError(f"{where}: a score or a corner is no finite number.")
    left, top, right, bottom = (value - first for value in values[1:])
    if not (0 <= left <= right <= size[0] - 1 and 0 <= top <= bottom <= size[1] - 1):
        raise DataError(f"{where}: the box does not lie in its image of {size[0]}×{size[1]} pixels, from {first} on.")
