"""Reads results in a folder of Parquet files as columns: 56 bytes per detection, plus masks or keypoints if compared.

Images are found by their file names in the annotations, and classes by name if the folder and the annotations have
different category ids. Boxes and keypoints are scaled to the annotated image size; a size with exchanged sides, the
result of EXIF rotation, is rejected.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from resdet.detection.data import rle
from resdet.detection.data.coco_file import sizes_of
from resdet.detection.evaluation.ground_truth import Kind
from resdet.detection.evaluation.parquet_categories import names_by_id, notes_on, paired
from resdet.detection.evaluation.results import Results
from resdet.errors import DataError
from resdet.files.json_file import read_json
from resdet.files.tar_member import member_of
from resdet.results.box_format import xyxy_to_xywh
from resdet.results.parquet import MANIFEST, read_batches

COLUMNS = ("image", "width", "height", "error", "scores", "category_ids", "boxes")
EXTRA: dict[str, str] = {"segm": "masks", "keypoints": "keypoints"}


def read_folder(folder: Path, annotations: str | Path, kind: Kind) -> Results:
    """Reads all detections of a finished run."""
    results = Results.concatenate(read_parts(folder, annotations, kind))
    results.name = str(folder)
    return results


def read_parts(folder: Path, annotations: str | Path, kind: Kind) -> Iterator[Results]:
    """Yields the detections, at most a row group at a time; finally prints the numbers of images with an error, without
    a row and without annotations."""
    check_finished(folder)
    content = read_json(annotations)
    known = entries_of(content, "images")
    ids, sizes, pairs = ids_by_name(known), sizes_by_id(known), paired_categories(folder, content)
    columns = [*COLUMNS, *([EXTRA[kind]] if kind in EXTRA else [])]
    seen: set[int] = set()
    unreadable = other = 0
    for path, rows in batches_of(folder, columns):
        places = [image_id(name, ids) for name in rows["image"].to_pylist()]
        images, batch = [image for image in places if image is not None], rows.filter([p is not None for p in places])
        names, errors = batch["image"].to_pylist(), batch["error"].is_valid().to_numpy(zero_copy_only=False)
        repeated = next((name for name, image in zip(names, images) if image in seen), None)
        if repeated is not None or len(set(images)) < len(images):
            raise DataError(f"{path} repeats {repeated or 'an image'}: give one row per image.")
        seen.update(images)
        unreadable += int(errors.sum())
        other += len(rows) - len(batch)
        scales = scales_of(batch, [sizes[image] for image in images], path)
        part = columns_of(batch, np.array(images, np.int64), scales, kind, path)
        yield part if pairs is None else with_categories(part, pairs)
    if not seen:
        raise DataError(f"{folder} has none of the {len(sizes)} images of the annotations: predict on their images.")
    print_differences(unreadable, other, len(seen), len(sizes), folder)


def print_differences(unreadable: int, other: int, seen: int, annotated: int, folder: Path) -> None:
    """Prints how many images count as images without detections, and how many are not evaluated."""
    if unreadable:
        print(f"{unreadable} of {seen} images have an error, and count as images without detections\n")
    if seen < annotated:
        absent = f"{annotated - seen} of the {annotated} images of the annotations"
        print(f"{absent} have no row in {folder}, and count as images without detections\n")
    if other:
        print(f"{other} of the {seen + other} images in {folder} are not in the annotations, and not evaluated\n")


def check_finished(folder: Path) -> None:
    present = len([*folder.glob("*.parquet")])
    if not present:
        raise DataError(f"{folder} has no Parquet files: give a folder of resdet predict --parquet.")
    manifest = folder / MANIFEST
    expected = read_json(manifest)["parts"] if manifest.exists() else present
    if present < expected:
        raise DataError(f"{folder} has {present} of {expected} parts: run resdet predict again to finish it.")


def entries_of(content: Any, key: str) -> list[dict]:
    """Returns the images or categories of the annotations that have an id."""
    entries = content.get(key) if isinstance(content, dict) else None
    return [entry for entry in entries or () if isinstance(entry, dict) and type(entry.get("id")) is int]


def paired_categories(folder: Path, content: Any) -> dict[int, int] | None:
    """Maps the folder's category ids to ids in the annotations, None if they are equal; prints differences."""
    annotated = {entry["id"]: str(entry.get("name")) for entry in entries_of(content, "categories")}
    detected = names_by_id(batch for _, batch in batches_of(folder, ["category_ids"], ["names"]))
    pairs = paired(detected, annotated)
    for note in notes_on(pairs, detected, annotated, folder):
        print(f"{note}\n")
    return pairs


def with_categories(part: Results, ids: dict[int, int]) -> Results:
    """Converts category ids to those of the annotations, and drops classes missing there."""
    kept = part.where(np.isin(part.category_ids, list(ids)))
    kept.category_ids = np.array([ids[id] for id in kept.category_ids.tolist()], np.int64)
    return kept


