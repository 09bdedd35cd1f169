"""Tests differences of errors between runs by hand, and their intervals against the normal approximation."""

import numpy as np
import pytest

from resdet.results.differences import RESAMPLES, interval, most, resample, room, row
from resdet.results.error_differences import Errors, agreement_table, difference_table, means

RIGHT, WRONG = False, True


def pair(first, other, kinds=("error",)):
    return [Errors(name, dict.fromkeys(kinds, np.array(wrong))) for name, wrong in (("a", first), ("b", other))]


def rows_of(table):
    return {(row[0], row[1]): dict(zip(table.columns, row)) for row in table.rows}


def test_means_match_the_resampled_images():
    wrong, copies = np.array([True, False, True]), np.array([[1, 1, 1], [0, 2, 1], [3, 0, 0], [0, 0, 0]], np.int32)
    drawn = [np.repeat(wrong, row) for row in copies]
    found = means(wrong, copies)
    assert found[:3].tolist() == pytest.approx([own.mean() for own in drawn[:3]]) and np.isnan(found[3])


def test_differences_by_hand():
    labels = np.array([0] * 40 + [1] * 40)
    first = np.array([WRONG] * 40 + [RIGHT] * 20 + [WRONG] * 20)
    other = np.array([RIGHT] * 40 + [WRONG] * 20 + [RIGHT] * 20)
    table = difference_table(*pair(first, other), labels, ["cat", "dog", "owl"], 2)
    rows = rows_of(table)
    cat, dog, owl, every = (rows[name, "error"] for name in ("cat", "dog", "owl", "all classes"))
    assert (cat["first"], cat["this"], cat["difference"]) == (1, 0, -1) and cat["verdict"] == "better"
    assert (cat["low"], cat["high"]) == (-1, -1)
    assert (dog["first"], dog["this"], dog["verdict"]) == (0.5, 0.5, "noise") and dog["low"] < 0 < dog["high"]
    assert owl["verdict"] == "no images" and owl["first"] is None
    assert every["difference"] == -0.5 and every["verdict"] == "better"
    worse = rows_of(difference_table(*pair(other, first), labels, ["cat", "dog", "owl"], 2))
    assert worse["cat", "error"]["verdict"] == "worse"
    assert agreement_table(*pair(first, other), 3).rows == [
        ("both", 0, 0),
        ("only a", 20, 0.25),
        ("only b", 60, 0.75),
        ("none", 0, 0),
    ]


def test_the_agreement_table_counts_each_image_once():
    rows = agreement_table(*pair([RIGHT, RIGHT, WRONG, WRONG] * 2, [RIGHT, WRONG, RIGHT, WRONG] * 2), 2).rows
    assert rows == [("both", 2, 0.25), ("only a", 2, 0.25), ("only b", 2, 0.25), ("none", 2, 0.25)]


def test_classes_are_compared_by_the_first_metric():
    a, b = pair([WRONG, RIGHT], [RIGHT, RIGHT], ("top-1 error", "top-5 error"))
    names = [row[:2] for row in difference_table(a, b, np.array([0, 0]), ["cat"], 2).rows]
    assert names == [["all classes", "top-1 error"], ["all classes", "top-5 error"], ["cat", "top-1 error"]]


@pytest.mark.parametrize("seed", range(5))
def test_intervals_match_the_normal_approximation(seed):
    """Compares with mean ± 1.96 standard errors; with 200 resamples, the limits vary by about 0.15 standard errors."""
    rng = np.random.default_rng(seed)
    draw = rng.random((2, 2000))
    first, other = draw[0] < 0.3, (draw[0] < 0.2) | (draw[1] < 0.1)
    found = rows_of(difference_table(*pair(first, other), np.zeros(2000, int), ["cat"], 2))["all classes", "error"]
    change = other.astype(float) - first
    deviation = change.std() / np.sqrt(2000)
    assert found["difference"] == pytest.approx(change.mean())
    expected = change.mean() + 1.96 * deviation * np.array([-1, 1])
    np.testing.assert_allclose([found["low"], found["high"]], expected, atol=0.75 * deviation)


def test_both_runs_have_the_same_resamples():
    """Checks that the difference of a run from itself is exactly 0."""
    wrong = np.random.default_rng(0).random(50) < 0.5
    rows = difference_table(*pair(wrong, wrong), np.arange(50) % 2, ["cat", "dog"], 2).rows
    assert all(row[4:] == [0, 0, 0, "noise"] for row in rows)


def test_resampling_and_selection_helpers():
    assert resample(7).shape == (1 + RESAMPLES, 7) and (resample(7).sum(1) == 7).all() and (resample(7)[0] == 1).all()
    assert interval(np.arange(101.0)) == pytest.approx((2.5, 97.5))
    assert interval(np.full(3, np.nan)) is None and interval(np.array([np.nan, 2.0])) == (2, 2)
    above = row(
        "x", "AP", np.zeros(4), np.array([9.0, 1, 1, 1]), 1, "", 6
    )  # the interval is that of the resamples alone
    assert above[4:] == [9, 1, 1, "better"]
    assert most(np.array([0, 3, 1, 3, 0]), 2) == [1, 3] and most(np.array([0, 0, 5]), 2) == [2]
    assert [room(others) for others in (1, 2, 6, 50)] == [6, 6, 2, 1]
    first, other = np.array([0.2, 0.1, 0.2]), np.array([0.4, 0.4, 0.4])
    assert [row("x", "AP", first, other, best, "", 6)[-1] for best in (1, -1)] == ["better", "worse"]


def test_a_class_of_few_images_has_no_verdict():
    """Compares classes of 6, 5 and 1 images, all wrong in one run and right in the other, and one without a change."""
    labels = np.array([0] * 6 + [1] * 5 + [2] + [3])
    first, other = pair([WRONG] * 12 + [RIGHT], [RIGHT] * 13)
    rows = difference_table(first, other, labels, ["six", "five", "one", "same"], 2).rows
    assert [row[-1] for row in rows] == ["better", "better", "few images", "few images", "noise"]
