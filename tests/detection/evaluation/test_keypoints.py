"""Keypoint AP compared with pycocotools on annotation and result files."""

import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from resdet.commands.evaluate_results import evaluate_results
from resdet.detection.evaluation import coco
from resdet.detection.evaluation.results import Results
from resdet.errors import ConfigError, DataError
from resdet.weights import coco_keypoints


def make(count: int, keypoints: int = 17, noise: float = 3.0) -> tuple[dict, list[dict]]:
    """Makes persons of all sizes, some of them crowds or without keypoints, with detections near and far from them."""
    rng = np.random.default_rng(0)
    images = [{"id": i + 1, "file_name": f"{i}.jpg", "width": 640, "height": 480} for i in range(count)]
    names = [f"part{number}" for number in range(keypoints)]
    annotations, results = [], []
    for image in images:
        for _ in range(rng.integers(0, 5)):
            corner, sides = rng.uniform(0, 300, 2), rng.uniform(20, 180, 2)
            points = np.concatenate(
                [corner + sides * rng.random((keypoints, 2)), np.full((keypoints, 1), 2)], 1
            ).round()
            points[rng.random(keypoints) < (1 if rng.random() < 0.1 else 0.3)] = 0
            entry = {"id": len(annotations) + 1, "image_id": image["id"], "category_id": 1}
            entry |= {"bbox": [*corner, *sides], "area": sides.prod() * 0.6, "iscrowd": int(rng.random() < 0.05)}
            entry |= {"keypoints": points.flatten().tolist(), "num_keypoints": int((points[:, 2] > 0).sum())}
            annotations.append(entry)
            found = corner + sides * rng.random((keypoints, 2)) if rng.random() < 0.2 else points[:, :2]
            found = np.concatenate([found + rng.normal(0, noise, (keypoints, 2)), np.ones((keypoints, 1))], 1)
            results.append({"image_id": image["id"], "category_id": 1, "score": rng.random()})
            results[-1]["keypoints"] = found.flatten().tolist()
    categories = [{"id": 1, "name": "person", "keypoints": names, "skeleton": []}]
    return {"images": images, "categories": categories, "annotations": annotations}, results


def theirs(tmp_path, truth: dict, results: list[dict], sigmas=None) -> dict[str, float]:
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    with contextlib.redirect_stdout(io.StringIO()):
        annotations = COCO(str(tmp_path / "truth.json"))
        evaluator = COCOeval(annotations, annotations.loadRes(json.loads(json.dumps(results))), "keypoints")
        if sigmas is not None:
            evaluator.params.kpt_oks_sigmas = np.array(sigmas)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    names = ("AP", "AP50", "AP75", "APm", "APl", "AR20", "AR50", "AR75", "ARm", "ARl")
    return dict(zip(names, evaluator.stats.tolist()))


def test_metrics_equal_pycocotools(tmp_path):
    truth, results = make(40)
    expected = theirs(tmp_path, truth, results)
    found = coco.evaluate(truth, results, "keypoints")
    assert 0.1 < expected["AP"] < 0.9
    assert set(found) == {"AP", "AP50", "AP75", "APm", "APl", "AR20", "ARm", "ARl", "per_class"}
    assert {name: found[name] for name in found if name != "per_class"} == pytest.approx(
        {name: expected[name] for name in found if name != "per_class"}, abs=1e-12
    )


@pytest.mark.parametrize("sigmas", [[0.05, 0.1, 0.02, 0.07], [0.2] * 4])
def test_other_keypoints_and_sigmas(tmp_path, sigmas):
    truth, results = make(30, keypoints=4)
    expected = theirs(tmp_path, truth, results, sigmas)
    assert coco.evaluate(truth, results, "keypoints", sigmas=sigmas)["AP"] == pytest.approx(expected["AP"], abs=1e-12)
    mean = theirs(tmp_path, truth, results, [np.mean(coco_keypoints.SIGMAS)] * 4)
    assert coco.evaluate(truth, results, "keypoints")["AP"] == pytest.approx(mean["AP"], abs=1e-12)


