"""Tests the format of ILSVRC's classification server: five ILSVRC2012_IDs per line."""

import pytest

from resdet.classification.submission import check_classification, write_classification
from resdet.errors import DataError

SYNSETS = [f"n{number:08d}" for number in range(8)]  # sorted, as in the model's outputs
DEVKIT = SYNSETS[::-1]  # ILSVRC2012_ID 1 is the last


def test_class_indices_are_written_as_ids(tmp_path):
    path = tmp_path / "sub.txt"
    write_classification(path, [[0, 1, 2, 3, 4], [7, 6, 5, 4, 3]], SYNSETS, DEVKIT)
    assert path.read_text() == "8 7 6 5 4\n1 2 3 4 5\n"
    check_classification(path, images=2, classes=8)


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("1 2 3 4 5\n", "1 lines for 2 images"),
        ("1 2 3 4 5\n1 2 3 4\n", "line 2"),
        ("1 2 3 4 5\n1 2 3 4 9\n", "line 2"),
        ("0 2 3 4 5\n1 2 3 4 5\n", "line 1"),
        ("1 2 3 4 4\n1 2 3 4 5\n", "line 1"),
        ("1 2 3 4 x\n1 2 3 4 5\n", "line 1"),
    ],
)
def test_invalid_submissions_are_rejected(tmp_path, text, complaint):
    path = tmp_path / "sub.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=complaint):
        check_classification(path, images=2, classes=8)


def test_classes_missing_in_the_devkit_are_rejected(tmp_path):
    with pytest.raises(DataError, match="n99999999"):
        write_classification(tmp_path / "sub.txt", [], ["n99999999"], DEVKIT)
    assert not (tmp_path / "sub.txt").exists()
