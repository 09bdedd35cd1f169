"""The command `resdet data check`, also on other formats, and the check at the start of a training."""

import json
import shutil

import cv2
import numpy as np
import pytest
import torch
from detection.check import planted
from detection.check.planted import SETTINGS, DataSet, check, experiment, found
from detection.formats.samples import write

from resdet import config
from resdet.detection.check.anchors import AnchorGrid
from resdet.detection.check.brief import brief
from resdet.detection.check.report import Depth
from resdet.detection.check.text import summary
from resdet.detection.training import DetectionTraining
from resdet.engine.distributed import World
from resdet.engine.log import Log
from resdet.engine.run_record import record
from resdet.errors import DataError


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    data = DataSet()
    planted.plant_everything(data)
    return data.write(tmp_path_factory.mktemp("data") / "faulty")


@pytest.fixture
def clean(tmp_path):
    return DataSet(8, 3).write(tmp_path / "clean")


NAMED = ["data.name=coco"] + [
    f"data.{split}.{key}={path}"
    for split in ("train", "val")
    for key, path in (("images", split), ("annotations", f"annotations/{split}.json"))
]


def test_the_summary_names_each_kind_by_severity(command, faulty):
    done = command("data", "check", faulty, *SETTINGS)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "train: 55 images, 154 annotations, 6 categories"
    assert lines.index("errors") < lines.index("warnings") < lines.index("notes")
    assert "  boxes outside of their image: 1 (correct the annotation in your labeling tool)" in lines
    assert (
        "    train/train023.jpg: annotation 70 has the box [130, 10, 20, 20], outside of its image of 120x90" in lines
    )
    assert lines.index("  truncated image files: 2 (copy or download the files again)") < lines.index("warnings")


def test_json_has_all_findings(command, faulty):
    done = command("data", "check", "--config", "custom.yaml", f"data.root={faulty}", *SETTINGS, "--json")
    content = json.loads(done.stdout)
    assert {f["kind"] for f in content["findings"]} == set(content["kinds"])
    assert content["splits"]["val"] == {"images": 10, "annotations": 31, "categories": 6}
    clipped = next(f for f in content["findings"] if f["kind"] == "box_clipped")
    assert clipped == {
        "kind": "box_clipped",
        "severity": "warning",
        "split": "train",
        "image": "train024.jpg",
        "annotations": [73],
        "sentence": "annotation 73 has the box [2, 55, 40, 38], which exceeds its image of 120x90",
        "values": {"box": [2, 55, 40, 38]},
    }
    assert sum(content["counts"].values()) == len(content["findings"])


@pytest.mark.parametrize("words, status", [(["--strict"], 1), ([], 0)])
def test_the_exit_status(command, faulty, words, status):
    assert command("data", "check", faulty, *SETTINGS, "--no-near-duplicates", *words).returncode == status


def test_a_clean_set_passes_strictly_and_writes_page_and_copy(command, clean, tmp_path):
    done = command("data", "check", clean, *SETTINGS, "--strict", "--html", "page.html", "--fix", "copy")
    assert done.returncode == 0 and "nothing found" in done.stdout
    assert (tmp_path / "page.html").read_text().startswith("<!DOCTYPE html>")
    assert (tmp_path / "copy" / "annotations" / "train.json").exists() and "0 changes" in done.stdout


@pytest.mark.parametrize(
    "words, sentence",
    [
        ([], "takes one folder, or --config"),
        (["a", "b"], "takes one folder, or --config"),
        (["nowhere"], "resdet: nowhere"),
        (["--config", "shapes_resnet20.yaml"], "resdet data check is for the data of detectors"),
    ],
)
def test_errors_are_explained(command, words, sentence):
    done = command("data", "check", *words)
    assert done.returncode == 2 and sentence in done.stderr and done.stderr.count("\n") == 1


def test_near_duplicates_can_be_skipped(faulty):
    kinds = {kind for kind, *_ in found(check(faulty, depth=Depth(near=False)))}
    assert {"leak", "duplicate_image"} <= kinds and not kinds & {"near_leak", "near_duplicate"}


def test_damage_inside_a_file_is_found_by_decoding(tmp_path):
    data = DataSet(6, 3)
    image, _ = data.next()
    png = bytearray(planted.encoded(data.picture(), ".png"))
    png[60:400] = b"\xff" * 340  # header and end are intact
    data.files[f"train/{image['file_name']}"] = bytes(png)
    root = data.write(tmp_path / "set")
    assert check(root).findings == []
    assert found(check(root, depth=Depth(decode=True))) == {("undecodable", "train", image["file_name"], ())}


def test_a_split_that_cannot_be_opened_is_an_error_and_two_end_the_check(clean):
    words = ["data.augment.min_size=[180]", *NAMED]
    (clean / "annotations" / "val.json").write_text("{}")
    assert found(check(clean, *words)) == {("cannot_open", "val", None, ())}
    (clean / "annotations" / "train.json").unlink()
    with pytest.raises(DataError, match=r"train\.json cannot be read"):
        check(clean, *words)


