"""Tests that finished runs replace a training only if their settings are the same."""

from dataclasses import replace

import pytest
import torch
from reproduce.finished_runs import write_last

from resdet import config
from resdet.detection.four_step_training import experiment_of
from resdet.errors import ConfigError
from resdet.reproduce.plan import Setting, train_overrides
from resdet.reproduce.run_status import is_finished
from resdet.reproduce.trainings import TRAININGS


def write(folder, experiment, step=10, waited=0, **changed):
    """Writes the checkpoint of a run at this step of ten, `waited` evaluations after the best one."""
    content = config.plain(config.to_dict(experiment))
    content["model"] |= changed
    write_last(folder, content, step, waited=waited)


def leave(name, setting, *state, **changed):
    """Writes what `resdet train` would leave of a training in one part."""
    training = TRAININGS[name]
    experiment = config.load(training.config, *train_overrides(training, setting))
    write(setting.folder(training), experiment, *state, **changed)
    return training


def test_a_run_is_finished_at_its_last_step(tmp_path):
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
def test_runs_with_other_settings_are_rejected(tmp_path, before, told):
    setting = Setting(tmp_path)
    training = leave("cifar10_resnet20", replace(setting, **before))
    with pytest.raises(ConfigError) as error:
        is_finished(training, setting)
    sentence = str(error.value)
    assert sentence.startswith(f"{tmp_path / 'cifar10_resnet20'} holds a finished run with other settings (")
    assert told in sentence and "another --out, or move that folder away" in sentence and "\n" not in sentence


def test_an_interrupted_run_may_have_other_settings(tmp_path):
    training = leave("cifar10_resnet20", Setting(tmp_path, extra=("optim.lr=0.2",)), 9)
    assert not is_finished(training, Setting(tmp_path))


def test_a_run_after_early_stopping_is_finished(tmp_path):
    setting = Setting(tmp_path, extra=("train.patience=3",))
    assert not is_finished(leave("cifar10_resnet20", setting, 5, 2), setting)
    assert is_finished(leave("cifar10_resnet20", setting, 5, 3), setting)


def test_settings_without_effect_on_the_weights_may_differ(tmp_path):
    """Checks data folder, device, logging and names; and the proposer, whose experiment is embedded in an R-CNN's."""
    words = ("train.device=cuda", "train.log_every=7", "train.checkpoint_every=3", "train.compile=true")
    words += ("train.channels_last=false", "data.workers=1", "name=other")
    setting = Setting(tmp_path, tmp_path / "elsewhere", extra=words)
    training = leave("imagenet_loc_rcnn_r101", setting, proposer={"task": "localization"})
    assert is_finished(training, Setting(tmp_path))


def test_keys_missing_in_older_runs_have_their_defaults(tmp_path):
    training = leave("cifar10_resnet20", Setting(tmp_path))
    path = tmp_path / "cifar10_resnet20/last.pth"
    content = torch.load(path, weights_only=True)
    del content["experiment"]["optim"]["clip_norm"]
    torch.save(content, path)
    assert is_finished(training, Setting(tmp_path))


def test_alternating_training_is_finished_with_its_last_part(tmp_path):
    training, setting = TRAININGS["voc_r101_alternating"], Setting(tmp_path)
    whole = config.load(training.config, *train_overrides(training, setting))
    write(tmp_path / training.name / "4_regions", experiment_of("4_regions", whole))
    assert is_finished(training, setting)
    with pytest.raises(ConfigError, match="train.length is 60000.0 there and 7.0 here"):
        is_finished(training, replace(setting, extra=("alternating.regions.length=7",)))
