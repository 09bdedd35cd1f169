"""Compares runs on the same validation images to the first one."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from resdet.detection.evaluation import ground_truth
from resdet.detection.report.bootstrap import average_precisions, overall
from resdet.detection.report.evaluation import EvaluatedDetector, evaluate_detector
from resdet.detection.report.galleries import DETECTIONS, scene_picture
from resdet.detection.report.marks import detection_marks, truth_marks
from resdet.detection.report.matches import Matches
from resdet.errors import ConfigError, number_of
from resdet.files.json_file import read_json
from resdet.results.differences import ALL, COLUMNS, explanation, most, resample, room, row
from resdet.results.sections import TRUTH, Cell, Gallery, Part, Picture, Section, Table
from resdet.tasks import EvaluatedRun

HIGHER, NO_OBJECTS = 1, "no objects"  # higher AP is better; verdict for a class without objects


def compare(runs: Sequence[EvaluatedRun], precision: float | None) -> list[Section]:
    """Returns a section for each run except the first."""
    first, *others = (evaluate_detector(run, precision) for run in runs)
    check_same_data(first, others)
    # Uses the same file, so that objects are in the same order.
    truth = first.truth if isinstance(first.truth, dict) else read_json(first.truth)
    others = [replace(other, matches=Matches.of(truth, other.results)) for other in others]
    copies = resample(len(first.matches.image_ids))
    masks = all(run.has_masks for run in (first, *others))
    base = all_aps(first, truth, copies, masks)
    sections = []
    for number, other in enumerate(others, 2):
        aps = all_aps(other, truth, copies, masks)
        table = differences(first.matches, base, aps, number)
        note = explanation(first.run.name, other.run.name, copies.shape[1])
        parts: list[Part] = [table, *galleries(first, other, number, room(len(others)))]
        title = f"{other.run.name} against {first.run.name}"
        sections.append(Section(f"comparison_{number}", title, parts, note))
    return sections


def all_aps(run: EvaluatedDetector, truth: dict[str, Any], copies: np.ndarray, masks: bool) -> dict[str, np.ndarray]:
    """Returns AP [1 + R, T, K] of boxes, and of masks if `masks`, by the prefix of the metric's name."""
    aps = {"": average_precisions(run.matches, copies)}
    if masks:
        aps["mask_"] = average_precisions(Matches.of(truth, run.results, "segm"), copies)
    return aps


def check_same_data(first: EvaluatedDetector, others: Sequence[EvaluatedDetector]) -> None:
    truth = ground_truth.read(first.truth)
    for other in others:
        if other.left_out != first.left_out or ground_truth.read(other.truth) != truth:
            raise ConfigError(
                f"{other.run.name} and {first.run.name} have other validation data: compare runs on the same images "
                "and annotations, or set data.root and data.val for both."
            )


def differences(matches: Matches, base: dict[str, np.ndarray], aps: dict[str, np.ndarray], number: int) -> Table:
    """Compares the AP of the first run, `base`, with that of another one; both as returned by `all_aps`. `matches`: of
    either run, for the objects."""
    rows = []
    images = matches.presence()
    anywhere = int(images.any(0).sum())
    for prefix in aps:
        pair = (base[prefix], aps[prefix])
        rows.append(ap_row(ALL, f"{prefix}AP", anywhere, *(overall(values.mean(1)) for values in pair)))
        rows.append(ap_row(ALL, f"{prefix}AP50", anywhere, *(overall(values[:, 0]) for values in pair)))
    for label, name in enumerate(matches.classes):
        count = int(images[label].sum())
        for prefix in aps:
            pair = (base[prefix][:, :, label], aps[prefix][:, :, label])
            rows.append(ap_row(name, f"{prefix}AP", count, *(values.mean(1) for values in pair)))
            rows.append(ap_row(name, f"{prefix}AP50", count, *(values[:, 0] for values in pair)))
    return Table(f"differences_{number}", "AP by class", COLUMNS, rows)


def ap_row(name: str, metric: str, images: int, first: np.ndarray, other: np.ndarray) -> list[Cell]:
    return row(name, metric, first, other, HIGHER, NO_OBJECTS, images)


def galleries(first: EvaluatedDetector, other: EvaluatedDetector, number: int, room: int) -> list[Gallery]:
    """Returns images with objects that only one of the two finds, at the respective score thresholds and IoU 0.5."""
    by_first, by_other = (each.matches.matched(each.score) & each.matches.counted for each in (first, other))
    images, count = first.matches.object_images, len(first.matches.image_ids)
    lost, gained = (np.bincount(images[only], minlength=count) for only in (by_first & ~by_other, by_other & ~by_first))
    chosen = (
        (f"lost_{number}", f"Only {first.run.name} finds them", lost),
        (f"gained_{number}", f"Only {other.run.name} finds them", gained),
    )
    return [
        Gallery(key, title, [drawn(first, other, image, int(counts[image])) for image in most(counts, room)])
        for key, title, counts in chosen
    ]


def drawn(first: EvaluatedDetector, other: EvaluatedDetector, image: int, objects: int) -> Picture:
    source = first.source
    index = first.indices[int(first.matches.image_ids[image])]
    layers = {TRUTH: truth_marks(source, index)}
    layers |= {
        f"{DETECTIONS} of {each.run.name}": detection_marks(source, index, each.results, each.score)
        for each in (first, other)
    }
    return scene_picture(source, index, number_of(objects, "object"), layers)