def with_test_split() -> DataSet:
    """Returns data whose test split repeats training and validation images and has one of its own."""
    data = DataSet(8, 3)
    data.content["test"] = {"images": [], "annotations": [], "categories": data.content["train"]["categories"]}
    for name in ("train/train001.jpg", "val/val002.jpg"):
        data.add_image("test", data.files[name])
    image = data.add_image("test", planted.encoded(data.picture()))
    data.add_object("test", image, 1, [60, 70, 100, 15])
    return data


def test_a_test_split_is_checked_too(tmp_path):
    data = with_test_split()
    data.content["train"]["images"].append({"id": 99, "file_name": "gone.jpg"})
    root = data.write(tmp_path / "set")
    leaks = {("leak", "test", f"test00{k}.jpg", ()) for k in range(2)}
    expected = leaks | {
        ("box_clipped", "test", "test002.jpg", (data.objects,)),
        ("image_invalid", "train", "gone.jpg", ()),
    }
    report = check(root)
    assert found(report) == expected
    others = {each.values["other_image"] for each in report.findings if each.kind == "leak"}
    assert others == {"train001.jpg", "val002.jpg"} and [*report.anchors] == ["train", "val"]
    (root / "annotations" / "val.json").unlink()  # some training images then become the validation split
    kinds = [(each.kind, each.image) for each in check(root).findings if each.split == "test"]
    assert sorted(kinds, key=str) == [("leak", "test/test000.jpg"), ("reader_clipped", None)]


def test_a_test_split_without_objects_is_searched_for_leaks_only(tmp_path):
    data = with_test_split()
    data.content["test"]["annotations"] = []
    assert {kind for kind, *_ in found(check(data.write(tmp_path / "set")))} == {"leak"}


def test_validation_images_named_as_test_split_are_checked_once(tmp_path):
    images = {f"{split}/images/{split}{k}.jpg": None for split in ("train", "val") for k in range(3)}
    labels = {name.replace("images", "labels")[:-3] + "txt": "0 0.5 0.5 0.5 0.5\n" for name in images}
    paths = "train: train/images\nval: val/images\ntest: val/images\n"
    root = write(tmp_path / "set", images | labels | {"data.yaml": f"{paths}names: [cat]\n"})
    assert [split.name for split in check(root).splits] == ["train", "val"]
    write(root, {"test/images/test0.jpg": None, "data.yaml": paths.replace("test: val", "test: test") + "names: [cat]"})
    assert [split.name for split in check(root).splits] == ["train", "val", "test"]


def test_findings_in_other_formats_name_the_place(tmp_path):
    """Uses label files with a damaged line, in a folder without a validation split."""
    lines = "damaged\n0 0.3 0.3 0.4 0.4\n0 0.3 0.3 0.4 0.4\n"
    images = {f"images/{k}.jpg": None for k in range(6)}
    labels = {f"labels/{k}.txt": lines for k in range(6)}
    report = check(write(tmp_path / "set", images | labels | {"data.yaml": "names: [cat]\n"}))
    assert len(report.splits) == 2
    found = {finding.image: finding.sentence for finding in report.findings if finding.kind == "box_duplicate"}
    assert found == {
        f"images/{k}.jpg": f"annotations labels/{k}.txt:2 and labels/{k}.txt:3 are the same cat" for k in range(6)
    }


def test_splits_of_other_categories(tmp_path):
    data = DataSet(8, 3)
    data.content["val"]["categories"].reverse()
    for entry, id in zip(data.content["val"]["categories"], (1, 2, 3)):
        entry["id"] = id
    root = data.write(tmp_path / "set")
    assert found(check(root, *NAMED)) == {("category_mismatch", "val", None, ())}
    assert found(check(root)) == set()  # the recognized folder has the same classes in both splits


def test_anchors_that_do_not_fit(tmp_path):
    root = DataSet(8, 3).write(tmp_path / "set")
    report = check(root, "model.rpn.anchors.sizes=[[300],[350],[400],[450],[500]]")
    assert {(kind, split) for kind, split, *_ in found(report)} == {("anchors", "train"), ("anchors", "val")}
    better = report.anchors["train"].better
    assert better and check(root, *better.line.split()).findings == []


