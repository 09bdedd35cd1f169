"""The rows: the paper's figures as shared/PAPER.md has them, configs that exist, trainings in an order that works."""

import re
from pathlib import Path

import pytest

from resdet import config
from resdet.reproduce.plan import Setting, cost_of, evaluation_of, train_words, trainings_for
from resdet.reproduce.tables import FIGURES, ROWS
from resdet.reproduce.trainings import TRAININGS

PAPER = Path(__file__).parents[2].parent / "shared/PAPER.md"
SIGHTED = {
    "table6/resnet110": [6.43],
    "segmentation/mnc_r101": [24.6, 44.3],
    "table13/ensemble": [8.9],
    "table12/single": [60.5],
    "table3/resnet34b": [24.52, 7.46],
}


def test_the_keys_differ_and_all_tables_are_there():
    assert len({row.key for row in ROWS}) == len(ROWS)
    assert {row.table for row in ROWS} == {f"table{n}" for n in range(1, 15)} | {"segmentation"}
    assert set(FIGURES) == {*(f"figure{n}" for n in (1, 4, 6, 7)), "detections_voc", "detections_coco"}


@pytest.mark.parametrize("key", SIGHTED)
def test_figures_that_were_copied_by_eye(key):
    (row,) = [row for row in ROWS if row.key == key]
    assert list(row.paper.values()) == SIGHTED[key]


@pytest.mark.skipif(not PAPER.exists(), reason="shared/PAPER.md does not lie beside the repository")
def test_every_figure_stands_in_the_list_of_the_papers():
    told = {float(number) for number in re.findall(r"\d+\.\d+|\d+", PAPER.read_text())}
    assert [(row.key, number) for row in ROWS for number in row.paper.values() if number not in told] == []


@pytest.mark.parametrize("name", TRAININGS)
def test_each_training_is_a_config_with_a_cost(name):
    training = TRAININGS[name]
    experiment = config.load(training.config, *training.overrides)
    assert cost_of(training.config) != "not told"
    if experiment.task == "localization_rcnn":
        assert training.proposer
    assert all(before in TRAININGS for before in training.before)


def test_a_start_has_the_backbone_that_goes_on():
    for training in TRAININGS.values():
        if training.start:
            nets = [config.load(t.config, *t.overrides).model.backbone for t in (training, TRAININGS[training.start])]
            assert nets[0].name == nets[1].name and nets[0].stride_in == nets[1].stride_in, training.name


@pytest.mark.parametrize("row", [row for row in ROWS if not row.counted], ids=lambda row: row.key)
def test_its_evaluation_is_a_command_that_the_config_takes(row):
    """Overrides as `resdet evaluate` would read them, in full size and in miniature."""
    training = TRAININGS[row.nets[0]]
    for small in (False, True):
        words = evaluation_of(row, Setting(small=small)).words
        assert all(net in TRAININGS for net in (*row.nets, *row.classifiers))
        overrides = [word for word in words if "=" in word]
        config.load(row.test_config or training.config, *overrides)


@pytest.mark.parametrize("name", TRAININGS)
def test_its_training_is_a_command_that_the_config_takes(name):
    for small in (False, True):
        words = train_words(TRAININGS[name], Setting(small=small))
        config.load(TRAININGS[name].config, *[word for word in words if "=" in word])


def test_what_is_started_from_comes_first_and_once():
    order = [training.name for training in trainings_for(["voc_r101_plus", "imagenet_loc_rcnn_r101", "voc_r101"])]
    assert order == [
        "imagenet_r101", "coco_r101_context_trainval", "voc_r101_plus", "imagenet_loc_r101", "imagenet_loc_rcnn_r101",
        "voc_r101",
    ]  # fmt: skip


def test_given_weights_spare_all_trainings_before_them():
    given = {"coco_r101_context_trainval": "coco.pth"}
    assert [training.name for training in trainings_for(["voc_r101_plus"], given)] == ["voc_r101_plus"]
    words = train_words(TRAININGS["voc_r101_plus"], Setting(given=given))
    assert words[words.index("--init") + 1] == "coco.pth"


def test_equal_tests_of_two_tables_are_one():
    plain = [row for row in ROWS if row.nets == ("imagenet_plain34",)]
    assert {row.table for row in plain} == {"table2", "table3"}
    assert len({evaluation_of(row, Setting()).file for row in plain}) == 1


def test_a_cost_is_read_over_lines_and_no_further():
    told = cost_of("imagenet_loc_rcnn_r101.yaml")
    assert told.startswith("before the first step 200 proposals") and told.endswith("but one, at the end")
