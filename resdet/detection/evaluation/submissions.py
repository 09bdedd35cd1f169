"""Submission files for the test servers of PASCAL VOC, ILSVRC DET, ILSVRC VID and COCO, and format checks.

For ILSVRC's classification and localization, see `resdet.classification.submission`.
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

Competition = Literal["comp3", "comp4"]  # trained on VOC data only; on any data, including ImageNet weights
COCO_NAME = re.compile(r"(detections|person_keypoints)_(val|test|test-dev)(2014|2015|2017)_[A-Za-z0-9-]+_results")
COCO_LIMITS = {"detections": 100, "person_keypoints": 20}  # detections per image read by COCO's server


def write_voc(
    path: str | Path, results: Results, source: Annotations, year: str, split: str, competition: Competition = "comp4"
) -> None:
    """Writes a .tar.gz with one file per class, such as results/VOC2012/Main/comp4_det_test_aeroplane.txt.

    A line contains image name, score, xmin, ymin, xmax and ymax; pixels count from 1 and the last one is inclusive.
    """
    lines: dict[int, list[str]] = {category: [] for category in source.category_ids}
    for image, category, score, box in rows_of(results, source, first=1):
        lines[category].append(f"{source.image_id(image)} {score:.6f} {box}\n")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, category in classes_of(source):
            content = "".join(lines[category]).encode()
            member = tarfile.TarInfo(voc_member(year, split, competition, name))
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    write_bytes(path, buffer.getvalue())


def voc_member(year: str, split: str, competition: Competition, name: str) -> str:
    return f"results/VOC{year}/Main/{competition}_det_{split}_{name}.txt"


def check_voc(path: str | Path, source: Annotations, year: str, split: str, competition: Competition = "comp4") -> None:
    """Raises DataError for the first error that VOC's server would reject."""
    stems = {str(source.image_id(i)): source.sizes[i].tolist() for i in range(len(source))}
    expected = [voc_member(year, split, competition, name) for name, _ in classes_of(source)]
    try:
        content = io.BytesIO(gzip.decompress(Path(path).read_bytes()))  # tarfile alone does not detect truncation
        with tarfile.open(fileobj=content) as archive:
            files = {
                member.name: file.read().decode()
                for member in archive
                if member.isfile() and (file := archive.extractfile(member))
            }
    except (OSError, EOFError, zlib.error, tarfile.TarError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a .tar.gz of text files ({error}): write it again.") from error
    if sorted(files) != sorted(expected):
        name = sorted(set(files) ^ set(expected))[0]
        problem = "unexpected" if name in files else "missing"
        raise DataError(f"{path}: {name} is {problem}: write one file per class.")
    for name, text in files.items():
        for row, line in enumerate(text.splitlines(), start=1):
            fields = line.split()
            if len(fields) != 6 or fields[0] not in stems:
                raise DataError(f"{path}, {name}, line {row}: write an image of the set, a score and four corners.")
            check_values(numbers(fields[1:]), stems[fields[0]], 1, f"{path}, {name}, line {row}")


def write_det(path: str | Path, results: Results, source: Annotations) -> None:
    """Writes one line per detection: image number in the list of the test set, class number, score and box.

    The servers of DET and VID use this format, with the class numbers of their kits. Boxes are xmin, ymin, xmax, ymax;
    pixels count from 0 and the last one is inclusive, as in the XML files.
    """
    rows = rows_of(results, source, first=0)
    lines = [f"{image + 1} {category} {score:.6f} {box}\n" for image, category, score, box in rows]
    write_text(path, "".join(lines))


def check_det(path: str | Path, source: Annotations) -> None:
    """Raises DataError for the first line that ILSVRC's server would reject."""
    categories = set(source.category_ids)
    for row, line in enumerate(read_text(path).splitlines(), start=1):
        where = f"{path}, line {row}"
        values = numbers(line.split())
        if len(values) != 7:
            raise DataError(f"{where}: write an image number, a class number, a score and four corners.")
        if values[0] not in range(1, len(source) + 1) or values[1] not in categories:
            raise DataError(f"{where}: there is no such image (1 to {len(source)}) or class (1 to {len(categories)}).")
        check_values(values[2:], source.sizes[int(values[0]) - 1].tolist(), 0, where)


def best_of_each_image(results: Results, count: int) -> Results:
    """Keeps the `count` highest-scoring detections of each image, which matters for tiled images."""
    order = np.lexsort((-results.scores, results.image_ids))
    images = results.image_ids[order]
    kept = np.zeros(len(results), bool)
    kept[order] = np.arange(len(results)) - np.searchsorted(images, images) < count
    return results.where(kept)


def write_coco(path: str | Path, results: Results) -> None:
    """Writes COCO's results format to detections_test-dev2015_NAME_results.json, or to a .zip with this name; keypoints
    to person_keypoints_test-dev2017_NAME_results.json or .zip."""
    path = Path(path)
    coco_kind(path)
    if path.suffix == ".json":
        return results.save(path)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{path.stem}.json", json.dumps(results.to_list()))
    write_bytes(path, buffer.getvalue())


def coco_kind(path: Path) -> str:
    """Returns `detections` or `person_keypoints` from the name of a submission; raises DataError for other names."""
    name = COCO_NAME.fullmatch(path.stem)
    if path.suffix not in (".json", ".zip") or name is None:
        raise DataError(
            f"{path.name} is not a name that COCO's server accepts: call it "
            "detections_test-dev2015_NAME_results.json or .zip, or person_keypoints_… for keypoints."
        )
    return name[1]


def check_coco(path: str | Path, source: Annotations) -> None:
    """Raises DataError for the first error that COCO's server would reject."""
    path = Path(path)
    kind = coco_kind(path)
    results = read_coco(path)
    if kind == "person_keypoints" and results.keypoints is None and len(results):
        raise DataError(f"{path} has no keypoints: write the detections of a keypoint detector.")
    ids = [source.result_id(i) for i in range(len(source))]
    results.check({
        "images": [{"id": number} for number in ids],
        "categories": [{"id": number} for number in source.category_ids],
    })  # fmt: skip
    image, count = max(zip(*np.unique(results.image_ids, return_counts=True)), key=lambda pair: pair[1], default=(0, 0))
    if count > COCO_LIMITS[kind]:
        raise DataError(
            f"{path}: image {image} has {count} detections: write the best {COCO_LIMITS[kind]} of each image."
        )


def read_coco(path: Path) -> Results:
    if path.suffix == ".json":
        return Results.read(path)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = json.loads(archive.read(f"{path.stem}.json"))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not a .zip with {path.stem}.json ({error}): write it again.") from error
    return Results.from_list(entries, str(path))


def rows_of(results: Results, source: Annotations, first: int) -> Iterator[tuple[int, int, float, str]]:
    """Yields image index, category id, score and corners of detections, by image, best first; pixels start at
    `first`."""
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
    """Returns the fields as floats; empty if one is not a number."""
    try:
        return [float(field) for field in fields]
    except ValueError:
        return []


def check_values(values: Sequence[float], size: Sequence[int], first: int, where: str) -> None:
    """Rejects an invalid score or box; `values`: the score and four corners, with pixels counted from `first`."""
    if len(values) != 5 or not np.isfinite(values).all():
        raise DataError(f"{where}: a score or a corner is not a finite number: write numbers.")
    left, top, right, bottom = (value - first for value in values[1:])
    if not (0 <= left <= right <= size[0] - 1 and 0 <= top <= bottom <= size[1] - 1):
        raise DataError(
            f"{where}: the box does not lie in its image of {size[0]}×{size[1]} pixels, counted from {first}."
        )
