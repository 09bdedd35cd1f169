"""Tests ILSVRC's localization error on ten images computed by hand, and its submission files."""

import numpy as np
import pytest
from scipy.io import savemat

from resdet.errors import DataError
from resdet.localization import loc_error
from resdet.localization.data import shape_loc
from resdet.localization.data.ilsvrc_loc import LocalizedImages, open_ilsvrc_loc

A, B = [0, 0, 10, 10], [100, 100, 120, 120]
HALF, LESS = [0, 0, 10, 5], [0, 0, 10, 4.9]  # IoU with A: 0.5, and slightly less
FAR = [50, 50, 60, 60]

# The image's class, its boxes, and the guesses (class, box); then whether the first guess is right, whether any guess
# is right, and whether any guess has the class.
CASES = [
    (1, [A], [(1, A), (2, A)], True, True, True),
    (1, [A], [(2, A), (1, A)], False, True, True),
    (1, [A], [(2, A), (3, A)], False, False, False),
    (1, [A], [(1, HALF), (2, A)], True, True, True),
    (1, [A], [(1, LESS), (2, A)], False, False, True),
    (1, [A, B], [(1, B), (2, A)], True, True, True),  # any instance matches
    (4, [A, B], [(4, FAR), (1, A)], False, False, True),  # the right box with another class
    (4, [B], [(5, B), (4, [100, 100, 120, 110])], False, True, True),
    (0, [B], [(0, [95, 95, 125, 125]), (4, B)], False, False, True),  # IoU of 400 / 900
    (0, [A, B, FAR], [(0, [50, 50, 70, 60]), (4, B)], True, True, True),  # half of the guess lies outside
]


def test_ten_images_by_hand():
    labels, boxes, guesses, first, right, named = zip(*CASES)
    truth = (np.array(labels), [np.array(own, float) for own in boxes])
    classes, places = (np.array([[pair[k] for pair in own] for own in guesses]) for k in (0, 1))
    figures = loc_error.evaluate_loc(truth, (classes, places))
    assert figures["images"] == 10
    assert figures["per_guess"] == pytest.approx([1 - sum(first) / 10, 1 - sum(right) / 10])
    assert figures["per_guess"] == pytest.approx([0.6, 0.4])
    assert figures["loc_error"] == pytest.approx(0.4)
    assert figures["class_error"] == pytest.approx(1 - sum(named) / 10)


def test_error_with_the_ground_truth_class():
    labels = np.arange(4)
    truth = (labels, [np.array([A])] * 4)
    places = np.array([[A], [HALF], [LESS], [FAR]], float)
    assert loc_error.evaluate_loc(truth, (labels[:, None], places))["loc_error"] == 0.5


