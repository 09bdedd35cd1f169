"""Tests the rows of the tables: the paper's numbers as in shared/PAPER.md, existing configs, and the training order."""

import re
from pathlib import Path

import pytest

from resdet import config
from resdet.reproduce.plan import (
    Setting,
    cost_of,
    evaluation_of,
    processes_for,
    train_overrides,
    train_words,
    trainings_for,
)
from resdet.reproduce.tables import FIGURES, ROWS
from resdet.reproduce.trainings import TRAININGS

PAPER = Path(__file__).parents[2].parent / "shared/PAPER.md"
# Copied row by row from the paper's tables (for table 1 and the segmentation, from its text and from MNC's paper).
PRINTED = """
table1/resnet18 multiply_adds 1.8
table1/resnet34 multiply_adds 3.6
table1/resnet50 multiply_adds 3.8
table1/resnet101 multiply_adds 7.6
table1/resnet152 multiply_adds 11.3
table2/plain18 error 27.94
table2/resnet18 error 27.88
table2/plain34 error 28.54
table2/resnet34 error 25.03
table3/vgg16 error 28.07 top5_error 9.33
table3/plain34 error 28.54 top5_error 10.02
table3/resnet34a error 25.03 top5_error 7.76
table3/resnet34b error 24.52 top5_error 7.46
table3/resnet34c error 24.19 top5_error 7.40
table3/resnet50 error 22.85 top5_error 6.71
table3/resnet101 error 21.75 top5_error 6.05
table3/resnet152 error 21.43 top5_error 5.71
table4/resnet34b error 21.84 top5_error 5.71
table4/resnet34c error 21.53 top5_error 5.60
table4/resnet50 error 20.74 top5_error 5.25
table4/resnet101 error 19.87 top5_error 4.60
table4/resnet152 error 19.38 top5_error 4.49
table5/ensemble top5_error 3.57
table6/resnet20 error 8.75
table6/resnet32 error 7.51
table6/resnet44 error 7.17
table6/resnet56 error 6.97
table6/resnet110 error 6.43
table6/resnet1202 error 7.93
table7/vgg16_07 mAP 73.2
table7/vgg16_12 mAP 70.4
table7/resnet101_07 mAP 76.4
table7/resnet101_07_alternating mAP 76.4
table7/resnet101_12 mAP 73.8
table8/vgg16 AP50 41.5 AP 21.2
table8/resnet101 AP50 48.4 AP 27.2
table8/resnet101_alternating AP50 48.4 AP 27.2
table9/vgg16 AP50 41.5 AP 21.2
table9/resnet101 AP50 48.4 AP 27.2
table9/refinement AP50 49.9 AP 29.9
table9/context AP50 51.1 AP 30.0
table9/scales AP50 53.8 AP 32.5
table9/context_dev AP50 53.3 AP 32.2
table9/scales_dev AP50 55.7 AP 34.9
table9/ensemble AP50 59.0 AP 37.4
table10/vgg16 mAP 73.2
table10/resnet101 mAP 76.4
table10/plus mAP 85.6
table11/vgg16 mAP 70.4
table11/resnet101 mAP 73.8
table11/plus mAP 83.8
table12/single mAP 60.5
table12/single_test mAP 58.8
table12/ensemble mAP 63.6
table12/ensemble_test mAP 62.1
table13/vgg16 loc_error 33.1
table13/crop loc_error 13.3
table13/dense loc_error 11.7
table13/classes top5_loc_error 14.4 top5_error 4.6
table13/rcnn top5_loc_error 10.6
table13/ensemble top5_loc_error 8.9
table14/val top5_loc_error 8.9
table14/test top5_loc_error 9.0
segmentation/mnc_r101 mask_AP 24.6 mask_AP50 44.3
segmentation/mask_r101_c4
"""


def test_keys_are_unique_and_all_tables_exist():
    assert len({row.key for row in ROWS}) == len(ROWS)
    assert {row.table for row in ROWS} == {f"table{n}" for n in range(1, 15)} | {"segmentation"}
    assert set(FIGURES) == {*(f"figure{n}" for n in (1, 4, 6, 7)), "detections_voc", "detections_coco"}


def test_every_row_has_the_numbers_of_the_paper():
    printed = {key: words for key, *words in map(str.split, PRINTED.strip().splitlines())}
    assert {key: dict(zip(words[::2], map(float, words[1::2]))) for key, words in printed.items()} == {
        row.key: row.paper for row in ROWS
    }


@pytest.mark.skipif(not PAPER.exists(), reason="shared/PAPER.md does not lie beside the repository")
def test_every_number_is_in_paper_md():
    told = {float(number) for number in re.findall(r"\d+\.\d+|\d+", PAPER.read_text())}
    assert [(row.key, number) for row in ROWS for number in row.paper.values() if number not in told] == []


