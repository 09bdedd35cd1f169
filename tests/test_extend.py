"""Runs the examples of extension modules from a folder outside the package."""

import csv
import json
import shutil

import cv2
import numpy as np
import pytest
from running import REPOSITORY, TINY

from resdet import extension
from resdet.errors import ConfigError

EXAMPLES = REPOSITORY / "examples" / "extend"
MODULES = ("backbone", "neck", "heads", "losses", "data_format", "evaluator", "branch")
DETECTOR = [
    *("model.backbone=stride_net", "model.backbone.width=8", "model.neck=lateral", "model.neck.width=16"),
    *(
        "task=detection_quality",
        "model.quality.width=8",
        "model.box.head=average",
        "model.box.width=16",
        "model.box.loss=l2",
        "model.box.class_loss=focal",
    ),
    *("eval.metric=loose", "model.rpn.channels=16", "model.input.min_size=64", "model.input.max_size=64"),
    *("model.rpn.anchors.sizes=[[8],[16],[32],[64]]", "data.name=boxes_csv", "data.root=set", "data.workers=0"),
    *("data.augment.min_size=[64]", "data.augment.max_size=64", "model.pretrained=null", "model.num_classes=null"),
    *("train.unit=steps", "train.length=2", "train.batch=2", "train.evaluate_every=2", "train.precision=fp32"),
    *("train.checkpoint_every=2", "train.log_every=1", "schedule.warmup=0", "schedule.milestones=[]"),
]


