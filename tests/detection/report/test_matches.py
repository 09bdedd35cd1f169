"""Tests matches, bootstrapped AP, score curves and counts per image against pycocotools and values computed by hand."""

import json

import coco_scenes
import numpy as np
import pytest

from resdet.detection.evaluation import coco
from resdet.detection.evaluation.results import Results
from resdet.detection.report.bootstrap import average_precisions, overall
from resdet.detection.report.matches import Matches
from resdet.detection.report.score_curves import choose_threshold, score_curves
from resdet.results.differences import interval, resample


def scene(seed):
    """Returns random ground truth with crowds, ties and sparse IDs, and detections."""
    truth, results = coco_scenes.make(seed)
    return truth, Results.from_list(results)


def pycocotools_aps(truth, results, kind="bbox"):
    """Returns AP and AP50 of each class, NaN for classes without objects."""
    rows = coco.evaluate(truth, results, kind, engine="pycocotools")["per_class"].values()
    return np.array([[row["AP"], row["AP50"]] for row in rows], float)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_unweighted_ap_matches_pycocotools(seed, kind):
    truth, results = scene(seed)
    matches = Matches.of(truth, results, kind)
    aps = average_precisions(matches, np.ones((1, len(matches.image_ids)), np.int32))[0]
    expected = pycocotools_aps(truth, results, kind)
    np.testing.assert_allclose(aps.mean(0), expected[:, 0], atol=1e-9)
    np.testing.assert_allclose(aps[0], expected[:, 1], atol=1e-9)
    mean = coco.evaluate(truth, results, kind, engine="pycocotools")["AP"]
    assert overall(aps[None].mean(1))[0] == pytest.approx(mean)


def copied(truth, results, copies):
    """Returns the data set with each image repeated `copies` times under new IDs."""
    images, annotations, detections = [], [], []
    for image, count in zip(sorted(truth["images"], key=lambda image: image["id"]), copies):
        for _ in range(count):
            number = len(images) + 1
            images.append({**image, "id": number})
            for entries, kept in ((truth["annotations"], annotations), (results, detections)):
                kept += [{**entry, "image_id": number} for entry in entries if entry["image_id"] == image["id"]]
    annotations = [{**entry, "id": number} for number, entry in enumerate(annotations, 1)]
    return {**truth, "images": images, "annotations": annotations}, detections


@pytest.mark.parametrize("seed", range(6))
def test_resampled_ap_matches_pycocotools_on_copied_images(seed):
    truth, results = coco_scenes.make(seed)
    for entry, score in zip(results, np.random.default_rng(seed).permutation(len(results))):
        entry["score"] = (1 + score) / (1 + len(results))  # no ties, whose order depends on the IDs of the copies
    matches = Matches.of(truth, Results.from_list(results))
    copies = resample(len(matches.image_ids), 2, seed)
    for drawn, aps in zip(copies, average_precisions(matches, copies)):
        expected = pycocotools_aps(*copied(truth, results, drawn))
        np.testing.assert_allclose(aps.mean(0), expected[:, 0], atol=1e-9)
        np.testing.assert_allclose(aps[0], expected[:, 1], atol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_matches_are_consistent_with_the_results(seed):
    truth, results = scene(seed)
    matches = Matches.of(truth, results)
    category_ids = np.array(sorted(entry["id"] for entry in truth["categories"]))
    np.testing.assert_array_equal(results.scores[matches.rows], matches.scores)
    np.testing.assert_array_equal(results.category_ids[matches.rows], category_ids[matches.labels])
    np.testing.assert_array_equal(results.image_ids[matches.rows], matches.image_ids[matches.images])
    assert (np.diff(matches.scores) <= 0).all()
    matched = matches.partners >= 0
    assert matched.any() and (matched == (matches.hit[0] | (matches.ignored[0] & matched))).all()
    np.testing.assert_array_equal(matches.object_images[matches.partners[matched]], matches.images[matched])
    np.testing.assert_array_equal(matches.object_labels[matches.partners[matched]], matches.labels[matched])
    assert matches.totals().sum() == sum(not entry["iscrowd"] for entry in truth["annotations"])


BOX = [0, 0, 10, 10]


def truth_of(*annotations):
    """Returns images 1 and 2 of 100 x 100 with these annotations of the classes 3 (cat) and 7 (dog)."""
    return {
        "images": [{"id": number, "width": 100, "height": 100} for number in (1, 2)],
        "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}],
        "annotations": [
            {"id": number, "image_id": image, "category_id": category, "bbox": box, "area": 100, "iscrowd": 0}
            for number, (image, category, box) in enumerate(annotations, 1)
        ],
    }


def detected(*rows):
    return Results.from_list(
        [{"image_id": image, "category_id": kind, "bbox": box, "score": score} for image, kind, box, score in rows]
    )


def test_counts_of_images_by_hand():
    truth = truth_of((1, 3, BOX), (1, 7, [50, 50, 10, 10]), (2, 3, BOX))
    found = detected((1, 3, BOX, 0.9), (1, 3, BOX, 0.8), (1, 7, [50, 50, 10, 10], 0.3), (2, 7, BOX, 0.7))
    matches = Matches.of(truth, found)
    assert matches.image_counts(0.5).tolist() == [[1, 1, 1], [0, 1, 1]]
    assert matches.image_counts(0.2).tolist() == [[2, 1, 0], [0, 1, 1]]
    assert matches.image_counts(0.85).tolist() == [[1, 0, 1], [0, 0, 1]]
    assert matches.image_counts(0.9).tolist() == [[1, 0, 1], [0, 0, 1]]
    assert matches.matched(0.5).sum() == matches.matched(0.9).sum() == 1 and matches.matched(0.2).sum() == 2
    assert matches.presence().tolist() == [[True, True], [True, False]]
    truth["annotations"][2]["iscrowd"] = 1  # neither missed nor found
    crowded = Matches.of(truth, detected((2, 3, [0, 0, 5, 5], 0.9)))
    assert crowded.image_counts(0.5).tolist() == [[0, 0, 2], [0, 0, 0]]
    assert crowded.presence().tolist() == [[True, False], [True, False]]
    assert Matches.of(truth, detected((1, 3, BOX, 0.9))).image_counts(0.5).tolist() == [[1, 0, 1], [0, 0, 0]]


def test_curves_and_threshold_by_hand():
    curves = score_curves(np.array([0.9, 0.8, 0.8, 0.5]), np.array([True, True, False, True]), total=4)
    assert curves.scores.tolist() == [0.9, 0.8, 0.5]  # equal scores are kept or dropped together
    assert curves.precision.tolist() == [1, 2 / 3, 3 / 4]
    assert curves.recall.tolist() == [1 / 4, 2 / 4, 3 / 4]
    assert curves.f1.tolist() == [2 / 5, 4 / 7, 6 / 8]
    assert choose_threshold(curves).score == 0.5
    assert choose_threshold(curves, 0.9).score == 0.9
    assert choose_threshold(curves, 0.7).recall == 3 / 4
    falling = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3])
    more = score_curves(falling, np.array([True, True, True, False, False, False, True]), total=4)
    assert choose_threshold(more).score == 0.7 and choose_threshold(more, 0.5).score == 0.3  # F1 6/7; recall 1
    assert choose_threshold(score_curves(np.array([0.9]), np.array([False]), 4)) is None
    assert choose_threshold(score_curves(np.zeros(0), np.zeros(0, bool), 4)) is None


