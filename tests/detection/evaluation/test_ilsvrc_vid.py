"""ILSVRC VID's mAP, overall and by motion, computed by hand and by a plain reimplementation in loops."""

import json

import numpy as np
import pytest

from resdet.commands.evaluate_results import evaluate_results
from resdet.detection.evaluation import ilsvrc_vid
from resdet.detection.evaluation.ilsvrc_det import evaluate_det
from resdet.detection.evaluation.ilsvrc_vid import evaluate_vid
from resdet.errors import DataError

CLASSES = [{"id": 3, "name": "dog"}, {"id": 5, "name": "bird"}]
NEAR, FAR = [0, 0, 30, 30], [100, 100, 30, 30]


def truth_of(*objects: tuple, frames: int = 3) -> dict:
    """Builds ground truth from tuples (frame, category, box, motion IoU)."""
    entries = [
        {"id": k, "image_id": frame, "category_id": category, "bbox": box, "motion_iou": motion}
        for k, (frame, category, box, motion) in enumerate(objects)
    ]
    return {"images": [{"id": n} for n in range(1, frames + 1)], "categories": CLASSES, "annotations": entries}


def found(*results: tuple) -> list[dict]:
    """Builds results from tuples (frame, category, box, score)."""
    return [{"image_id": f, "category_id": c, "bbox": box, "score": score} for f, c, box, score in results]


@pytest.mark.parametrize("width, hit", [(4, 1.0), (2.5, 1.0), (2.4, 0.0)])
def test_small_objects_need_less_overlap(width, hit):
    """The thresholds are DET's: eval_vid_detection.m has defaultIOUthr 0.5 and pixelTolerance 10."""
    assert evaluate_vid(truth_of((1, 3, [0, 0, 10, 10], 1)), found((1, 3, [0, 0, width, 10], 0.9)))["mAP"] == hit


@pytest.mark.parametrize("motion, group", [(0.91, "slow"), (0.9, "medium"), (0.7, "medium"), (0.69, "fast")])
def test_limits_of_the_groups(motion, group):
    metrics = evaluate_vid(truth_of((1, 3, NEAR, motion)), found((1, 3, NEAR, 0.5)))
    expected = {name: 1.0 if name == group else None for name in ("slow", "medium", "fast")}
    assert {name: metrics[f"mAP_{name}"] for name in expected} == expected
    assert metrics["per_class"]["dog"] == {"AP": 1.0, "objects": 1, **expected}
    assert metrics["per_class"]["bird"] == {"AP": None, "objects": 0, "slow": None, "medium": None, "fast": None}


def test_objects_of_other_groups_are_ignored():
    """For slow objects, detections of fast objects are ignored; otherwise they would halve the precision."""
    metrics = evaluate_vid(truth_of((1, 3, NEAR, 0.2), (2, 3, NEAR, 1.0)), found((1, 3, NEAR, 0.9), (2, 3, NEAR, 0.5)))
    assert (metrics["mAP_slow"], metrics["mAP_fast"]) == (1.0, 1.0)


def with_a_miss(truth: dict, frame: int, box: list) -> dict:
    """Returns the metrics with a false positive that has a higher score than the true one of frame 1."""
    return evaluate_vid(truth, found((frame, 3, box, 0.9), (1, 3, NEAR, 0.5)))


def test_weights_of_false_positives_by_hand():
    """Precision is 1 / (1 + weight) at the group's only object of the class."""
    slow, fast = (1, 3, NEAR, 1.0), (2, 5, FAR, 0.1)
    # In the slow object's frame, a false positive of any position has weight 1 for slow objects.
    assert with_a_miss(truth_of(slow, fast), 1, FAR)["mAP_slow"] == 1 / 2
    # In a fast object's frame, one of any class has weight 0 for slow objects.
    assert with_a_miss(truth_of(slow, fast), 2, FAR)["mAP_slow"] == 1
    # In a frame without objects, the weight is the share of slow objects: 1/2.
    assert with_a_miss(truth_of(slow, fast), 3, FAR)["mAP_slow"] == 1 / (1 + 1 / 2)
    # In a frame with both, the group of the object with the largest overlap decides.
    both = truth_of(slow, (1, 5, FAR, 0.1), (1, 5, [150, 0, 9, 9], 0.1))
    assert with_a_miss(both, 1, [20, 20, 30, 30])["mAP_slow"] == 1 / 2
    assert with_a_miss(both, 1, [110, 110, 30, 30])["mAP_slow"] == 1
    # Without overlap, the weight is the share of the frame's objects outside the group: 2/3.
    assert with_a_miss(both, 1, [60, 60, 9, 9])["mAP_slow"] == 1 / (1 + 2 / 3)


