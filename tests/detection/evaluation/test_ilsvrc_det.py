"""ILSVRC DET's thresholds computed by hand, and its matching compared with a plain reimplementation in loops."""

import numpy as np
import pytest

from resdet.detection.evaluation import ilsvrc_det
from resdet.detection.evaluation.ilsvrc_det import thresholds


def case(objects: list[list], results: list[tuple[list, float]]) -> tuple[dict, list[dict]]:
    truth = {
        "images": [{"id": 1}],
        "categories": [{"id": 5, "name": "n01443537"}],
        "annotations": [{"id": i, "image_id": 1, "category_id": 5, "bbox": box} for i, box in enumerate(objects)],
    }
    return truth, [{"image_id": 1, "category_id": 5, "bbox": box, "score": score} for box, score in results]


def test_thresholds_by_hand():
    boxes = np.array([[0, 0, 10, 10], [5, 5, 20, 10], [0, 0, 100, 100], [0, 0, 20, 25], [0, 0, 5, 100]], float)
    assert thresholds(boxes) == pytest.approx([0.25, 200 / 600, 0.5, 500 / (30 * 35), 500 / (15 * 110)])


@pytest.mark.parametrize("width, hit", [(4, 1.0), (2.5, 1.0), (2.4, 0.0)])
def test_small_objects_need_less_overlap(width, hit):
    """An object of 10×10 pixels needs an IoU of 100 / 400."""
    assert ilsvrc_det.evaluate_det(*case([[0, 0, 10, 10]], [([0, 0, width, 10], 0.9)]))["mAP"] == hit


@pytest.mark.parametrize("width, hit", [(50, 1.0), (49, 0.0)])
def test_large_objects_need_an_iou_of_half(width, hit):
    assert ilsvrc_det.evaluate_det(*case([[0, 0, 100, 100]], [([0, 0, width, 100], 0.9)]))["mAP"] == hit


def test_a_detection_can_match_its_second_best_object():
    """Unlike in VOC, a detection whose best object is taken matches the next one with enough overlap."""
    inputs = case([[0, 0, 10, 10], [0, 3, 10, 10]], [([0, 0, 10, 10], 0.9), ([0, 1, 10, 10], 0.8)])
    assert ilsvrc_det.evaluate_det(*inputs)["mAP"] == pytest.approx(1)


def test_each_object_has_its_own_threshold():
    """A box below the large object's threshold but above the small one's matches the small object."""
    small, large, box = [0, 0, 10, 10], [0, 0, 100, 100], [0, 0, 30, 13]
    figures = ilsvrc_det.evaluate_det(*case([large, small], [(box, 0.9)]))  # IoU 0.039 below 0.5, and 0.256 above 0.25
    assert figures == {"mAP": 0.5, "per_class": {"n01443537": {"AP": 0.5, "objects": 2}}}


def loops(truth: dict, results: list[dict], category: int) -> float:
    """Returns AP by the devkit's algorithm: greedy matching by score, then the area under the curve."""
    objects = [thing for thing in truth["annotations"] if thing["category_id"] == category]
    ranked = sorted(
        (entry for entry in results if entry["category_id"] == category), key=lambda e: (-e["score"], e["image_id"])
    )
    taken, hits = set(), []
    for entry in ranked:
        x, y, w, h = entry["bbox"]
        best, chosen = -1.0, None
        for k, thing in enumerate(objects):
            if thing["image_id"] != entry["image_id"] or k in taken:
                continue
            a, b, c, d = thing["bbox"]
            across, down = min(x + w, a + c) - max(x, a), min(y + h, b + d) - max(y, b)
            if across <= 0 or down <= 0:
                continue
            overlap = across * down / (w * h + c * d - across * down)
            if overlap >= min(0.5, c * d / ((c + 10) * (d + 10))) and overlap > best:
                best, chosen = overlap, k
        hits.append(chosen is not None)
        taken.add(chosen)
    precision = [sum(hits[: i + 1]) / (i + 1) for i in range(len(hits))]
    return sum(max(precision[i:]) for i, hit in enumerate(hits) if hit) / len(objects)


@pytest.mark.parametrize("seed", range(10))
def test_matches_the_devkits_algorithm(seed):
    rng = np.random.default_rng(seed)
    box = lambda: [int(v) for v in (*rng.integers(0, 40, 2), *rng.integers(2, 30, 2))]
    entry = lambda: {"image_id": int(rng.integers(1, 4)), "category_id": int(rng.integers(1, 3)), "bbox": box()}
    objects = [entry() for _ in range(15)]
    near = lambda like: {**like, "bbox": [int(v) for v in np.maximum(1, like["bbox"] + rng.integers(-4, 5, 4))]}
    results = [near(objects[i]) for i in rng.integers(0, 15, 30)] + [entry() for _ in range(20)]
    for each in results:
        each["score"] = float(rng.integers(0, 30)) / 30
    truth = {
        "images": [{"id": i} for i in (3, 1, 2)],
        "categories": [{"id": c, "name": str(c)} for c in (1, 2, 3)],
        "annotations": objects,
    }
    figures = ilsvrc_det.evaluate_det(truth, results)
    expected = [loops(truth, results, category) for category in (1, 2)]
    assert [figures["per_class"][name]["AP"] for name in "12"] == pytest.approx(expected)
    assert figures["mAP"] == pytest.approx(np.mean(expected)) and figures["per_class"]["3"]["AP"] is None
    blacklisted = [(1, 2), (3, 1), (2, 3)]  # (image, category)
    truth["images"] = [{"id": i, "blacklisted_category_ids": [c for n, c in blacklisted if n == i]} for i in (3, 1, 2)]
    figures = ilsvrc_det.evaluate_det(truth, results)
    judged = lambda entries: [e for e in entries if (e["image_id"], e["category_id"]) not in blacklisted]
    expected = [loops(truth | {"annotations": judged(objects)}, judged(results), category) for category in (1, 2)]
    assert [figures["per_class"][name]["AP"] for name in "12"] == pytest.approx(expected)
    perfect = [{**thing, "score": 1.0} for thing in objects]
    assert ilsvrc_det.evaluate_det(truth, perfect)["mAP"] == 1
