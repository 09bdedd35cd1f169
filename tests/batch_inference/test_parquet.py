"""Tests the rows that `resdet predict --parquet` writes: one per image, including damaged images."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from batch_inference.runs import NAMES, WORDS, classifier, detector, rows, use
from detection.heads import tiny
from narrow import shallow_nets

from resdet.results import parquet

pytestmark = pytest.mark.usefixtures("photos")


def test_rows_match_the_results_of_the_model(tmp_path, command):
    model = detector()
    use(model)
    done = command(*WORDS, "--score", 0.2)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == [
        "_manifest.json",
        *(f"part-{number:06}.parquet" for number in range(3)),
    ]
    found = rows(tmp_path / "out")
    assert [row["image"] for row in found] == [f"photos/{name}" for name in NAMES]
    good = [row for row in found if row["error"] is None]
    for row, result in zip(good, model.predict([tmp_path / row["image"] for row in good], score=0.2)):
        assert (row["height"], row["width"]) == result.size and row["names"] == result.names and len(result)
        assert np.array_equal(np.array(row["boxes"], np.float32), result.boxes)
        assert np.array_equal(np.array(row["scores"], np.float32), result.scores)
        assert row["labels"] == result.labels.tolist() and row["category_ids"] == result.category_ids.tolist()
        assert row["masks"] == result.rles and row["keypoints"] is None
    bad = {row["image"]: row for row in found if row["error"]}
    assert list(bad) == ["photos/4a.jpg", "photos/empty.png"] and "empty file" in bad["photos/empty.png"]["error"]
    assert all(value is None for row in bad.values() for key, value in row.items() if key not in ("image", "error"))
    assert "2 of them unreadable" in done.stdout or done.stdout.count("1 of them unreadable") == 2


def test_rows_of_a_classifier(tmp_path, command):
    model = classifier()
    use(model)
    assert command(*WORDS, "--top", 2).returncode == 0
    for row in rows(tmp_path / "out"):
        if row["error"] is None:
            expected = model.predict(tmp_path / row["image"], top=2)
            assert row["names"] == expected.names and row["labels"] == expected.labels.tolist()
            assert row["scores"] == pytest.approx(expected.scores.tolist(), abs=1e-6)
            assert (row["height"], row["width"]) == cv2.imread(str(tmp_path / row["image"])).shape[:2]
            assert row["boxes"] is None and row["masks"] is None


def test_rows_of_keypoints(tmp_path, command):
    with shallow_nets():
        model = tiny.make("fpn", False, "model.keypoint={width: 8, convs: 1, names: [a, b, c]}").eval()
    use(model)
    assert command(*WORDS, "--score", 0).returncode == 0
    found = [row for row in rows(tmp_path / "out") if row["error"] is None]
    for row, result in zip(found, model.predict([tmp_path / row["image"] for row in found], score=0.0)):
        assert np.array_equal(np.array(row["keypoints"], np.float32), result.keypoints) and len(result)
        assert row["keypoint_names"] == result.keypoint_names


@pytest.mark.parametrize("setting", ["eval.flip=true", "eval.tile=32"])
def test_rows_of_flipped_and_tiled_predictions(tmp_path, command, setting):
    use(detector(masks=False))
    assert command("predict", "--weights", "net.pth", "photos/1.png", setting, "--json", "rows.json").returncode == 0
    assert command(*WORDS, setting).returncode == 0
    (expected,) = json.loads((tmp_path / "rows.json").read_text())
    row = rows(tmp_path / "out")[0]
    assert row["scores"] == [one["score"] for one in expected["detections"]]
    assert row["boxes"] == [one["box"] for one in expected["detections"]]


def test_incomplete_parts_are_not_visible(tmp_path):
    def interrupted():
        yield from ({"image": str(number)} for number in range(parquet.ROWS + 1))
        assert not (tmp_path / "part.parquet").exists()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        parquet.write_rows(tmp_path / "part.parquet", interrupted())
    assert not [*tmp_path.glob("*part*")]


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["7"], "7 is a video or a camera"),
        (["photos.tar.gz"], "photos.tar.gz: no such file or folder"),
        (["none/*.jpg"], "none/*.jpg matches no file"),
        (["--json", "rows.json"], "--json is for few images"),
        (["--part", 0], "--part: 0 is not a whole number of 1 or more"),
        (["--score", 0.5], "omit --score"),
        (["--classes", "cat"], "omit --score, --classes"),
    ],
)
def test_invalid_options_are_rejected(command, words, sentence):
    use(classifier())
    done = command(*WORDS, *words)
    assert done.returncode == 2 and sentence in done.stderr and "Traceback" not in done.stderr


def test_the_documentation_lists_the_columns():
    text = (Path(__file__).parents[2] / "docs/detection.md").read_text(encoding="utf-8")
    for field in parquet.schema():
        kind = str(field.type).replace("item: ", "").replace("<", "\\<")
        assert f"| `{field.name}` | {kind} |" in text
    assert f"version {parquet.VERSION}" in text