def test_sigmas_equal_pycocotools():
    np.testing.assert_allclose(coco_keypoints.SIGMAS, COCOeval(iouType="keypoints").params.kpt_oks_sigmas)


def test_results_through_columns_and_files(tmp_path):
    """Results with keypoint scores keep the same AP when they are saved, read, filtered and concatenated."""
    truth, results = make(20)
    expected = coco.evaluate(truth, results, "keypoints")
    columns = Results.from_list(results)
    assert columns.keypoints.shape[1:] == (17, 3)
    columns.keypoints[..., 2] = 7.5
    columns.save(tmp_path / "results.json")
    again = Results.read(tmp_path / "results.json")
    np.testing.assert_allclose(again.keypoints, columns.keypoints)
    written = json.loads((tmp_path / "results.json").read_text())
    assert (
        written[0]["keypoints"] == pytest.approx(results[0]["keypoints"]) and written[0]["keypoints"][2::3] == [1] * 17
    )
    half = np.arange(len(again)) % 2 == 0
    joined = Results.concatenate([again.where(half), Results.from_list([]), again.where(~half)])
    for form in (columns, again, joined, tmp_path / "results.json"):
        assert coco.evaluate(truth, form, "keypoints") == expected


def test_perfect_and_no_results():
    truth, _ = make(10)
    perfect = [
        {"image_id": entry["image_id"], "category_id": 1, "score": 1.0, "keypoints": entry["keypoints"]}
        for entry in truth["annotations"]
        if entry["num_keypoints"] and not entry["iscrowd"]
    ]
    assert coco.evaluate(truth, perfect, "keypoints")["AP"] == pytest.approx(1)
    assert coco.evaluate(truth, [], "keypoints")["AP"] == 0


def test_the_command(tmp_path, capsys):
    truth, results = make(10)
    for name, given in (("truth", truth), ("results", results)):
        (tmp_path / f"{name}.json").write_text(json.dumps(given))
    paths = str(tmp_path / "truth.json"), str(tmp_path / "results.json")
    metrics = evaluate_results(*paths, "keypoints", per_class=True, curves=True)
    assert metrics == coco.evaluate(truth, results, "keypoints")
    assert "APm" in capsys.readouterr().out
    assert evaluate_results(*paths, "keypoints", sigmas=[0.5] * 17)["AP"] > metrics["AP"]
    with pytest.raises(ConfigError, match="--confusion"):
        evaluate_results(*paths, "keypoints", confusion=True)
    with pytest.raises(ConfigError, match="--sigmas"):
        evaluate_results(*paths, sigmas=[0.5] * 17)


@pytest.mark.parametrize("sigma", [0, -1, np.inf, np.nan])
def test_invalid_sigmas_are_refused(sigma):
    truth, results = make(5)
    sigmas = [0.1] * 16 + [sigma]
    with pytest.raises(ConfigError, match="give a finite number above 0 for each"):
        coco.evaluate(truth, results, "keypoints", sigmas=sigmas)
    with pytest.raises(ConfigError, match=f"sigmas of keypoints include {sigma}"):
        evaluate_results("unread.json", "unread.json", "keypoints", sigmas=sigmas)


def test_invalid_sigmas_and_results_are_refused():
    truth, results = make(5)
    with pytest.raises(ConfigError, match="eval.keypoint_sigmas lists 2 numbers and the data has 17"):
        coco.evaluate(truth, results, "keypoints", sigmas=[0.1, 0.1])
    with pytest.raises(DataError, match="5 keypoints and the annotations 17"):
        coco.evaluate(truth, make(5, keypoints=5)[1], "keypoints")
    boxes = [{"image_id": 1, "category_id": 1, "score": 1, "bbox": [1, 2, 3, 4]}]
    with pytest.raises(DataError, match="do not all have keypoints"):
        coco.evaluate(truth, boxes, "keypoints")
    for points in ([1, 2], [1, 2, float("nan")], "text"):
        with pytest.raises(DataError, match="result 0 has keypoints that are no"):
            coco.evaluate(truth, [boxes[0] | {"keypoints": points}], "keypoints")
