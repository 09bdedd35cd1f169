"""Submission files for the detection test servers: their lines, and the errors of their validators."""

import json
import tarfile
import zipfile

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from resdet.detection.data.config import CocoConfig, IlsvrcDetConfig, IlsvrcVidConfig, SplitConfig, VocConfig
from resdet.detection.evaluation import submissions
from resdet.detection.evaluation.results import Results
from resdet.errors import ConfigError, DataError
from resdet.localization.data.test_set import localization_test


def picture(path, width, height):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((height, width, 3), np.uint8))


@pytest.fixture
def voc(tmp_path):
    home = tmp_path / "VOCdevkit/VOC2012"
    for stem, size in (("2012_000007", (30, 20)), ("2012_000003", (16, 16))):
        picture(home / f"JPEGImages/{stem}.jpg", *size)
    (home / "ImageSets/Main").mkdir(parents=True)
    (home / "ImageSets/Main/test.txt").write_text("2012_000007\n2012_000003\n")
    return VocConfig("voc", str(tmp_path / "VOCdevkit"), val_sets=["2012_test"]).open_test()


@pytest.fixture
def det(tmp_path):
    for number, size in ((1, (30, 20)), (2, (16, 16))):
        picture(tmp_path / f"ILSVRC/Data/DET/test/ILSVRC2012_test_{number:08d}.JPEG", *size)
    (tmp_path / "ILSVRC/ImageSets/DET").mkdir(parents=True)
    lines = "ILSVRC2012_test_00000001 1\nILSVRC2012_test_00000002 2\n"
    (tmp_path / "ILSVRC/ImageSets/DET/test.txt").write_text(lines)
    return IlsvrcDetConfig("ilsvrc_det", str(tmp_path), val="test").open_test()


@pytest.fixture
def vid(tmp_path):
    for name, size in (("00000001/000000", (30, 20)), ("00001000/000000", (16, 16))):
        picture(tmp_path / f"ILSVRC2015/Data/VID/test/ILSVRC2015_test_{name}.JPEG", *size)
    (tmp_path / "ILSVRC2015/ImageSets/VID").mkdir(parents=True)
    lines = "ILSVRC2015_test_00000001/000000 1\nILSVRC2015_test_00001000/000000 2\n"
    (tmp_path / "ILSVRC2015/ImageSets/VID/test.txt").write_text(lines)
    return IlsvrcVidConfig("ilsvrc_vid", str(tmp_path), val="test").open_test()


@pytest.fixture
def coco(tmp_path):
    content = {
        "images": [{"id": n, "file_name": f"{n}.jpg", "width": 30, "height": 20} for n in (42, 7)],
        "categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}],
    }
    (tmp_path / "info.json").write_text(json.dumps(content))
    return CocoConfig("coco", str(tmp_path), val=SplitConfig("test2015", "info.json")).open_test()


BAD_INFO = {
    'no list "images"': [{"id": 1}],
    'has no list "images"': {"categories": []},
    'no list "categories"': {"images": []},
    "no width and height": {"images": [{"id": 1, "file_name": "1.jpg"}], "categories": []},
    "no text as file_name": {"images": [{"id": 1, "width": 3, "height": 4}], "categories": []},
    "(no width) and height": {"images": [{"id": 1, "file_name": "1.jpg", "width": "x", "height": 4}], "categories": []},
}


@pytest.mark.parametrize("complaint", BAD_INFO)
def test_invalid_info_files_are_refused(tmp_path, complaint):
    (tmp_path / "info.json").write_text(json.dumps(BAD_INFO[complaint]))
    with pytest.raises(DataError, match=f"info.json.*({complaint})"):
        CocoConfig("coco", str(tmp_path), val=SplitConfig("test2015", "info.json")).open_test()


