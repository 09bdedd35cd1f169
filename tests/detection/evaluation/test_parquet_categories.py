"""Tests how the classes of a folder of results are matched to the annotations', and what the command prints."""

import pytest

from resdet.detection.evaluation.parquet_categories import notes_on, paired


@pytest.mark.parametrize(
    "detected, annotated, pairs",
    [
        ({1: "cat"}, {1: "cat", 2: "dog"}, None),
        ({1: "cat", 2: "dog"}, {1: "cat", 2: "canine"}, None),
        ({1: "cat", 2: "dog"}, {1: "canine", 2: "cat"}, {1: 2}),
        ({1: "cat", 9: "hen"}, {1: "cat"}, {1: 1}),
        ({1: "cat"}, {2: "dog"}, None),
        ({1: "mouse"}, {1: "mouse", 2: "mouse"}, None),
        ({1: "mouse", 2: "mouse"}, {2: "mouse"}, None),
    ],
)
def test_classes_are_paired_by_name_where_ids_differ(detected, annotated, pairs):
    assert paired(detected, annotated) == pairs


def test_notes_name_other_names_ids_and_at_most_five_absent_classes():
    names = {1: "cat", **{number: f"class {number}" for number in range(2, 8)}}
    assert notes_on(None, names, {1: "cat"}, "out") == []
    assert notes_on(None, names, {1: "cat", 2: "dog"}, "out") == [
        "classes are matched by category id: 2 is dog in the annotations and class 2 in out"
    ]
    moved, absent = notes_on({1: 5}, names, {5: "cat"}, "out")
    assert moved == "classes are matched by name: cat has category id 5 in the annotations and 1 in out"
    assert absent == (
        "6 classes of out are not in the annotations and not evaluated: class 2, class 3, class 4, class 5, class 6, …"
    )
    assert notes_on({1: 1}, {1: "cat", 2: "dog"}, {1: "cat"}, "out") == [
        "1 class of out is not in the annotations and not evaluated: dog"
    ]
