"""Tests `resdet evaluate --results FOLDER`: metrics of a folder of Parquet files equal those of the JSON file."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from coco_scenes import make

from resdet.commands.evaluate_results import evaluate_results
from resdet.detection.evaluation.parquet_results import read_folder, scale_of
from resdet.errors import DataError
from resdet.results import parquet
from resdet.results.result import Result


def result_of(entries: list[dict], size: tuple[int, int], points: int = 0) -> Result:
    """Returns the detections of one image in float32, as models predict them."""
    boxes = np.array([entry["bbox"] for entry in entries], np.float64).reshape(-1, 4)
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1).astype(np.float32)
    categories = np.array([entry["category_id"] for entry in entries], np.int64)
    return Result(
        corners,
        np.array([entry["score"] for entry in entries], np.float32),
        categories - 1,
        [f"class {category // 2}" for category in categories],  # as `make` names them
        categories,
        size,
        rles=[entry["segmentation"] for entry in entries],
        keypoints=np.random.default_rng(len(entries)).uniform(0, 60, (len(entries), points, 3)).astype(np.float32)
        if points
        else None,
        keypoint_names=[f"k{number}" for number in range(points)],
    )


def written(tmp_path, seed: int, points: int = 0) -> tuple[str, str, str]:
    """Writes annotations, a results file and a folder with the same results; returns their paths."""
    truth, detections = make(seed)
    entries, rows = [], []
    for image in truth["images"]:
        image["file_name"] = f"val/{image['id']:012}.jpg"
        own = [one for one in detections if one["image_id"] == image["id"]]
        own.sort(key=lambda one: -one["score"])
        result = result_of(own, (image["height"], image["width"]), points)
        entries += result.to_coco(image["id"])
        rows.append(parquet.row_of_result(f"data/val/{image['id']:012}.jpg", result))
    if points:
        rng = np.random.default_rng(0)
        for category in truth["categories"]:
            category |= {"keypoints": [f"k{number}" for number in range(points)], "skeleton": []}
        for one in truth["annotations"]:
            place = np.c_[rng.uniform(0, 60, (points, 2)).round(1), rng.integers(0, 3, points)]
            one["keypoints"] = place.ravel().tolist()
    folder = tmp_path / "parts"
    for number, row in enumerate(rows):
        parquet.write_rows(folder / f"part-{number:06}.parquet", [row])
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "results.json").write_text(json.dumps(entries))
    return tuple(str(tmp_path / name) for name in ("truth.json", "results.json", "parts"))


@pytest.mark.parametrize("engine", ["hotcoco", "pycocotools"])
@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize("confusion", [False, True])
@pytest.mark.parametrize("seed", [0, 5, 7])
def test_metrics_match_the_json_file(tmp_path, seed, confusion, kind, engine):
    truth, results, folder = written(tmp_path, seed)
    figures = [tmp_path / name for name in ("a.json", "b.json")]
    for source, path in zip((results, folder), figures):
        evaluate_results(truth, source, kind, True, True, confusion, str(path), engine)
    assert json.loads(figures[0].read_text()) == json.loads(figures[1].read_text())


@pytest.mark.parametrize("protocol", ["voc07", "voc_area", "ilsvrc_det"])
def test_metrics_of_other_protocols_match_the_json_file(tmp_path, protocol):
    truth, results, folder = written(tmp_path, 1)
    assert evaluate_results(truth, results, protocol=protocol) == evaluate_results(truth, folder, protocol=protocol)


def test_keypoint_metrics_match_the_json_file(tmp_path):
    truth, results, folder = written(tmp_path, 2, points=4)
    metrics = evaluate_results(truth, folder, "keypoints")
    assert metrics == evaluate_results(truth, results, "keypoints") and metrics["AP"] is not None


def test_images_with_an_error_count_as_without_detections(tmp_path, capsys):
    truth, results, folder = written(tmp_path, 1)
    content = json.loads((tmp_path / "truth.json").read_text())
    first = content["images"][0]["id"]
    path = tmp_path / "parts/part-000000.parquet"
    parquet.write_rows(path, [parquet.row_of_error(f"{first:012}.jpg", DataError("damaged"))])
    entries = [one for one in json.loads((tmp_path / "results.json").read_text()) if one["image_id"] != first]
    (tmp_path / "results.json").write_text(json.dumps(entries))
    content["images"] = [{**image, "file_name": image["file_name"][4:]} for image in content["images"]]
    (tmp_path / "truth.json").write_text(json.dumps(content))
    assert evaluate_results(truth, folder) == evaluate_results(truth, results)
    assert f"1 of {len(content['images'])} images have an error" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["bbox", "keypoints"])
def test_images_without_a_row_are_counted(tmp_path, capsys, kind):
    truth, _, folder = written(tmp_path, 2, points=4)
    count = len([*Path(folder).iterdir()])
    evaluate_results(truth, folder, kind)
    assert "no row" not in capsys.readouterr().out
    (Path(folder) / "part-000000.parquet").unlink()
    evaluate_results(truth, folder, kind)
    assert f"1 of the {count} images of the annotations have no row in {folder}" in capsys.readouterr().out


def test_images_of_shards_are_found(tmp_path):
    truth, results, folder = written(tmp_path, 1)
    content = json.loads(Path(truth).read_text())
    for image in content["images"]:
        image["file_name"] = f"000000.tar@1536+20480-9f3a21c0/{image['id']:012}.jpg"
    Path(truth).write_text(json.dumps(content))
    changed(folder, lambda rows: [row | {"image": row["image"].replace("val/", "val/000000.tar:")} for row in rows])
    assert evaluate_results(truth, folder) == evaluate_results(truth, results)


def resized(rows: list[dict], width: float, height: float) -> list[dict]:
    """Rescales rows by `width` and `height`, as for images of another size."""
    scale = np.array([width, height])
    for row in rows:
        row |= {"width": int(row["width"] * width), "height": int(row["height"] * height)}
        row["boxes"] = (np.array(row["boxes"]).reshape(-1, 4) * np.tile(scale, 2)).tolist()
        row["keypoints"] = row["keypoints"] and (np.array(row["keypoints"]) * np.append(scale, 1)).tolist()
    return rows


def changed(folder: str, change) -> None:
    """Rewrites each part with changed rows."""
    for path in Path(folder).glob("*.parquet"):
        rows = [row for batch in parquet.read_batches(path, parquet.schema().names) for row in batch.to_pylist()]
        parquet.write_rows(path, change(rows))


def test_detections_are_scaled_to_the_annotated_size(tmp_path):
    truth, _, folder = written(tmp_path, 2, points=4)
    before = read_folder(Path(folder), truth, "keypoints")
    changed(folder, lambda rows: resized(rows, 2, 4))
    after = read_folder(Path(folder), truth, "keypoints")
    assert (after.boxes == before.boxes).all() and (after.keypoints == before.keypoints).all()
    assert evaluate_results(truth, folder)["AP"] > 0


def test_images_without_an_annotated_size_are_not_scaled(tmp_path):
    truth, results, folder = written(tmp_path, 1)
    changed(folder, lambda rows: [row | {"width": 3 * row["width"]} for row in rows])
    content = json.loads(Path(truth).read_text())
    content["images"] = [{"id": image["id"], "file_name": image["file_name"]} for image in content["images"]]
    Path(truth).write_text(json.dumps(content))
    assert evaluate_results(truth, folder) == evaluate_results(truth, results)


def test_square_images_have_no_exchanged_sides():
    assert scale_of("a.jpg", (40, 40), (40, 40), Path("0.parquet")) == (1, 1)


@pytest.mark.parametrize("engine", ["hotcoco", "pycocotools"])
def test_images_with_exchanged_sides_are_refused(tmp_path, engine):
    truth, _, folder = written(tmp_path, 1)
    changed(folder, lambda rows: [row | {"width": row["height"], "height": row["width"]} for row in rows])
    image = json.loads(Path(truth).read_text())["images"][0]
    sides = f"{image['height']} × {image['width']} pixels, and the annotations give {image['width']} × "
    with pytest.raises(DataError, match=f"{image['id']:012}.jpg of {sides}.*EXIF rotation.*--weights"):
        evaluate_results(truth, folder, engine=engine)


@pytest.mark.parametrize(
    "rows, sentence",
    [
        ([{"image": "other.jpg", "scores": []}], "alone has none of the .* images of the annotations"),
        ([{"image": "val.tar:val/000000000001.jpg", "scores": []}], "repeats"),
        ([{"image": "1", "scores": [0.5], "labels": [1], "names": ["a"]}], "no category_ids for each of the scores"),
    ],
)
def test_rows_that_do_not_match_the_annotations_are_rejected(tmp_path, rows, sentence):
    truth, _, folder = written(tmp_path, 1)
    if "repeats" not in sentence:
        folder = str(tmp_path / "alone")
    parquet.write_rows(Path(folder) / "part-000009.parquet", rows)
    with pytest.raises(DataError, match=sentence):
        evaluate_results(truth, folder)


def test_images_without_annotations_are_left_out(tmp_path, capsys):
    """Evaluates a folder with all images of a data set on one of its splits."""
    truth, _, folder = written(tmp_path, 1)
    expected, count = evaluate_results(truth, folder, "segm"), len(json.loads(Path(truth).read_text())["images"])
    capsys.readouterr()
    changed(folder, lambda rows: [*rows, *(row | {"image": f"train/{row['image']}.png"} for row in rows)])
    assert evaluate_results(truth, folder, "segm") == expected
    notes = capsys.readouterr().out.split("\n\n")
    assert notes[0] == f"{count} of the {2 * count} images in {folder} are not in the annotations, and not evaluated"


def test_incomplete_or_damaged_folders_are_rejected(tmp_path):
    truth, _, folder = written(tmp_path, 1)
    (tmp_path / "parts" / parquet.MANIFEST).write_text('{"parts": 9}')
    with pytest.raises(DataError, match="of 9 parts: run resdet predict again"):
        evaluate_results(truth, folder)
    (tmp_path / "parts" / parquet.MANIFEST).unlink()
    (tmp_path / "parts/part-000000.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="is not a readable Parquet file"):
        evaluate_results(truth, folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no Parquet files"):
        evaluate_results(truth, str(tmp_path / "empty"))


@pytest.mark.parametrize("lacking", (0, 1))
def test_classes_under_other_ids_are_found_by_name(tmp_path, capsys, lacking):
    """Checks that annotations with other category ids, or without a class, give the metrics of their classes."""
    truth, _, folder = written(tmp_path, seed=2)
    expected = evaluate_results(truth, folder, "segm")["per_class"]
    capsys.readouterr()
    content = json.loads(Path(truth).read_text())
    gone = {category["id"] for category in content["categories"][:lacking]}
    content["categories"] = [{**each, "id": each["id"] + 1} for each in content["categories"][lacking:]]
    objects = [each for each in content["annotations"] if each["category_id"] not in gone]
    content["annotations"] = [{**each, "category_id": each["category_id"] + 1} for each in objects]
    Path(truth).write_text(json.dumps(content))
    found = evaluate_results(truth, folder, "segm")["per_class"]
    assert len(found) == len(expected) - lacking
    assert all(values == pytest.approx(expected[name], nan_ok=True) for name, values in found.items())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("classes are matched by name: class ") and lines[0].endswith(f" in {folder}")


def renamed(truth: str, names: list[str], keep: int | None = None) -> None:
    """Renames the first categories of annotations and removes those from index `keep` on."""
    content = json.loads(Path(truth).read_text())
    for category, name in zip(content["categories"], names):
        category["name"] = name
    content["categories"] = content["categories"][:keep]
    ids = {category["id"] for category in content["categories"]}
    content["annotations"] = [each for each in content["annotations"] if each["category_id"] in ids]
    Path(truth).write_text(json.dumps(content))


def test_a_subset_of_the_classes_with_their_ids_is_evaluated(tmp_path, capsys):
    truth, _, folder = written(tmp_path, seed=2)
    expected = evaluate_results(truth, folder)["per_class"]
    renamed(truth, [], keep=2)
    found = evaluate_results(truth, folder)["per_class"]
    assert len(found) == 2 < len(expected)
    assert all(values == pytest.approx(expected[name], nan_ok=True) for name, values in found.items())
    assert f"2 classes of {folder} are not in the annotations and not evaluated: class " in capsys.readouterr().out


def test_other_names_are_matched_by_id(tmp_path, capsys):
    truth, _, folder = written(tmp_path, seed=2)
    expected = evaluate_results(truth, folder)
    renamed(truth, ["other"])
    assert evaluate_results(truth, folder)["AP"] == expected["AP"]
    assert "classes are matched by category id: " in capsys.readouterr().out


def test_classes_of_one_name_are_matched_by_id(tmp_path):
    truth, results, folder = written(tmp_path, seed=2)
    renamed(truth, ["class", "class"])
    numbers = [each["id"] for each in json.loads(Path(truth).read_text())["categories"][:2]]

    def with_one_name(rows):
        for row in rows:
            ids = row["category_ids"]
            row["names"] = ["class" if id in numbers else name for id, name in zip(ids, row["names"])]
        return rows

    changed(folder, with_one_name)
    assert evaluate_results(truth, folder) == evaluate_results(truth, results)


def test_results_without_names_are_matched_by_id(tmp_path):
    truth, results, folder = written(tmp_path, seed=2)
    expected = evaluate_results(truth, results)
    changed(folder, lambda rows: [row | {"names": None} for row in rows])
    assert evaluate_results(truth, folder) == expected
    for path in Path(folder).glob("*.parquet"):
        pq.write_table(pq.read_table(path).drop_columns(["names"]), path)
    assert evaluate_results(truth, folder) == expected


def test_unknown_ids_without_a_common_name_are_refused(tmp_path):
    truth, _, folder = written(tmp_path, seed=2)
    renamed(truth, ["one", "two", "three", "four"], keep=2)
    with pytest.raises(DataError, match="which the annotations lack: write the ids of the annotation file"):
        evaluate_results(truth, folder)
