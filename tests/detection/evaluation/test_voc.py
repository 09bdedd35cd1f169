"""VOC's AP compared with the devkit's algorithm, reimplemented here with 1-based, inclusive integer pixels."""

import json

import numpy as np
import pytest

from resdet.detection.evaluation import voc
from resdet.errors import ConfigError, DataError


def make(seed: int, difficult: float = 0.2) -> tuple[dict, list[dict]]:
    """Makes integer boxes, for bitwise equal arithmetic, and some equal scores."""
    rng = np.random.default_rng(seed)
    box = lambda: [int(v) for v in (*rng.integers(0, 60, 2), *rng.integers(1, 40, 2))]
    images, categories = [4, 2, 9, 7], [3, 1, 8]
    objects = [
        {
            "id": i,
            "image_id": int(rng.choice(images[1:])),
            "category_id": int(rng.choice(categories[1:])),
            "bbox": box(),
        }
        for i in range(24)
    ]
    for thing in objects:
        thing["difficult"] = thing["ignore"] = int(rng.random() < difficult)
    near = lambda like: {**like, "bbox": [int(v) for v in np.maximum(1, like["bbox"] + rng.integers(-2, 3, 4))]}
    results = [near(objects[i]) for i in rng.integers(0, len(objects), 60)]
    results += [{**objects[0], "bbox": box(), "category_id": int(rng.choice(categories))} for _ in range(20)]
    results = [
        {key: entry[key] for key in ("image_id", "category_id", "bbox")} | {"score": float(rng.integers(0, 60)) / 60}
        for entry in results
    ]
    truth = {
        "images": [{"id": i} for i in images],
        "categories": [{"id": c, "name": f"class {c}"} for c in categories],
        "annotations": objects,
    }
    return truth, results


def inclusive(box: list[float]) -> tuple[float, float, float, float]:
    """Returns 1-based, inclusive corners, as in VOC's XML."""
    x, y, width, height = box
    return x + 1, y + 1, x + width, y + height


def devkit_overlap(a: tuple, b: tuple) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    if width <= 0 or height <= 0:
        return 0.0
    area = lambda box: (box[2] - box[0] + 1) * (box[3] - box[1] + 1)
    return width * height / (area(a) + area(b) - width * height)


def devkit_ap(hits: list[bool], total: int, metric: str) -> float:
    recall, precision, right = [], [], 0
    for rank, hit in enumerate(hits, start=1):
        right += hit
        recall.append(right / total)
        precision.append(right / rank)
    if metric == "07":
        points = []
        for tenths in range(11):
            points.append(max([p for r, p in zip(recall, precision) if r >= tenths / 10], default=0))
        return sum(points) / 11
    recall, precision = [0, *recall, 1], [0, *precision, 0]
    for i in reversed(range(len(precision) - 1)):
        precision[i] = max(precision[i], precision[i + 1])
    return sum((recall[i] - recall[i - 1]) * precision[i] for i in range(1, len(recall)))


def devkit(truth: dict, results: list[dict], metric: str, minimum: float) -> dict[int, float]:
    """Returns AP by category id."""
    figures = {}
    for category in {thing["category_id"] for thing in truth["annotations"] if not thing["difficult"]}:
        objects = [thing for thing in truth["annotations"] if thing["category_id"] == category]
        ranked = [entry for entry in results if entry["category_id"] == category]
        ranked.sort(key=lambda entry: (-entry["score"], entry["image_id"]))
        hits, taken = [], set()
        for entry in ranked:
            best, chosen = -1, None
            for thing in objects:
                overlap = devkit_overlap(inclusive(entry["bbox"]), inclusive(thing["bbox"]))
                if thing["image_id"] == entry["image_id"] and overlap > best:
                    best, chosen = overlap, thing
            if best < minimum:
                hits.append(False)
            elif not chosen["difficult"]:
                hits.append(chosen["id"] not in taken)
                taken.add(chosen["id"])
        figures[category] = devkit_ap(hits, sum(not thing["difficult"] for thing in objects), metric)
    return figures


@pytest.mark.parametrize("metric", ["07", "area"])
@pytest.mark.parametrize("iou", [0.5, 0.7])
@pytest.mark.parametrize("seed", range(8))
def test_matches_the_devkits_algorithm(seed, iou, metric):
    truth, results = make(seed)
    expected = devkit(truth, results, metric, iou)
    figures = voc.evaluate(truth, results, metric, iou)
    assert set(expected) == {1, 8} and 0 < sum(expected.values()) < 2
    for category in (1, 8):
        assert figures["per_class"][f"class {category}"]["AP"] == pytest.approx(expected[category], abs=1e-12)
    assert figures["mAP"] == pytest.approx(sum(expected.values()) / 2)
    assert figures["per_class"]["class 3"] == {"AP": None, "objects": 0}


