"""Checks whether a training is finished, and that its run folder has the same settings."""

from typing import Any, cast

from resdet import config
from resdet.config.experiment import Experiment
from resdet.errors import ConfigError, spelled
from resdet.reproduce.plan import Setting, train_overrides
from resdet.reproduce.records import Training

# Keys that do not affect the trained net.
IGNORED = {
    "name", "data.root", "data.workers", "model.proposer", "train.device", "train.log_every", "train.checkpoint_every",
    "train.compile", "train.compile_mode", "train.channels_last",
}  # fmt: skip
MAX_NAMED = 3  # maximum number of differing keys in the error message


def is_finished(training: Training, setting: Setting) -> bool:
    """Whether the training is finished; raises a ConfigError if its folder contains a run with other settings."""
    from resdet.engine import checkpoint

    folder = setting.folder(training) / training.part
    if not (folder / checkpoint.LAST).exists():
        return False
    content = checkpoint.read_last(folder)
    if not checkpoint.has_ended(content):
        return False
    check_same(content["experiment"], training, setting)
    return True


def check_same(experiment: dict[str, Any], training: Training, setting: Setting) -> None:
    folder = setting.folder(training)
    before = config.to_dict(config.from_dict(experiment, f"the config inside {folder}"))
    changes = config.differences(before, config.to_dict(planned(training, setting)))
    sentences = [
        f"{key} is {spelled(old)} there and {spelled(new)} here"
        for key, (old, new) in changes.items()
        if key not in IGNORED
    ]
    if sentences:
        raise ConfigError(
            f"{folder} holds a finished run with other settings ({'; '.join(sentences[:MAX_NAMED])}): give the same "
            "settings or another --out, or move that folder away."
        )


def planned(training: Training, setting: Setting) -> Experiment:
    """Returns the experiment of the `resdet train` command; for alternating training, its last step."""
    experiment = config.load(training.config, *train_overrides(training, setting))
    if not training.part:
        return experiment
    from resdet.detection.config import DetectionExperiment
    from resdet.detection.four_step_training import experiment_of

    return experiment_of(training.part, cast(DetectionExperiment, experiment))
