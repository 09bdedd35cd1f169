"""Tests TIDE's error types and doubtful labels on cases with a known AP50."""

import pytest
from detection.report.test_matches import BOX, detected, truth_of

from resdet.detection.evaluation import coco
from resdet.detection.report.doubts import MISSING, OTHER, label_doubts

CAT, DOG = 3, 7
FAR, SHIFTED, POOR = [60, 60, 10, 10], [0, 0, 10, 8], [0, 0, 10, 3]  # IoU with BOX: 0, 0.8, 0.3
HALF = 50 / 101  # the share of the 101 recall thresholds above one half

TYPES = {
    # A cat is detected as a dog, with a higher score than the true dog: correction raises dogs by 1/2 and cats by 1.
    "Cls": ([(1, CAT, BOX), (1, DOG, FAR)], [(1, DOG, BOX, 0.9), (1, DOG, FAR, 0.5)], 0.75),
    "Loc": ([(1, CAT, BOX)], [(1, CAT, POOR, 0.9)], 1),
    # Correction removes the false dog, which raises dogs from 1/2 to 1; the cat is still missed.
    "Both": ([(1, CAT, BOX), (1, DOG, FAR)], [(1, DOG, POOR, 0.9), (1, DOG, FAR, 0.5)], 0.25),
    # Correction raises the precision from 2/3 to 1 at recalls above 1/2.
    "Dupe": (
        [(1, CAT, BOX), (2, CAT, BOX)],
        [(1, CAT, BOX, 0.9), (1, CAT, SHIFTED, 0.8), (2, CAT, BOX, 0.7)],
        HALF / 3,
    ),
    "Bkg": ([(1, CAT, BOX)], [(1, CAT, FAR, 0.9), (1, CAT, BOX, 0.5)], 0.5),
    "Miss": ([(1, CAT, BOX), (2, CAT, BOX)], [(1, CAT, BOX, 0.9)], HALF),
}


@pytest.mark.parametrize("kind", TYPES)
def test_the_cost_of_an_error_is_the_gain_of_its_correction(kind):
    annotations, found, cost = TYPES[kind]
    errors = coco.tide(truth_of(*annotations), detected(*found))
    assert errors["cost"][kind] == pytest.approx(cost)
    others = {name for name, count in errors["counts"].items() if count and name != kind}
    assert errors["counts"][kind] == 1 and others <= {"Miss"}  # the object of a wrong detection may also be missed


def doubts(annotations, found, score=0.5):
    truth, results = truth_of(*annotations), detected(*found)
    kinds = [(doubt.kind, results.scores[doubt.row], doubt.object) for doubt in label_doubts(truth, results, score)]
    return [(kind, score, entry and entry["category_id"]) for kind, score, entry in kinds]


def test_a_detection_without_an_object_suggests_a_missing_label():
    assert doubts([(1, CAT, BOX)], [(1, CAT, FAR, 0.9), (2, DOG, BOX, 0.7), (2, DOG, FAR, 0.4)]) == [
        (MISSING, 0.9, None),
        (MISSING, 0.7, None),
    ]


def test_a_detection_of_another_class_makes_the_label_doubtful():
    assert doubts([(1, CAT, BOX)], [(1, DOG, BOX, 0.9)]) == [(OTHER, 0.9, CAT)]


@pytest.mark.parametrize(
    "annotations, found",
    [
        ([(1, CAT, BOX)], [(1, CAT, BOX, 0.9), (1, DOG, BOX, 0.8)]),  # the correct class has the higher score
        ([(1, CAT, BOX), (1, DOG, SHIFTED)], [(1, DOG, BOX, 0.9)]),  # matches an object of its class
        ([(1, CAT, BOX)], [(1, CAT, POOR, 0.9)]),  # IoU too low
        ([(1, CAT, BOX)], [(1, DOG, POOR, 0.9)]),
        ([(1, CAT, BOX)], []),
    ],
)
def test_labels_without_doubts(annotations, found):
    assert doubts(annotations, found) == []


def test_a_correct_detection_settles_only_objects_of_its_class():
    dog, between = [6, 0, 10, 10], [3, 0, 10, 10]  # `between` has an IoU of 0.54 with both objects
    objects = [(1, CAT, BOX), (1, DOG, dog)]
    assert doubts(objects, [(1, CAT, between, 0.9), (1, CAT, dog, 0.8)]) == [(OTHER, 0.8, DOG)]


def test_an_object_is_listed_once():
    assert doubts([(1, CAT, BOX)], [(1, DOG, BOX, 0.9), (1, DOG, SHIFTED, 0.8)]) == [(OTHER, 0.9, CAT)]


def test_crowds_are_ignored():
    truth = truth_of((1, CAT, [0, 0, 50, 50]))
    truth["annotations"][0]["iscrowd"] = 1
    assert label_doubts(truth, detected((1, DOG, BOX, 0.9)), 0.5) == []