def iou(a: list, b: list) -> float:
    shared = [max(0, min(a[k] + a[k + 2], b[k] + b[k + 2]) - max(a[k], b[k])) for k in (0, 1)]
    shared = shared[0] * shared[1]
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def loops(truth: dict, results: list[dict], category: int, inside) -> float | None:
    """Returns AP, matching frame by frame as the devkit and FGFA do, then sorting all detections by score."""
    total = sum(inside(entry) for entry in truth["annotations"] if entry["category_id"] == category)
    judged = []  # (score, true positive, weight of a false positive)
    for image in truth["images"]:
        objects = [entry for entry in truth["annotations"] if entry["image_id"] == image["id"]]
        taken: set[int] = set()
        here = [entry for entry in results if (entry["image_id"], entry["category_id"]) == (image["id"], category)]
        for entry in sorted(here, key=lambda entry: -entry["score"]):
            free = [
                (iou(entry["bbox"], thing["bbox"]), k)
                for k, thing in enumerate(objects)
                if thing["category_id"] == category and k not in taken
            ]
            enough = lambda box: min(0.5, box[2] * box[3] / ((box[2] + 10) * (box[3] + 10)))
            free = [(overlap, k) for overlap, k in free if overlap >= enough(objects[k]["bbox"])]
            if free:
                _, k = max(free, key=lambda pair: pair[0])  # the first of equal overlaps
                taken.add(k)
                judged.append((entry["score"], inside(objects[k]), 0))
                continue
            groups = [[thing for thing in objects if inside(thing) == wanted] for wanted in (True, False)]
            best = [max((iou(entry["bbox"], thing["bbox"]) for thing in group), default=-1) for group in groups]
            if not objects:
                weight = np.mean([inside(thing) for thing in truth["annotations"]])
            else:
                weight = len(groups[1]) / len(objects) if best[0] == best[1] else float(best[0] > best[1])
            judged.append((entry["score"], False, weight))
    judged.sort(key=lambda row: -row[0])
    precisions, true, false = [], 0, 0.0
    for _, hit, weight in judged:
        true, false = true + hit, false + weight
        precisions.append(true / (true + false) if hit else 0)
    return sum(max(precisions[k:]) for k, row in enumerate(judged) if row[1]) / total if total else None


GROUPS = {
    "AP": lambda entry: True,
    "slow": lambda entry: entry["motion_iou"] > 0.9,
    "medium": lambda entry: 0.7 <= entry["motion_iou"] <= 0.9,
    "fast": lambda entry: entry["motion_iou"] < 0.7,
}


@pytest.mark.parametrize("seed", range(4))
def test_matches_the_reimplementation(seed):
    rng = np.random.default_rng(seed)
    box = lambda: [int(value) for value in (*rng.integers(0, 60, 2), *rng.integers(4, 40, 2))]
    label = lambda: int(rng.choice([3, 5]))
    objects = [(int(rng.integers(1, 16)), label(), box(), min(1.0, rng.uniform(0.4, 1.2))) for _ in range(25)]
    near = lambda like: [int(v) for v in np.maximum(1, np.array(like) + rng.integers(-6, 7, 4))]
    scores = iter(rng.permutation(120) / 120)
    results = [(f, c, near(b), float(next(scores))) for f, c, b, _ in objects for _ in range(2)]
    results += [(int(rng.integers(1, 20)), label(), box(), float(next(scores))) for _ in range(50)]
    truth, results = truth_of(*objects, frames=19), found(*results)
    truth["images"].reverse()
    metrics = evaluate_vid(truth, results)
    for key, inside in GROUPS.items():
        expected = [loops(truth, results, category, inside) for category in (3, 5)]
        assert [metrics["per_class"][name][key] for name in ("dog", "bird")] == pytest.approx(expected)
        mean = np.mean([value for value in expected if value is not None])
        assert metrics["mAP" if key == "AP" else f"mAP_{key}"] == pytest.approx(mean)
    plain = evaluate_det(truth, results)
    assert metrics["mAP"] == plain["mAP"]


