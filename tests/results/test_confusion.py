"""Tests confusion matrices by hand."""

import numpy as np

from resdet.results.confusion import LARGEST, confusion_parts


def test_confusion_matrix_and_table_by_hand():
    names = ["a", "b"]
    matrix, table = confusion_parts([*names, "background"], [*names, "missed"], [[5, 2, 1], [0, 4, 3], [7, 0, 0]])
    assert matrix.counts[2] == [7, 0, 0]
    assert table.rows == [("background", "a", 7), ("b", "missed", 3), ("a", "b", 2), ("a", "missed", 1)]
    many = [str(number) for number in range(LARGEST + 1)]
    assert len(confusion_parts(many, many, np.eye(len(many), dtype=int).tolist())) == 1
