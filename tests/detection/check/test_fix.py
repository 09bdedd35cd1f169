"""The cleaned copy: fixed faults are gone, and nothing else changes."""

import json
from pathlib import PurePath

import pytest
from detection.check import planted
from detection.check.planted import DataSet, check, corners, found, rectangle

from resdet.commands.shard import shard
from resdet.data.shards import Limit
from resdet.detection.check.fix import LOG, write_fixed
from resdet.errors import DataError
from resdet.tasks import CheckOptions, tasks


def fixed_of(data: DataSet, folder):
    """Returns the report on the cleaned copy of a data set, the copy's folder and the changes."""
    root = data.write(folder / "set")
    count = write_fixed(check(root), folder / "fixed")
    changes = [json.loads(line) for line in (folder / "fixed" / LOG).read_text().splitlines()]
    assert len(changes) == count
    return check(folder / "fixed"), folder / "fixed", changes


def entries(root, split="train"):
    content = json.loads((root / "annotations" / f"{split}.json").read_text())
    return content["images"], {entry["id"]: entry for entry in content["annotations"]}


def with_safe_faults() -> DataSet:
    data = DataSet(20, 5)
    train = data.content["train"]
    for make in (None, lambda old: b"", lambda old: old[:200]):
        image, _ = data.next()
        name = f"train/{image['file_name']}"
        data.files[name] = make(data.files[name]) if make else b"GIF8"
    for box in ([1, 2, "3", 4], [10, 10, 0, 20], [130, 10, 20, 20], [1, 2, float("inf"), 4]):
        _, thing = data.next()
        thing["bbox"] = box
    for key, value in (("image_id", 12345), ("category_id", 77), ("area", "large"), ("id", 1)):
        _, thing = data.next()
        thing[key] = value
    _, thing = data.next()
    thing |= {"bbox": [40, 70, -30, -10], "segmentation": [rectangle(10, 60, 40, 70)]}
    _, thing = data.next()
    thing |= {"bbox": [2, 60, 40, 32], "segmentation": [rectangle(2, 60, 42, 90)]}
    image, thing = data.next()
    data.add_object("train", image, 1, list(thing["bbox"]))
    image, _ = data.next()
    image |= {"width": 100, "height": 75}
    pixels = data.picture()
    data.add_image("train", planted.encoded(pixels))
    copy = data.add_image("train", planted.encoded(pixels))
    train["annotations"] = [entry for entry in train["annotations"] if entry["image_id"] != copy["id"]]
    train["images"].append({"id": 900, "width": 10, "height": 10})
    return data


def test_the_cleaned_copy_has_no_findings(tmp_path):
    data = with_safe_faults()
    assert len(check(data.write(tmp_path / "before")).findings) >= 18
    report, _, changes = fixed_of(data, tmp_path)
    assert report.findings == [] and len(changes) == 17


def test_a_clean_data_set_is_copied_unchanged(tmp_path):
    data = DataSet(6, 3)
    _, folder, changes = fixed_of(data, tmp_path)
    assert changes == []
    for name, content in data.files.items():
        assert (folder / name).read_bytes() == content
    for split, content in data.content.items():
        assert json.loads((folder / "annotations" / f"{split}.json").read_text()) == content


def test_boxes_are_clipped_and_inverted_boxes_swapped(tmp_path):
    data = with_safe_faults()
    _, folder, changes = fixed_of(data, tmp_path)
    things = {a["id"]: a for a in data.content["train"]["annotations"]}
    _, after = entries(folder)
    by_box = {tuple(a["bbox"]): id for id, a in things.items() if isinstance(a["bbox"], list)}
    assert after[by_box[40, 70, -30, -10]]["bbox"] == [10, 60, 30, 10]
    assert after[by_box[2, 60, 40, 32]]["bbox"] == [2, 60, 40, 30]
    said = {change["change"] for change in changes}
    assert {"swapped the corners", "clipped the box to the image", "set the size to 120x90"} <= said


def test_data_without_a_validation_split_are_fixed_as_they_are_written(tmp_path):
    """Plants faults in a COCO file without a validation split; training skips these entries."""
    data = with_safe_faults()
    train = data.content["train"]
    of_val = {f"val/{image['file_name']}" for image in data.content.pop("val")["images"]}
    data.files = {name: content for name, content in data.files.items() if name not in of_val}
    train["annotations"] += ["no entry", {"id": 901}, {"id": 902, "image_id": [1]}]
    root = data.write(tmp_path / "set")
    report = check(root)
    kinds = {each.kind for each in report.findings}
    assert {"box_inverted", "box_clipped", "unknown_image", "annotation_id"} <= kinds and "left_out" not in kinds
    assert [split.name for split in report.splits] == ["train", "val"] and len(report.splits[1].files) > 2
    assert len(report.splits[0].annotations) + len(report.splits[1].annotations) == len(train["annotations"])
    write_fixed(report, tmp_path / "fixed")
    changes = [json.loads(line) for line in (tmp_path / "fixed" / LOG).read_text().splitlines()]
    assert {"swapped the corners", "clipped the box to the image"} <= {change["change"] for change in changes}
    boxes = [entry["bbox"] for split in ("train", "val") for entry in entries(tmp_path / "fixed", split)[1].values()]
    assert [10, 60, 30, 10] in boxes and [2, 60, 40, 30] in boxes
    assert check(tmp_path / "fixed").findings == []