def results(source, categories=(1, 2, 2)):
    """Two detections in the first image in ascending order of score, and one that extends beyond the second image."""
    ids = [source.result_id(i) for i in (0, 0, 1)]
    return Results(ids, categories, [0.25, 0.5, 1.0], [[2, 3, 10, 5], [0, 0, 30, 20], [-1, 4.5, 40, 4]])


def test_test_images_have_sizes_and_no_objects(voc, det, coco):
    assert voc.sizes.tolist() == [[30, 20], [16, 16]] and len(voc.classes) == 20 and len(voc.objects(0)) == 0
    assert len(det.classes) == 200 and det.category_ids[0] == 1
    assert coco.classes == ["car", "dog"] and [coco.result_id(i) for i in (0, 1)] == [42, 7]


def test_test_images_ignore_exif_rotation(tmp_path):
    """MATLAB ignores EXIF orientation, and ILSVRC's boxes were drawn with MATLAB."""
    tags = Image.Exif()
    tags[0x0112] = 6
    for folder in ("ILSVRC/Data/DET/test", "test"):
        path = tmp_path / folder / "a.JPEG"
        path.parent.mkdir(parents=True)
        Image.new("RGB", (30, 20)).save(path, exif=tags)
    (tmp_path / "ILSVRC/ImageSets/DET").mkdir(parents=True)
    (tmp_path / "ILSVRC/ImageSets/DET/test.txt").write_text("a 1\n")
    det = IlsvrcDetConfig("ilsvrc_det", str(tmp_path), val="test").open_test()
    assert det.sizes.tolist() == [[30, 20]] and det.image(0).decode().shape == (20, 30, 3)
    images = localization_test(str(tmp_path))
    assert len(images) == 1 and images.image(0).decode().shape == (20, 30, 3)


def test_voc(voc, tmp_path):
    path = tmp_path / "comp4.tar.gz"
    submissions.write_voc(path, results(voc), voc, "2012", "test")
    submissions.check_voc(path, voc, "2012", "test")
    with tarfile.open(path) as archive:
        assert len(archive.getnames()) == 20
        read = lambda name: archive.extractfile(f"results/VOC2012/Main/comp4_det_test_{name}.txt").read().decode()
        # x from 2 to 12, exclusive, becomes 3 to 12, 1-based and inclusive.
        assert read("aeroplane") == "2012_000007 0.250000 3.00 4.00 12.00 8.00\n"
        assert read("bicycle").splitlines() == [
            "2012_000007 0.500000 1.00 1.00 30.00 20.00",
            "2012_000003 1.000000 1.00 5.50 16.00 8.50",
        ]
        assert read("tvmonitor") == ""


def test_voc_boxes_round_trip(voc, tmp_path):
    """Converts the corners back by the rule of the VOC XML reader."""
    from resdet.detection.data.voc import CLASSES

    submissions.write_voc(tmp_path / "a.tar.gz", results(voc), voc, "2012", "test", "comp3")
    with tarfile.open(tmp_path / "a.tar.gz") as archive:
        line = archive.extractfile(f"results/VOC2012/Main/comp3_det_test_{CLASSES[0]}.txt").read().decode().split()
    left, top, right, bottom = map(float, line[2:])
    assert [left - 1, top - 1, right, bottom] == [2, 3, 12, 8]


@pytest.mark.parametrize("lost", [9, 200])
def test_truncated_archives_are_refused(voc, tmp_path, lost):
    """Loses the checksum alone, or part of a file."""
    path = tmp_path / "a.tar.gz"
    submissions.write_voc(path, results(voc), voc, "2012", "test")
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises(DataError, match="is not a .tar.gz of text files"):
        submissions.check_voc(path, voc, "2012", "test")


def archive_of(path, texts):
    with tarfile.open(path, "w:gz") as archive:
        for name, text in texts.items():
            file = path.parent / "member.txt"
            file.write_text(text)
            archive.add(file, name)