def one_object_per_image(hits, rng):
    """Returns matches of one object and one detection per image; correct ones have the highest scores, so that AP
    equals their fraction, up to the discretization into 101 recalls."""
    count = len(hits)
    scores = rng.random(count) + hits
    order = np.argsort(-scores)
    everywhere = np.arange(count)
    return Matches(
        classes=["thing"],
        image_ids=everywhere,
        ious=np.array([0.5]),
        rows=order,
        scores=scores[order],
        labels=np.zeros(count, int),
        images=order,
        hit=hits[order][None],
        ignored=np.zeros((1, count), bool),
        partners=np.where(hits, everywhere, -1)[order],
        object_labels=np.zeros(count, int),
        object_images=everywhere,
        counted=np.ones(count, bool),
    )


@pytest.mark.parametrize("first, second, shared", [(0.6, 0.5, 0.4), (0.3, 0.3, 0.2)])
def test_intervals_cover_the_true_difference(first, second, shared):
    """Simulates runs that detect an object with these probabilities, both with `shared`; the difference is known."""
    rng = np.random.default_rng(0)
    trials, images, covered, exact = 300, 150, 0, first - second
    for trial in range(trials):
        draw = rng.random(images)
        one = draw < first
        both = draw < shared
        other = both | ((draw >= first) & (draw < first + second - shared))
        copies = resample(images, 200, trial)[1:]
        differences = [average_precisions(one_object_per_image(hits, rng), copies)[:, 0, 0] for hits in (one, other)]
        low, high = interval(differences[0] - differences[1])
        covered += low <= exact <= high
    assert 0.9 < covered / trials < 0.99  # 0.95, four standard deviations of 300 trials, and the bias of the bootstrap


def test_annotation_ids_may_start_at_zero(tmp_path):
    truth = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 50, "height": 50}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [
            {"id": k, "image_id": 1, "category_id": 1, "bbox": [20 * k, 0, 10, 10], "area": 100, "iscrowd": 0}
            for k in range(2)
        ],
    }
    results = Results.from_list(
        [
            {"image_id": 1, "category_id": 1, "bbox": entry["bbox"], "score": 0.9 - 0.1 * entry["id"]}
            for entry in truth["annotations"]
        ]
    )
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    matches = Matches.of(tmp_path / "truth.json", results)
    assert matches.hit.all() and matches.partners.tolist() == [0, 1]