def ids_by_name(known: Sequence[dict]) -> dict[str, int]:
    """Maps file names, and ids as text, to image ids."""
    named = {normalized(str(entry["file_name"])): entry["id"] for entry in known if "file_name" in entry}
    return {str(entry["id"]): entry["id"] for entry in known} | named


def sizes_by_id(known: Sequence[dict]) -> dict[int, tuple[int, int]]:
    """Maps image ids to annotated (width, height), not positive without a valid size."""
    sizes = sizes_of(*([entry.get(side) for entry in known] for side in ("width", "height")))
    return {entry["id"]: (width, height) for entry, (width, height) in zip(known, sizes.tolist())}


def normalized(name: str) -> str:
    """Separates the parts of a name by /; FILE:MEMBER, and FILE@PLACE/MEMBER of shards, become FILE/MEMBER."""
    member = member_of(name)
    path = f"{member.tar}/{member.name}" if member else name
    return path.replace("\\", "/").replace(":", "/")


def image_id(name: str, ids: Mapping[str, int]) -> int | None:
    """Returns the id of the image whose name is the longest suffix of this name."""
    end = normalized(name)
    while end not in ids and "/" in end:
        end = end.partition("/")[2]
    return ids.get(end)


def batches_of(folder: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> Iterator[tuple[Path, Any]]:
    for path in sorted(folder.glob("*.parquet")):
        for batch in read_batches(path, columns, optional):
            yield path, batch


def scales_of(batch: Any, annotated: Sequence[tuple[int, int]], path: Path) -> np.ndarray:
    """Returns the ratios of annotated to predicted width and height of each image, float64 [n, 2]."""
    names, widths, heights = (batch[name].to_pylist() for name in ("image", "width", "height"))
    rows = zip(names, zip(widths, heights), annotated)
    return np.array([scale_of(name, size, own, path) for name, size, own in rows], np.float64).reshape(-1, 2)


def scale_of(name: str, size: tuple[Any, Any], annotated: tuple[int, int], path: Path) -> tuple[float, float]:
    """Returns the ratios of annotated to predicted width and height of an image, 1 if a size is unknown."""
    if not all(size) or min(annotated) <= 0:
        return 1, 1
    (width, height), (own_width, own_height) = size, annotated
    if size == (own_height, own_width) and width != height:
        raise DataError(
            f"{path} has the image {name} of {width} × {height} pixels, and the annotations give {own_width} × "
            f"{own_height}, without its EXIF rotation: annotate the rotated images, or evaluate the checkpoint with "
            "--weights, which reads images as annotated."
        )
    return own_width / width, own_height / height


def columns_of(batch: Any, images: np.ndarray, scales: np.ndarray, kind: Kind, path: Path) -> Results:
    """Reads the detections of a batch of images, scaled by `scales` [n, 2]."""
    counts = lengths(batch["scores"])
    for name in ("category_ids", "boxes", *([EXTRA[kind]] if kind in EXTRA else [])):
        if not np.array_equal(lengths(batch[name]), counts):
            raise DataError(f"{path} has no {name} for each of the scores: give results with {name}.")
    corners = numbers(batch["boxes"].flatten().flatten(), np.float64).reshape(-1, 4)
    scales = np.repeat(scales, counts, 0)
    boxes = xyxy_to_xywh(corners) * np.tile(scales, 2)
    categories, scores = (numbers(batch[name].flatten(), np.float64) for name in ("category_ids", "scores"))
    masks = masks_of(batch["masks"].flatten().to_pylist(), path) if kind == "segm" else None
    points = keypoints_of(batch["keypoints"].flatten(), scales) if kind == "keypoints" and counts.sum() else None
    return Results(np.repeat(images, counts), categories, scores, boxes, masks, points, str(path))


def lengths(column: Any) -> np.ndarray:
    """Returns the length of each list, 0 for null."""
    return np.asarray(column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False), np.int64)


def numbers(column: Any, kind: type) -> np.ndarray:
    return np.asarray(column.to_numpy(zero_copy_only=False), kind)


def masks_of(masks: list[dict], path: Path) -> list[dict]:
    problem = next(filter(None, rle.problems_of(masks, [tuple(mask["size"]) for mask in masks])), None)
    if problem:
        raise DataError(f"{path} has {problem}: write it again.")
    return masks


def keypoints_of(column: Any, scales: np.ndarray) -> np.ndarray:
    """Returns float64 [n, K, 3] from lists of K points for n detections, scaled by `scales` [n, 2]."""
    points = numbers(column.flatten().flatten(), np.float64).reshape(len(column), -1, 3)
    points[..., :2] *= scales[:, None]
    return points