@pytest.mark.parametrize(
    "line, complaint",
    [
        ("2012_000099 0.5 1 1 2 2", "an image of the set"),
        ("2012_000007 0.5 1 1 2", "an image of the set"),
        ("2012_000007 nan 1 1 2 2", "not a finite number"),
        ("2012_000007 0.5 0 1 2 2", "does not lie in its image of 30×20"),
        ("2012_000007 0.5 1 1 31 2", "does not lie in its image"),
    ],
)
def test_invalid_voc_submissions_are_refused(voc, tmp_path, line, complaint):
    names = [submissions.voc_member("2012", "test", "comp4", name) for name in voc.classes]
    archive_of(tmp_path / "a.tar.gz", {**dict.fromkeys(names, ""), names[3]: line})
    with pytest.raises(DataError, match=complaint):
        submissions.check_voc(tmp_path / "a.tar.gz", voc, "2012", "test")
    archive_of(tmp_path / "a.tar.gz", dict.fromkeys(names[1:], ""))
    with pytest.raises(DataError, match="comp4_det_test_aeroplane.txt is missing"):
        submissions.check_voc(tmp_path / "a.tar.gz", voc, "2012", "test")


def test_ilsvrc_det(det, tmp_path):
    submissions.write_det(tmp_path / "det.txt", results(det, (1, 200, 200)), det)
    submissions.check_det(tmp_path / "det.txt", det)
    assert (tmp_path / "det.txt").read_text().splitlines() == [
        "1 200 0.500000 0.00 0.00 29.00 19.00",
        "1 1 0.250000 2.00 3.00 11.00 7.00",
        "2 200 1.000000 0.00 4.50 15.00 7.50",
    ]


def test_boxes_narrower_than_a_pixel_are_submitted(voc, det, tmp_path):
    """The last pixel, which lines include, is at least the first one."""
    for source, file, write, check in (
        (voc, "comp4.tar.gz", submissions.write_voc, submissions.check_voc),
        (det, "det.txt", submissions.write_det, submissions.check_det),
    ):
        narrow = Results([source.result_id(0)], [1], [0.5], [[5, 6, 0.5, 0.25]])
        more = ("2012", "test") if source is voc else ()
        write(tmp_path / file, narrow, source, *more)
        check(tmp_path / file, source, *more)


def test_ilsvrc_vid(vid, tmp_path):
    """frame_index ILSVRC2015_VID_ID confidence xmin ymin xmax ymax, as in the devkit's readme, with 30 classes."""
    submissions.write_det(tmp_path / "vid.txt", results(vid, (1, 30, 9)), vid)
    submissions.check_det(tmp_path / "vid.txt", vid)
    assert (tmp_path / "vid.txt").read_text().splitlines() == [
        "1 30 0.500000 0.00 0.00 29.00 19.00",
        "1 1 0.250000 2.00 3.00 11.00 7.00",
        "2 9 1.000000 0.00 4.50 15.00 7.50",
    ]
    (tmp_path / "vid.txt").write_text("1 31 0.5 0 0 1 1\n")
    with pytest.raises(DataError, match=r"no such image \(1 to 2\) or class \(1 to 30\)"):
        submissions.check_det(tmp_path / "vid.txt", vid)


@pytest.mark.parametrize(
    "line, complaint",
    [
        ("3 1 0.5 0 0 1 1", "no such image"),
        ("1 201 0.5 0 0 1 1", "no such image .* or class"),
        ("1 1 0.5 0 0 1", "four corners"),
        ("1 1 0.5 0 0 1 one", "four corners"),
        ("2 1 0.5 0 0 16 1", "does not lie in its image of 16×16"),
        ("1 1 0.5 5 0 4 1", "does not lie in its image"),
    ],
)
def test_invalid_ilsvrc_submissions_are_refused(det, tmp_path, line, complaint):
    (tmp_path / "det.txt").write_text("1 1 0.5 0 0 1 1\n" + line + "\n")
    with pytest.raises(DataError, match=f"line 2: .*{complaint}"):
        submissions.check_det(tmp_path / "det.txt", det)


