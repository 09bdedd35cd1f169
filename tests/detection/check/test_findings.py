"""The check finds planted faults by kind, image and annotation, and nothing else."""

from collections import Counter

import numpy as np
import pytest
from detection.check import planted
from detection.check.planted import DataSet, check, found

from resdet.detection.check.boxes import copies


def test_crowds_are_not_copies():
    boxes = np.tile([0.0, 0, 10, 10], (4, 1))
    pairs = [copies(np.zeros(4, int), boxes, np.array(crowd)) for crowd in ([True, False, True, False], [True] * 4)]
    assert pairs == [[(1, 3)], []]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    data = DataSet()
    expected = planted.plant_everything(data)
    return check(data.write(tmp_path_factory.mktemp("data") / "set")), expected


def test_a_data_set_without_faults_has_no_findings(tmp_path):
    assert check(DataSet(20, 5).write(tmp_path / "set")).findings == []


def test_each_of_forty_faults_is_found(report):
    result, expected = report
    assert len(expected) >= 40 and len({each.kind for each in expected}) >= 35
    missed = set(map(tuple, expected)) - found(result)
    assert missed == set()


def test_nothing_else_is_found(report):
    result, expected = report
    assert (
        Counter((f.kind, f.split, f.image, f.annotations) for f in result.findings) - Counter(map(tuple, expected))
        == {}
    )
