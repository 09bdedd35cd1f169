"""Finished runs stand for a training only where they were run with its settings."""

from dataclasses import replace

import pytest
import torch
from reproduce.finished_runs import write_last

from resdet import config
from resdet.detection.alternating import experiment_of
from resdet.errors import ConfigError
from resdet.reproduce.finished import is_finished
from resdet.reproduce.plan import Setting, train_overrides
from resdet.reproduce.trainings import TRAININGS


def write(folder, experiment, step=10, waited=0, **changed):
    """As a run of so many steps of ten leaves it, `waited` evaluations after its best."""
    content = config.plain(config.to_dict(experiment))
    content["model"] |= changed
    write_last(folder, content, step, waited=waited)


def leave(name, setting, *state, **changed):
    """What `resdet train` would, of a training in one part."""
    training = TRAININGS[name]
    experiment = config.load(training.config, *train_overrides(training, setting))
    write(setting.folder(training), experiment, *state, **changed)
    return training


def test_the_run_of_a_training(tmp_path):
    setting = Setting(tmp_path)
    assert not is_finished(TRAININGS["cifar10_resnet20"], setting)
    assert not is_finished(leave("cifar10_resnet20", setting, 9), setting)
    assert is_finished(leave("cifar10_resnet20", setting), setting)


@pytest.mark.parametrize(
    "before, told",
    [
        ({"extra": ("train.length=100",)}, "train.length is 100.0 there and 64000.0 here"),
        ({"extra": ("optim.lr=0.2", "train.seed=3")}, "is 0.2 there and 0.1 here; train.seed is 3 there and 0 here"),
        ({"small": True}, "data.name is tiny_shapes there and cifar10 here"),
    ],
)
def test_runs_of_other_settings_are_refused(tmp_path, before, told):
    setting = Setting(tmp_path)
    training = leave("cifar10_resnet20", replace(setting, **before))
    with pytest.raises(ConfigError) as error:
        is_finished(training, setting)
    sentence = str(error.value)
    assert sentence.startswith(f"{tmp_path / 'cifar10_resnet20'} holds a finished run with other settings (")
    assert told in sentence and "another --out, or move that folder away" in sentence and "\n" not in sentence


def test_one_that_was_cut_goes_on_with_other_settings(tmp_path):
    training = leave("cifar10_resnet20", Setting(tmp_path, extra=("optim.lr=0.2",)), 9)
    assert not is_finished(training, Setting(tmp_path))


def test_one_that_stopped_early_is_finished(tmp_path):
    setting = Setting(tmp_path, extra=("train.patience=3",))
    assert not is_finished(leave("cifar10_resnet20", setting, 5, 2), setting)
    assert is_finished(leave("cifar10_resnet20", setting, 5, 3), setting)


def test_what_gives_the_same_net_may_differ(tmp_path):
    """Where the data lie, what computes it, how often it is told; and the proposer, of which an R-CNN keeps all."""
    words = ("train.device=cuda", "train.log_every=7", "train.checkpoint_every=3", "train.compile=true")
    words += ("train.channels_last=false", "data.workers=1", "name=other")
    setting = Setting(tmp_path, tmp_path / "elsewhere", extra=words)
    training = leave("imagenet_loc_rcnn_r101", setting, proposer={"task": "localization"})
    assert is_finished(training, Setting(tmp_path))


def test_what_older_runs_do_not_say_was_as_it_is_by_default(tmp_path):
    training = leave("cifar10_resnet20", Setting(tmp_path))
    path = tmp_path / "cifar10_resnet20/last.pth"
    content = torch.load(path, weights_only=True)
    del content["experiment"]["optim"]["clip_norm"]
    torch.save(content, path)
    assert is_finished(training, Setting(tmp_path))


def test_of_alternating_training_the_last_part_counts(tmp_path):
    training, setting = TRAININGS["voc_r101_alternating"], Setting(tmp_path)
    whole = config.load(training.config, *train_overrides(training, setting))
    write(tmp_path / training.name / "4_regions", experiment_of("4_regions", whole))
    assert is_finished(training, setting)
    with pytest.raises(ConfigError, match="train.length is 60000.0 there and 7.0 here"):
        is_finished(training, replace(setting, extra=("alternating.regions.length=7",)))