def tracked() -> dict:
    """Two videos with track 7, first static, then moved by half its width: IoU 1/3."""
    truth = truth_of(*((n, 3, [15 * (n - 3) if n > 2 else 0, 0, 30, 30], 0) for n in (4, 1, 3, 2)), frames=4)
    for image in truth["images"]:
        image |= {"video_id": 1 + (image["id"] > 2), "frame_id": image["id"] % 2}
    for entry in truth["annotations"]:
        del entry["motion_iou"]
        entry["instance_id"] = 7
    return truth


def test_motion_is_computed_from_tracks():
    """Reads tracks in COCO's video format, with instance ids that are unique per video."""
    truth = tracked()
    metrics = evaluate_vid(
        truth, found(*((n, 3, e["bbox"], 0.5) for e in truth["annotations"] for n in [e["image_id"]]))
    )
    assert (metrics["mAP_slow"], metrics["mAP_medium"], metrics["mAP_fast"]) == (1.0, None, 1.0)
    read = ilsvrc_vid.ground_truth.read(truth)
    assert ilsvrc_vid.motion_of(read) == pytest.approx([1 / 3, 1, 1 / 3, 1])
    read["images"].reverse()  # in any order
    assert ilsvrc_vid.motion_of(read) == pytest.approx([1 / 3, 1, 1 / 3, 1])


def test_groups_are_none_without_tracks():
    truth = truth_of((1, 3, NEAR, 1.0))
    del truth["annotations"][0]["motion_iou"]
    metrics = evaluate_vid(truth, found((1, 3, NEAR, 0.5)))
    assert metrics["mAP"] == 1 and metrics["mAP_slow"] is metrics["mAP_medium"] is metrics["mAP_fast"] is None


@pytest.mark.parametrize("break_it, complaint", [
    (lambda truth: truth["annotations"][0].update(motion_iou="x"), "no finite number as motion_iou"),
    (lambda truth: truth["annotations"][0].update(motion_iou=0.5), "no finite number as motion_iou"),
    (lambda truth: truth["annotations"][1].pop("instance_id"), "as instance_id"),
    (lambda truth: truth["images"][0].pop("frame_id"), "as frame_id"),
    (lambda truth: truth["images"][0].update(video_id=-1), "as video_id"),
])  # fmt: skip
def test_incomplete_tracks_are_refused(break_it, complaint):
    truth = tracked()
    break_it(truth)
    with pytest.raises(DataError, match=complaint):
        evaluate_vid(truth, found((1, 3, NEAR, 0.5)))


def test_no_results_and_no_objects():
    assert evaluate_vid(truth_of((1, 3, NEAR, 1.0)), [])["mAP_slow"] == 0
    assert evaluate_vid(truth_of(), found((1, 3, NEAR, 0.5)))["mAP"] is None


def test_evaluate_results_with_the_vid_protocol(tmp_path, capsys):
    for name, content in (("truth", truth_of((1, 3, NEAR, 0.5))), ("results", found((1, 3, NEAR, 0.5)))):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    paths = [str(tmp_path / f"{name}.json") for name in ("truth", "results")]
    metrics = evaluate_results(*paths, protocol="ilsvrc_vid", per_class=True)
    assert metrics["mAP_fast"] == 1
    printed = capsys.readouterr().out
    assert "| mAP | mAP_slow | mAP_medium | mAP_fast |" in printed and "| class | AP | objects | slow |" in printed