@pytest.fixture
def examples(tmp_path):
    """Copies the examples and writes a small data set in the format of `data_format.py` to the working directory."""
    for file in EXAMPLES.glob("*.py"):
        shutil.copy(file, tmp_path)
    (tmp_path / "set").mkdir()
    for split in ("train", "val"):
        with (tmp_path / "set" / f"{split}.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["file", "class", "left", "top", "right", "bottom"])
            for number in range(4):
                image = np.full((64, 64, 3), 30, np.uint8)
                image[8 * number : 8 * number + 24, 10:40] = 200
                cv2.imwrite(str(tmp_path / "set" / f"{split}{number}.png"), image)
                rows.writerow([f"{split}{number}.png", "box", 10, 8 * number, 40, 8 * number + 24])
    return tmp_path


def test_a_detector_of_custom_parts(examples, fork):
    """Trains with `imports` in the config; evaluates and predicts with `--import`."""
    imports = f"imports=[{','.join(MODULES)}]"
    words = [*DETECTOR, imports, "model.mask=null", "--out", "run"]
    assert fork("train", "--config", "custom.yaml", *words).returncode == 0
    given = [word for module in MODULES for word in ("--import", module)]
    lines = [json.loads(line) for line in (examples / "run/metrics.jsonl").read_text().splitlines()]
    assert any("quality" in key for line in lines for key in line)
    finished = fork("evaluate", "--weights", "run/best.pth", *given)
    assert finished.returncode == 0 and "mAP" in finished.stdout
    assert fork("predict", "--weights", "run/best.pth", *given, "set/val0.png", "--json", "r.json").returncode == 0
    assert json.loads((examples / "r.json").read_text())[0]["height"] == 64


def test_loading_a_checkpoint_names_the_missing_module(examples, fork):
    """Checks that loading a checkpoint imports none of the modules it names, since an untrusted file may name any."""
    words = [*TINY, "model.backbone=stride_net", "model.backbone.width=4", "train.length=1", "train.unit=steps"]
    assert fork("train", *words, "--import", "backbone", "--out", "run").returncode == 0
    finished = fork("predict", "--weights", "run/last.pth", "set/val0.png")
    assert finished.returncode == 2
    assert "needs the module backbone" in finished.stderr and "--import backbone" in finished.stderr
    assert fork("predict", "--weights", "run/last.pth", "--import", "backbone", "set/val0.png").returncode == 0


def test_a_custom_mask_head(examples, fork):
    words = ["config", "--config", "shapes_mask_r18_fpn.yaml", "--import", "heads", "model.mask.head=plain"]
    assert "head: plain" in fork(*words).stdout
    finished = fork(*words[:3], "model.mask.head=plain")
    assert finished.returncode == 2 and "model.mask.head: there is no mask head named 'plain'" in finished.stderr


def test_a_custom_neck_replaces_one_with_other_options(examples, fork):
    """Replaces the FPN of shapes_mask_r18_fpn.yaml, which sets a norm, by a neck without that option."""
    words = ["config", "--config", "shapes_mask_r18_fpn.yaml", "--import", "neck", "model.neck=lateral"]
    finished = fork(*words, "model.neck.width=64")
    assert finished.returncode == 0 and "name: lateral" in finished.stdout, finished.stderr


def test_nets_lists_a_custom_backbone(examples, fork):
    finished = fork("nets", "stride_net", "resnet18", "--import", "backbone")
    assert finished.returncode == 0 and "c5:32" in finished.stdout, finished.stderr
    assert finished.stdout.count("stride_net") == 1


def test_a_custom_task(examples, fork):
    words = [*TINY, "task=sharp_classification", "model.temperature=0.5", "train.length=1", "train.unit=steps"]
    assert fork("train", *words, "--import", "task", "--out", "run").returncode == 0
    finished = fork("predict", "--weights", "run/last.pth", "--import", "task", "set/val0.png")
    assert finished.returncode == 0, finished.stderr


def test_a_logger_and_a_callback_by_class(examples, fork):
    """Names the classes as module:Class instead of `imports`; the checkpoint then loads without these modules."""
    words = [*TINY, "train.length=4", "train.evaluate_every=2"]
    observers = ["train.loggers=[csv,logger:Markdown]", "train.callbacks=[callback:Minutes]"]
    finished = fork("train", *words, *observers, "--out", "run")
    assert finished.returncode == 0, finished.stderr
    text = (examples / "run/metrics.md").read_text()
    assert text.startswith("# shapes_resnet20, 4 steps") and text.endswith("Complete.\n")
    assert [line.split(":")[0] for line in text.splitlines() if line[:1] == "-"] == ["- step 2", "- step 4"]
    assert "the best so far is run/best.pth" in finished.stdout and "tensorboard" not in finished.stdout
    assert not (examples / "run/tensorboard").exists() and (examples / "run/metrics.csv").exists()
    assert fork("predict", "--weights", "run/best.pth", "set/val0.png").returncode == 0


def test_a_logger_and_a_callback_by_name(examples, fork):
    words = [
        *TINY,
        "train.length=2",
        "imports=[logger,callback]",
        "train.loggers=[markdown]",
        "train.callbacks=[minutes]",
    ]
    finished = fork("train", *words, "--out", "run")
    assert finished.returncode == 0 and (examples / "run/metrics.md").exists(), finished.stderr


@pytest.mark.parametrize(
    "setting, sentence",
    [
        (
            "train.loggers=[tensorbord]",
            "train.loggers: there is no logger named 'tensorbord': did you mean tensorboard?",
        ),
        (
            "train.callbacks=[minutes]",
            "train.callbacks: there is no callback named 'minutes': name its class as module:Cl",
        ),
        ("train.callbacks=[nowhere:Minutes]", "train.callbacks: cannot import the module nowhere"),
        ("train.loggers=[logger:Markdwn]", "train.loggers: the module logger has no 'Markdwn': correct the name."),
        ("train.loggers=[csv,csv]", 'train.loggers is ["csv", "csv"]: name each once.'),
    ],
)
def test_wrong_logger_and_callback_names_are_refused_before_training(examples, fork, setting, sentence):
    finished = fork("train", *TINY, setting, "--out", "run")
    assert finished.returncode == 2 and sentence in finished.stderr
    assert "steps of" not in finished.stderr and not (examples / "run").exists()


def test_a_missing_module_is_refused(examples, fork):
    finished = fork("config", "--config", "shapes_resnet20.yaml", "--import", "nowhere")
    assert finished.returncode == 2 and "--import: cannot import the module nowhere" in finished.stderr
    finished = fork("config", "--config", "shapes_resnet20.yaml", "imports=[nowhere]")
    assert (
        finished.returncode == 2 and "override imports=[nowhere]: cannot import the module nowhere" in finished.stderr
    )
    finished = fork("config", "--config", "shapes_resnet20.yaml", "imports=nowhere")
    assert finished.returncode == 2 and "imports is" in finished.stderr


@pytest.mark.parametrize(
    "path, remedy",
    [("parts/mine.py", "give mine, with parts in PYTHONPATH"), ("mine.py", "give mine"), ("a/b", "give b,")],
)
def test_a_path_in_the_place_of_a_module_is_refused(path, remedy):
    with pytest.raises(ConfigError, match=f"--import: {path} is a path, not the name of a module: {remedy}"):
        extension.import_modules([path], "--import")


@pytest.mark.parametrize("given", [":Minutes", ".minutes:Minutes"])
def test_an_incomplete_module_name_is_refused(given):
    sentence = r"train.callbacks: '(\.minutes)?' is not the name of a module: give one such as"
    with pytest.raises(ConfigError, match=sentence):
        extension.load_object(given, "train.callbacks")


def test_each_example_is_short():
    for file in EXAMPLES.glob("*.py"):
        assert len(file.read_text().splitlines()) <= 60, file