@pytest.mark.parametrize("name", TRAININGS)
def test_each_training_is_a_config_with_a_cost(name):
    training = TRAININGS[name]
    experiment = config.load(training.config, *training.overrides)
    assert cost_of(training.config) != "unknown"
    if experiment.task == "localization_rcnn":
        assert training.proposer
    assert all(before in TRAININGS for before in training.before)


def test_initial_weights_have_the_same_backbone():
    for training in TRAININGS.values():
        if training.start:
            nets = [config.load(t.config, *t.overrides).model.backbone for t in (training, TRAININGS[training.start])]
            assert nets[0].name == nets[1].name and nets[0].stride_in == nets[1].stride_in, training.name


@pytest.mark.parametrize("row", [row for row in ROWS if not row.counted], ids=lambda row: row.key)
def test_evaluation_overrides_fit_the_config(row):
    """Parses the overrides as `resdet evaluate` would, with full and with small settings."""
    training = TRAININGS[row.nets[0]]
    for small in (False, True):
        words = evaluation_of(row, Setting(small=small)).words
        assert all(net in TRAININGS for net in (*row.nets, *row.classifiers))
        overrides = [word for word in words if "=" in word]
        tested = config.load(words[words.index("--config") + 1], *overrides)
        trained = config.load(training.config, *train_overrides(training, Setting(small=small)))
        assert tested.task == trained.task and tested.data.name == trained.data.name
        if trained.data.name == "voc":
            assert tested.data.val_sets == trained.data.val_sets


def test_the_evaluation_of_given_weights_uses_the_settings_of_the_row():
    """Checks that data and metric come from the row, and that only general overrides are added."""
    (row,) = [row for row in ROWS if row.key == "table11/resnet101"]
    setting = Setting(given={"voc12_r101": "mine.pth"}, extra=("data.workers=1", "eval.metric=coco"))
    words = list(evaluation_of(row, setting).words)
    assert words[:5] == ["evaluate", "--weights", "mine.pth", "--config", "voc_r101.yaml"]
    tested = config.load("voc_r101.yaml", *[word for word in words if "=" in word])
    assert tested.data.val_sets == ["2012_val"] and tested.data.root == "datasets/VOCdevkit"
    assert tested.data.workers == 1 and tested.eval.metric == "voc_area"


@pytest.mark.parametrize(
    "name, wanted, shared",
    [
        ("cifar10_resnet20", 8, 8),
        ("cifar10_resnet20", 6, 4),
        ("voc_r101", 8, 1),
        ("voc_r101_alternating", 2, 1),
        ("coco_r101_alternating", 16, 8),
    ],
)
def test_processes_share_a_batch_evenly(name, wanted, shared):
    """Checks batches of 128 images; 1; 1 and 2; 8 and 16 in the RPN and the region steps (appendix A)."""
    assert processes_for(TRAININGS[name], Setting(processes=wanted)) == shared


def test_accumulation_limits_the_number_of_processes():
    setting = Setting(processes=8, extra=("train.accumulate=32",))
    assert processes_for(TRAININGS["cifar10_resnet20"], setting) == 4


@pytest.mark.parametrize("name", TRAININGS)
def test_training_overrides_fit_the_config(name):
    for small in (False, True):
        words = train_words(TRAININGS[name], Setting(small=small))
        config.load(TRAININGS[name].config, *[word for word in words if "=" in word])


def test_required_trainings_come_first_and_once():
    order = [training.name for training in trainings_for(["voc_r101_plus", "imagenet_loc_rcnn_r101", "voc_r101"])]
    assert order == [
        "imagenet_r101", "coco_r101_context_trainval", "voc_r101_plus", "imagenet_loc_r101", "imagenet_loc_rcnn_r101",
        "voc_r101",
    ]  # fmt: skip


def test_given_weights_replace_all_trainings_before_them():
    given = {"coco_r101_context_trainval": "coco.pth"}
    assert [training.name for training in trainings_for(["voc_r101_plus"], given)] == ["voc_r101_plus"]
    words = train_words(TRAININGS["voc_r101_plus"], Setting(given=given))
    assert words[words.index("--init") + 1] == "coco.pth"


def test_equal_evaluations_of_two_tables_share_a_file():
    plain = [row for row in ROWS if row.nets == ("imagenet_plain34",)]
    assert {row.table for row in plain} == {"table2", "table3"}
    assert len({evaluation_of(row, Setting()).file for row in plain}) == 1


def test_a_cost_over_several_lines_is_read_completely():
    cost = cost_of("imagenet_loc_rcnn_r101.yaml")
    assert cost.startswith("once, before the first step: 200 proposals") and cost.endswith("only one, at the end")
