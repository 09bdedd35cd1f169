"""Tests the comparison of class names of a model with those of data."""

import pytest

from resdet.data.class_names import check_names, match_classes
from resdet.errors import ConfigError

MODEL = {1: "circle", 2: "triangle", 5: "star"}


@pytest.mark.parametrize("data", [MODEL, {5: "star"}, {}])
def test_equal_names_need_no_note(data):
    assert check_names(MODEL, data) is None


@pytest.mark.parametrize("data", [{1: "star"}, {1: "triangle", 2: "circle"}, {1: "circle", 2: "star", 5: "dot"}])
def test_names_under_other_numbers_are_refused(data):
    with pytest.raises(ConfigError, match=r"^Class \d is \w+ in the data and \w+ in the model, in which \w+ is class"):
        check_names(MODEL, data)


def test_other_names_give_a_note():
    note = check_names(MODEL, {1: "disk", 2: "triangle", 5: "sun"})
    assert note.startswith("2 of 3 classes have other names in the data than in the model, such as disk and circle;")


@pytest.mark.parametrize(
    "model, data, labels",
    [
        (["ant", "bee", "cow"], ["cow", "ant"], [2, 0]),
        (["ant", "bee"], ["ant", "dog"], [0, 1]),
        (["ant", "ant"], ["ant", "ant"], [0, 1]),
        (["ant", "bee"], ["ant", "ant"], None),
        (["ant", "ant", "bee"], ["ant", "bee"], None),
    ],
)
def test_only_single_names_are_matched_by_name(model, data, labels):
    if labels is None:
        with pytest.raises(ConfigError, match="^The model has 3 classes|^Class 1 is ant in the data"):
            match_classes("The model", model, data)
    else:
        assert match_classes("The model", model, data)[0] == labels