@pytest.mark.parametrize("ending", ["json", "zip"])
def test_pycocotools_loads_the_coco_submission(coco, tmp_path, ending):
    from pycocotools.coco import COCO

    path = tmp_path / f"detections_test-dev2015_resdet_results.{ending}"
    submissions.write_coco(path, results(coco, (3, 18, 18)))
    submissions.check_coco(path, coco)
    if ending == "zip":
        zipfile.ZipFile(path).extractall(tmp_path)
    truth = COCO(str(tmp_path / "info.json"))
    loaded = truth.loadRes(str(path.with_suffix(".json")))
    assert [(a["image_id"], a["category_id"], a["bbox"]) for a in loaded.anns.values()][:2] == [
        (42, 3, [2, 3, 10, 5]),
        (42, 18, [0, 0, 30, 20]),
    ]


def test_invalid_coco_submissions_are_refused(coco, tmp_path):
    path = tmp_path / "detections_test-dev2015_resdet_results.json"
    with pytest.raises(DataError, match="is not a name that COCO's server accepts"):
        submissions.write_coco(tmp_path / "mine.json", results(coco))
    submissions.write_coco(path, results(coco, (3, 18, 19)))
    with pytest.raises(DataError, match="category_id 19"):
        submissions.check_coco(path, coco)
    many = Results([42] * 101, [3] * 101, [0.5] * 101, [[0, 0, 1, 1]] * 101)
    submissions.write_coco(path, many)
    with pytest.raises(DataError, match="image 42 has 101 detections"):
        submissions.check_coco(path, coco)
    submissions.write_coco(path, Results([], [], [], []))
    submissions.check_coco(path, coco)


def test_the_best_detections_of_each_image():
    found = Results([7, 42, 7, 7, 42], [1, 2, 3, 4, 5], [0.1, 0.9, 0.8, 0.5, 0.2], [[0, 0, 1, 1]] * 5)
    best = submissions.best_of_each_image(found, 2)
    assert (best.image_ids.tolist(), best.category_ids.tolist()) == ([42, 7, 7, 42], [2, 3, 4, 5])
    assert len(submissions.best_of_each_image(Results([], [], [], []), 2)) == 0


def test_a_coco_submission_has_at_most_as_many_detections_per_image_as_the_server_reads(coco, tmp_path, monkeypatch):
    """Tiles or model.box.detections may yield more detections."""
    from types import SimpleNamespace

    from resdet import config
    from resdet.detection.evaluation import submit

    places = [f"data.root={tmp_path}", "data.val.annotations=info.json", "data.val.images=test2015"]
    experiment = config.load("coco_r50_fpn.yaml", *places, "train.device=cpu")
    many = Results([42] * 101, [3] * 101, np.arange(101) / 101, [[0, 0, 1, 1]] * 101)
    monkeypatch.setattr(submit, "check_and_detect", lambda *_: SimpleNamespace(results=many))
    path = tmp_path / "detections_test-dev2015_resdet_results.json"
    submit.submit_detections([torch.nn.Identity()], experiment, str(path))
    assert np.array_equal(Results.read(path).scores, many.scores[1:])