def test_ambiguous_faults_are_not_fixed(tmp_path):
    data = DataSet()
    planted.plant_everything(data)
    before = found(check(data.write(tmp_path / "before")))
    report, folder, _ = fixed_of(data, tmp_path)
    fixable = {
        "missing", "unreadable", "truncated", "image_size", "image_id", "annotation_id", "unknown_image",
        "unknown_category", "image_invalid", "annotation_invalid", "box_invalid", "box_inverted", "box_no_area",
        "box_outside", "box_clipped", "box_duplicate", "mask_invalid",
    }  # fmt: skip
    kinds = {finding.kind for finding in report.findings}
    assert kinds == {kind for kind, *_ in before} - fixable
    _, after = entries(folder)
    for box in ([0.2, 0.3, 0.4, 0.5], [30, 20, 110, 85], [10, 80, 75, 30]):
        assert box in [entry["bbox"] for entry in after.values()]


def test_a_copy_with_other_objects_is_not_dropped(tmp_path):
    data = DataSet(8, 3)
    pixels = data.picture()
    data.add_image("train", planted.encoded(pixels))
    other = data.add_image("train", planted.encoded(pixels))
    report, folder, changes = fixed_of(data, tmp_path)
    assert changes == [] and {f.kind for f in report.findings} == {"duplicate_image"}
    assert other["file_name"] in [image["file_name"] for image in entries(folder)[0]]


def test_files_stay_below_the_folder(tmp_path):
    data = DataSet(6, 3)
    first, second = data.content["train"]["images"][:2]
    data.files["val/inner.jpg"] = data.files.pop(f"train/{first['file_name']}")
    data.files["inner.jpg"] = data.files.pop(f"train/{second['file_name']}")
    first["file_name"], second["file_name"] = "../val/inner.jpg", "../inner.jpg"
    root = data.write(tmp_path / "set")
    third = data.content["train"]["images"][2]
    assert check(root).findings == []
    write_fixed(check(root), tmp_path / "fixed")
    images, _ = entries(tmp_path / "fixed")
    assert [image["file_name"] for image in images[:3]] == ["val/inner.jpg", "inner.jpg", third["file_name"]]
    assert (tmp_path / "fixed" / "train" / "val" / "inner.jpg").read_bytes() == data.files["val/inner.jpg"]
    assert check(tmp_path / "fixed").findings == []


def test_images_of_shards_are_files_of_the_copy(tmp_path):
    data = DataSet(6, 3)
    shard(str(data.write(tmp_path / "set")), str(tmp_path / "shards"), Limit(images=3))
    assert write_fixed(check(tmp_path / "shards"), tmp_path / "fixed") == 0
    assert check(tmp_path / "fixed").findings == []
    images, _ = entries(tmp_path / "fixed")
    places = [PurePath(image["file_name"]) for image in images]
    assert [place.name for place in places] == [f"{number:08d}.jpg" for number in range(6)]
    assert {str(place.parent) for place in places} == {"000000", "000001"}
    copied = {(tmp_path / "fixed" / "train" / image["file_name"]).read_bytes() for image in images}
    assert copied == {content for name, content in data.files.items() if name.startswith("train/")}


def test_a_folder_that_is_not_empty_is_refused(tmp_path):
    root = DataSet(6, 3).write(tmp_path / "set")
    with pytest.raises(DataError, match="is not empty: name a new folder"):
        tasks["detection"].check_data(planted.experiment(root), CheckOptions(fix=str(root)))


def test_a_box_is_clipped_to_the_corrected_size(tmp_path):
    data = DataSet(6, 3)
    image, thing = data.next()
    image |= {"width": 300, "height": 300}
    thing |= {"bbox": [100, 50, 60, 60], "segmentation": [rectangle(*corners([100, 50, 20, 40]))]}
    report, folder, _ = fixed_of(data, tmp_path)
    assert report.findings == []
    images, after = entries(folder)
    assert (images[0]["width"], images[0]["height"]) == (120, 90) and after[thing["id"]]["bbox"] == [100, 50, 20, 40]


def test_repeated_annotation_ids_become_distinct(tmp_path):
    data = DataSet(5, 2)
    things = data.content["train"]["annotations"]
    for thing in things:
        thing["id"] = 7
    _, folder, changes = fixed_of(data, tmp_path)
    images, kept = entries(folder)
    assert sorted(kept) == list(range(7, 7 + len(things)))
    assert [change["kind"] for change in changes] == ["annotation_id"] * (len(things) - 1)