@pytest.mark.parametrize("metric", ["07", "area"])
def test_ground_truth_as_results_is_perfect(metric):
    truth, _ = make(0)
    truth["annotations"] = [*{tuple(thing["bbox"]): thing for thing in truth["annotations"]}.values()]
    results = [{**thing, "score": 0.5} for thing in truth["annotations"]]
    assert voc.evaluate(truth, results, metric)["mAP"] == pytest.approx(1)


def case(*objects: tuple[list, int], results: list[tuple[list, float]]) -> tuple[dict, list[dict]]:
    """Builds ground truth and results of one class in one image."""
    truth = {
        "images": [{"id": 1}],
        "categories": [{"id": 5, "name": "cow"}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 5, "bbox": box, "ignore": ignored}
            for i, (box, ignored) in enumerate(objects)
        ],
    }
    return truth, [{"image_id": 1, "category_id": 5, "bbox": box, "score": score} for box, score in results]


def test_by_hand():
    """A true, a false and a true positive for two objects: precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1."""
    a, b, nowhere = [0, 0, 10, 10], [50, 50, 10, 10], [0, 50, 10, 10]
    inputs = case((a, 0), (b, 0), results=[(a, 0.9), (nowhere, 0.8), (b, 0.7)])
    assert voc.evaluate(*inputs, "area")["mAP"] == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert voc.evaluate(*inputs, "07")["mAP"] == pytest.approx((6 + 5 * 2 / 3) / 11)


def test_duplicates_are_false_positives():
    a = [0, 0, 10, 10]
    inputs = case((a, 0), ([50, 50, 10, 10], 0), results=[(a, 0.9), (a, 0.8), ([50, 50, 10, 10], 0.7)])
    assert voc.evaluate(*inputs, "area")["mAP"] == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_a_detection_cannot_match_its_second_best_object():
    """A detection whose best object is taken is false even if it overlaps another object by more than half."""
    inputs = case(([0, 0, 10, 10], 0), ([0, 3, 10, 10], 0), results=[([0, 0, 10, 10], 0.9), ([0, 1, 10, 10], 0.8)])
    assert voc.evaluate(*inputs, "area")["mAP"] == pytest.approx(0.5)


def test_difficult_objects_are_ignored():
    a, hard = [0, 0, 10, 10], [50, 50, 10, 10]
    assert voc.evaluate(*case((a, 0), (hard, 1), results=[(hard, 0.9), (hard, 0.8), (a, 0.7)]))["mAP"] == pytest.approx(
        1
    )
    figures = voc.evaluate(*case((hard, 1), results=[(hard, 0.9)]))
    assert figures == {"mAP": None, "per_class": {"cow": {"AP": None, "objects": 0}}}


def test_an_iou_of_half_is_a_match():
    """The devkit compares with >=, so an IoU of exactly 0.5 is a match."""
    assert voc.evaluate(*case(([0, 0, 10, 10], 0), results=[([0, 0, 10, 5], 0.9)]))["mAP"] == pytest.approx(1)
    assert voc.evaluate(*case(([0, 0, 10, 100], 0), results=[([0, 0, 10, 49], 0.9)]))["mAP"] == 0


def test_a_recall_of_exactly_three_tenths_counts():
    """Recall 3/10 at precision 1 reaches four of the eleven points, 0 to 0.3, in spite of rounding."""
    boxes = [[20 * i, 0, 10, 10] for i in range(10)]
    inputs = case(*((box, 0) for box in boxes), results=[(box, 0.9) for box in boxes[:3]])
    assert voc.evaluate(*inputs)["mAP"] == pytest.approx(4 / 11)


def test_no_results_and_input_files(tmp_path):
    truth, results = make(1)
    assert voc.evaluate(truth, [])["mAP"] == 0
    for name, content in (("t.json", truth), ("r.json", results)):
        (tmp_path / name).write_text(json.dumps(content))
    assert voc.evaluate(tmp_path / "t.json", tmp_path / "r.json") == voc.evaluate(truth, results)


def test_errors_name_the_faulty_input():
    truth, results = make(1)
    with pytest.raises(DataError, match="result 1 has image_id 77"):
        voc.evaluate(truth, [results[0], {**results[1], "image_id": 77}])
    with pytest.raises(ConfigError, match="07 or area"):
        voc.evaluate(truth, results, "12")