def test_keypoints_of_one_class_are_submitted(coco, tmp_path):
    """The test set has the categories of all objects, and the detector knows one of them, with another id."""
    import resdet
    from resdet import config
    from resdet.detection.evaluation.submit import submit_detections

    for number in (42, 7):
        picture(tmp_path / f"test2015/{number}.jpg", 30, 20)
    places = [f"data.root={tmp_path}", "data.val.annotations=info.json", "data.val.images=test2015", "data.workers=0"]
    small = ["model.backbone.name=resnet18", "model.pretrained=null", "model.neck.width=16", "model.box.width=32"]
    small += ["model.keypoint={width: 8, convs: 1}", "model.rpn.pre_nms=[100,100]", "model.rpn.post_nms=[50,50]"]
    small += ["model.input.min_size=64", "model.input.max_size=96", "train.device=cpu", "eval.score=0"]
    experiment = config.load("coco_keypoint_r50_fpn.yaml", *places, *small)
    torch.manual_seed(0)
    model = resdet.build(experiment, "model.num_classes=1")
    model.classes, model.category_ids = ["dog"], [1]
    path = tmp_path / "person_keypoints_test-dev2017_mine_results.json"
    submit_detections([model], experiment, str(path))
    entries = json.loads(path.read_text())
    assert {entry["category_id"] for entry in entries} == {18} and {entry["image_id"] for entry in entries} == {7, 42}
    assert all(len(entry["keypoints"]) == 3 * 17 for entry in entries)
    assert max(sum(entry["image_id"] == image for entry in entries) for image in (7, 42)) == 20  # that the server reads
    for entry in entries:
        del entry["keypoints"]
    path.write_text(json.dumps(entries))
    with pytest.raises(DataError, match="has no keypoints: write the detections of a keypoint detector"):
        submissions.check_coco(path, coco)
    plain = resdet.build("coco_r50_fpn.yaml", *small[:4], "model.num_classes=1")
    with pytest.raises(ConfigError, match="is the name of a submission of keypoints: give a keypoint detector"):
        submit_detections([plain], experiment, str(path))


def test_missing_sets_are_refused(tmp_path):
    with pytest.raises(DataError, match="ImageSets/Main/test.txt is missing"):
        VocConfig("voc", str(tmp_path), val_sets=["2012_test"]).open_test()
    with pytest.raises(ConfigError, match="needs one set"):
        VocConfig("voc", str(tmp_path), val_sets=["2007_test", "2012_test"]).open_test()


def untrained(voc, tmp_path, count):
    """Provides detectors with the classes of `voc`, and their experiment."""
    import resdet
    from resdet import config
    from resdet.detection.task import DETECTOR

    sizes = [word for word in DETECTOR if "num_classes" not in word]
    places = [f"data.root={tmp_path / 'VOCdevkit'}", "data.val_sets=[2012_test]", "data.workers=0"]
    experiment = config.load("voc_r101.yaml", *sizes, *places, "train.device=cpu", "eval.score=0")
    torch.manual_seed(0)
    models = [resdet.build(experiment) for _ in range(count)]
    for model in models:
        model.classes, model.category_ids = voc.classes, voc.category_ids
    return models, experiment


@pytest.mark.parametrize("count", [1, 2])
def test_submission_of_untrained_detectors(voc, tmp_path, capsys, count):
    """The file of `resdet evaluate --submission` has as many lines as the printed number of detections."""
    from resdet.detection.evaluation.submit import submit_detections

    models, experiment = untrained(voc, tmp_path, count)
    path = tmp_path / "comp4.tar.gz"
    submit_detections(models, experiment, str(path))
    with tarfile.open(path) as archive:
        lines = [line for member in archive for line in archive.extractfile(member).read().decode().splitlines()]
    assert lines and f"{len(lines)} detections in 2 images" in capsys.readouterr().out
    assert {line.split()[0] for line in lines} <= {"2012_000007", "2012_000003"}


def test_a_submission_notes_classes_with_other_ids(voc, tmp_path, capsys):
    from resdet.detection.evaluation.submit import submit_detections

    (model,), experiment = untrained(voc, tmp_path, 1)
    model.category_ids = [100 + id for id in voc.category_ids]
    experiment.eval.score = 1.0
    submit_detections([model], experiment, str(tmp_path / "comp4.tar.gz"))
    said = capsys.readouterr().out
    assert "classes are matched by name: aeroplane has category id 1 in the data and 101 in the model" in said
    assert "0 detections in 2 images" in said