def test_boxes_without_area_are_wrong():
    truth = (np.zeros(2, int), [np.array([[5, 5, 5, 5]], float), np.zeros((0, 4))])
    places = np.array([[[5, 5, 5, 5]], [A]], float)
    assert loc_error.evaluate_loc(truth, (np.zeros((2, 1), int), places))["loc_error"] == 1


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Writes generated data with a development kit whose ILSVRC2012_ID 1 is the last synset."""
    folder = tmp_path_factory.mktemp("loc") / "data"
    shape_loc.write(folder, 10, 12, 48, 0)
    kit = folder / "ILSVRC2012_devkit_t12/data"
    kit.mkdir(parents=True)
    fields = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    rows = [(float(i), synset, synset, 0.0) for i, synset in enumerate(reversed(shape_loc.SYNSETS), 1)]
    savemat(kit / "meta.mat", {"synsets": np.array(rows, fields).reshape(-1, 1)})
    truth = "".join(f"{10 - index % 10}\n" for index in range(12))
    (kit / "ILSVRC2012_validation_ground_truth.txt").write_text(truth)
    return folder


def perfect(source):
    """Returns five classes per image, including the true one at varying rank, each with the first true box."""
    labels = np.array([[(own + k - i) % 10 for k in range(5)] for i, own in enumerate(source.labels.tolist())])
    for row, own in zip(labels, source.labels):
        if own not in row:
            row[0] = own
    return labels, np.stack([np.tile(source.boxes(i)[:1], (5, 1)) for i in range(len(source))])


def test_a_submission_is_evaluated_from_files(root, tmp_path):
    source = open_ilsvrc_loc(root, "val")
    labels, boxes = perfect(source)
    devkit = shape_loc.SYNSETS[::-1]
    loc_error.write_localization(tmp_path / "sub.txt", labels, boxes, source.classes, devkit)
    assert loc_error.evaluate_loc(root, tmp_path / "sub.txt")["loc_error"] == 0
    _, (found_labels, found_boxes) = loc_error.read_files(root, tmp_path / "sub.txt")
    assert (found_labels == labels).all() and (found_boxes == boxes).all()

    first = (tmp_path / "sub.txt").read_text().splitlines()[0].split()
    x1, y1, x2, y2 = source.boxes(0)[0].astype(int).tolist()
    assert first[:5] == [str(10 - labels[0, 0]), str(x1), str(y1), str(x2 - 1), str(y2 - 1)]

    boxes[3] = 0  # two images become wrong: one in its box, one in its class
    labels[4] = (source.labels[4] + np.arange(1, 6)) % 10
    loc_error.write_localization(tmp_path / "sub.txt", labels, boxes, source.classes, devkit)
    figures = loc_error.evaluate_loc(root, tmp_path / "sub.txt")
    assert figures["loc_error"] == pytest.approx(2 / 12) and figures["class_error"] == pytest.approx(1 / 12)

    lines = [line.split() for line in (tmp_path / "sub.txt").read_text().splitlines()]
    place = int(np.flatnonzero(labels[0] == source.labels[0])[0])
    lines[0] = lines[0][5 * place : 5 * place + 5]  # only the right guess
    lines[1] = lines[1][:5] * 2  # one guess twice
    (tmp_path / "sub.txt").write_text("".join(f"{' '.join(line)}\n" for line in lines))
    wrong = labels[1, 0] != source.labels[1]
    found = loc_error.evaluate_loc(root, tmp_path / "sub.txt")
    assert found["loc_error"] == pytest.approx((2 + wrong) / 12)
    assert found["class_error"] == pytest.approx((1 + wrong) / 12)


class Named:
    """Uses images that are not sorted by name."""

    names, labels, classes = ["c.JPEG", "a.JPEG", "b.JPEG"], np.array([0, 5, 1]), shape_loc.SYNSETS
    name = names.__getitem__

    def __len__(self):
        return len(self.names)


@pytest.mark.parametrize("guess, error", [("10 0 0 9 9", 0), ("2 0 0 9 9", 0.5)])
def test_lines_are_in_the_order_of_the_names(root, tmp_path, monkeypatch, guess, error):
    """The first image has no boxes, and those of the others differ; missing guesses have no class."""
    corners = np.array([[0, 0, 10, 10], [20, 20, 40, 40]])
    source = LocalizedImages(Named(), np.array([0, 2]), np.full((2, 2), 50), np.arange(3), corners, [])
    monkeypatch.setattr(loc_error, "open_ilsvrc_loc", lambda *given: source)
    (tmp_path / "sub.txt").write_text(f"5 0 0 9 9\n9 20 20 39 39\n{guess}\n")
    figures = loc_error.evaluate_loc(root, tmp_path / "sub.txt")
    assert figures["loc_error"] == figures["class_error"] == error


def test_corners_are_rounded_to_pixels(tmp_path):
    boxes = np.array([[[0.4, 0.6, 9.6, 10.4], [3, 4, 3.2, 4.2]]])
    loc_error.write_localization(tmp_path / "sub.txt", np.array([[0, 1]]), boxes, ["a", "b"], ["a", "b"])
    assert (tmp_path / "sub.txt").read_text() == "1 0 1 9 9 2 3 4 3 4\n"


ROW = " ".join(f"{k} 0 0 10 10" for k in range(1, 6))
BAD = {
    "1 lines for 2 images": f"{ROW}\n",
    "line 2: 24 numbers instead of five for each": f"{ROW}\n{ROW[:-3]}\n",
    "line 2: .* has fields that are not numbers": f"{ROW}\n{ROW.replace('10', 'x', 1)}\n",
    "line 1: 30 numbers": f"{ROW} {ROW[:10]}\n{ROW}\n",
    "line 2: 0 numbers": f"{ROW}\n\n",
    "line 1: the classes": f"{ROW.replace('5 0', '4.5 0')}\n{ROW}\n",
    "line 2: the classes": f"{ROW}\n{ROW.replace('5 0', '1001 0')}\n",
    "line 1: the classes are not whole": f"{ROW.replace('5 0', '0 0')}\n{ROW}\n",
    "line 2: a box violates 0": f"{ROW}\n{ROW.replace('5 0', '5 -1')}\n",
    "line 1: a box violates": f"{ROW.replace('10 10', '10 -1', 1)}\n{ROW}\n",
    "line 2: a box": f"{ROW}\n{ROW.replace('1 0 0', '1 11 0', 1)}\n",
    "cannot read the submission": None,
}


@pytest.mark.parametrize("complaint", BAD)
def test_invalid_submissions_are_rejected(tmp_path, complaint):
    if BAD[complaint] is not None:
        (tmp_path / "sub.txt").write_text(BAD[complaint])
    with pytest.raises(DataError, match=complaint):
        loc_error.check_localization(tmp_path / "sub.txt", images=2)


def test_submissions_of_fewer_guesses_are_accepted(tmp_path):
    """Checks one to five guesses per image, of arbitrary classes."""
    (tmp_path / "sub.txt").write_text(f"{ROW.replace('5 0', '4 0')}\n7 0 0 10 10\n")
    loc_error.check_localization(tmp_path / "sub.txt", images=2)


def test_classes_missing_in_the_devkit_are_rejected(tmp_path):
    with pytest.raises(DataError, match="n99999999"):
        loc_error.write_localization(
            tmp_path / "sub.txt", np.zeros((0, 5), int), np.zeros((0, 5, 4)), ["n99999999"], []
        )
