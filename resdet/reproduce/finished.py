"""Whether a training has come to its end and is the one that is wanted: another run may lie in its place."""

from typing import Any

from resdet import config
from resdet.errors import ConfigError
from resdet.reproduce.plan import Setting, train_overrides
from resdet.reproduce.records import Training

# What a run may differ in and give the same net.
INDIFFERENT = {
    "name", "data.root", "data.workers", "model.proposer", "train.device", "train.log_every", "train.checkpoint_every",
    "train.compile", "train.compile_mode", "train.channels_last",
}  # fmt: skip
NAMED = 3  # keys that differ, in the sentence


def is_finished(training: Training, setting: Setting) -> bool:
    """ConfigError where a run of other settings is."""
    from resdet.engine import checkpoint

    folder = setting.folder(training) / training.part
    if not (folder / checkpoint.LAST).exists():
        return False
    content = checkpoint.read_last(folder)
    if not checkpoint.has_ended(content):
        return False
    check_same(content["experiment"], training, setting)
    return True


def check_same(found: dict, training: Training, setting: Setting) -> None:
    folder = setting.folder(training)
    before = config.to_dict(config.from_dict(found, f"the config inside {folder}"))
    apart = config.differences(before, config.to_dict(planned(training, setting)))
    told = [f"{key} is {old} there and {new} here" for key, (old, new) in apart.items() if key not in INDIFFERENT]
    if told:
        raise ConfigError(
            f"{folder} holds a finished run of other settings ({'; '.join(told[:NAMED])}): give the same ones, "
            "another --out, or move that folder away."
        )


def planned(training: Training, setting: Setting) -> Any:
    """The experiment that `resdet train` is given; of alternating training its last part."""
    experiment = config.load(training.config, *train_overrides(training, setting))
    if not training.part:
        return experiment
    from resdet.detection.alternating import experiment_of

    return experiment_of(training.part, experiment)