def test_objects_left_out_by_the_voc_reader_are_reported(tmp_path):
    for folder in ("Annotations", "JPEGImages"):
        (tmp_path / folder).mkdir()
    boxes = {"a": (5, 5, 40, 40), "b": (50, 9, 20, 60), "c": (700, 5, 720, 40), "d": (5, 5, 130, 40)}
    pictures = DataSet(0, 0)
    for stem, (x1, y1, x2, y2) in boxes.items():
        corners = f"<xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
        thing = f"<object><name>gecko</name><bndbox>{corners}</bndbox></object>"
        size = "<size><width>120</width><height>90</height></size>"
        (tmp_path / "Annotations" / f"{stem}.xml").write_text(f"<annotation>{size}{thing}</annotation>")
        cv2.imwrite(str(tmp_path / "JPEGImages" / f"{stem}.jpg"), pictures.picture())
    places = [f"data.{split}.annotations=Annotations" for split in ("train", "val")]
    places += [f"data.{split}.images=JPEGImages" for split in ("train", "val")]
    report = check(tmp_path, "data.name=voc", *places)
    expected = [("leak", "val", f"{stem}.jpg", ()) for stem in boxes]
    kinds = ("left_out", "reader_clipped")
    assert found(report) == {*expected, *((kind, split, None, ()) for kind in kinds for split in ("train", "val"))}
    left_out = [f.sentence for f in report.findings if f.kind == "left_out" and f.split == "train"]
    assert "1 of b.xml" in left_out[0] and "without area" in left_out[0]
    assert "1 of c.xml" in left_out[1] and "outside of its image" in left_out[1]
    assert report.to_dict()["counts"]["error"] > 0


def test_all_kinds_of_entries_left_out_are_shown_with_their_files(tmp_path):
    root = tmp_path / ("a_long_name_of_a_folder" * 8)
    boxes = ["0 0.5 0.5 0.5", "5 0.5 0.5 0.5 0.5", "0 5 5 0.1 0.1", "0 0.5 0.5 0 0.1", "0 0.5 0.5 0.4 0.4"]
    for split in ("train", "val"):
        (root / split).mkdir(parents=True)
        cv2.imwrite(str(root / split / f"{split}.png"), DataSet(0, 0).picture())
        (root / split / f"{split}.txt").write_text("\n".join(boxes if split == "train" else boxes[-1:]))
    (root / "classes.txt").write_text("gecko")
    text = summary(check(root))
    assert all(f": train/train.txt:{line}\n" in text for line in range(1, 5))


def sentences(root, *overrides: str) -> str | None:
    setup = experiment(root, *overrides)
    source, validation = (setup.data.open(split) for split in ("train", "val"))
    return brief(source, validation, setup.data, AnchorGrid.of(setup.model, (4, 8, 16, 32, 64)))


def test_the_start_of_a_training_is_silent_on_clean_data(clean):
    assert sentences(clean) is None


def test_the_start_of_a_training_counts_faults_in_the_index(tmp_path):
    data = DataSet(40, 5)
    image, thing = data.next()
    data.add_object("train", image, 1, list(thing["bbox"]))
    image, _ = data.next()
    data.add_object("train", image, 1, [2, 85, 1.5, 4])
    image, _ = data.next()
    for k in range(6):
        data.add_object("train", image, 1, [4 + 19 * k, 72, 16, 16])
    for content in data.content.values():
        content["categories"] += [{"id": 8, "name": "fish"}, {"id": 9, "name": "owl"}]
    data.add_object("train", image, 9, [70, 60, 12, 10])
    assert sentences(data.write(tmp_path / "set")).split("; ") == [
        "1 object is too small at the training scale",
        "1 image has more than data.max_objects=8 objects",
        "1 object is annotated twice",
        "1 category has no training objects (fish)",
        "2 categories have no validation objects (fish, owl)",
        "1 category is rare (owl): see data.sampling=repeat_factor",
    ]
    assert "100.0% of the training objects have no anchor of IoU 0.5 or more" in sentences(
        tmp_path / "set", "model.rpn.anchors.sizes=[[900],[900],[900],[900],[900]]"
    )


def test_a_training_logs_the_findings_and_the_command(command, tmp_path, capsys):
    data = DataSet(8, 3)
    image, thing = data.next()
    data.add_object("train", image, 1, list(thing["bbox"]))
    setup = experiment(data.write(tmp_path / "set"), "model.box.width=8")
    cpu = torch.device("cpu")
    DetectionTraining(setup, World(0, 1, cpu), log := Log(tmp_path / "run")).check_images(log)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("data check: ")]
    assert lines[0] == "data check: 1 object is annotated twice"
    words = lines[1].split("`")[1].split()
    assert words[:3] == ["resdet", "data", "check"]
    (tmp_path / "run").mkdir()
    record(tmp_path / "run", config.to_yaml(setup), 0, cpu, 1)
    again = command(*words[1:])
    assert again.returncode == 0 and "objects annotated twice: 1" in again.stdout, again.stderr


def test_paths_of_several_splits_are_compared_as_files(tmp_path):
    """Checks that an image in both splits is a leak, also under different paths."""
    data = DataSet(6, 3)
    root = data.write(tmp_path / "set")
    shutil.copy(root / "train" / "train001.jpg", root / "val" / "val001.jpg")
    assert found(check(root)) == {("leak", "val", "val001.jpg", ())}


def test_numpy_values_do_not_reach_json(faulty):
    plain = (str, int, float, bool, type(None))

    def leaves(value):
        if isinstance(value, (dict, list, tuple)):
            for each in value.values() if isinstance(value, dict) else value:
                yield from leaves(each)
        else:
            yield value

    content = check(faulty).to_dict()
    assert [value for value in leaves(content) if not isinstance(value, plain) or isinstance(value, np.generic)] == []
