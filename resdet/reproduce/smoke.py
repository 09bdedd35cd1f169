"""Overrides that run the rows in miniature on generated data.

Nets become the smallest of their kind; VGG-16 becomes ResNet-18, since its linear layers alone have 120 million
weights. All trainings share one folder per kind of generated data.
"""

from collections.abc import Sequence
from pathlib import Path

from resdet.config.experiment import Experiment
from resdet.tasks import tasks

STEPS = 2
COMMON = (
    "train.unit=steps", f"train.length={STEPS}", f"train.evaluate_every={STEPS}", f"train.checkpoint_every={STEPS}",
    "train.log_every=1", "train.precision=fp32", "train.device=cpu",
)  # fmt: skip


def data_words(experiment: Experiment, out: Path) -> list[str]:
    """Returns overrides that select generated data for the experiment's task."""
    return tasks[experiment.task].smoke_data(experiment, out)


def train_words(experiment: Experiment) -> list[str]:
    """Returns overrides for a small net and a short training."""
    task = tasks[experiment.task]
    words = [*COMMON, *task.smoke_training(experiment), *task.smoke_evaluation(experiment)]
    if experiment.train.exact_statistics:
        words.append("train.exact_statistics=8")
    return words


def test_words(experiment: Experiment, test: Sequence[str] = ()) -> list[str]:
    """Returns overrides for a quick evaluation of a row with the overrides `test`."""
    return ["train.device=cpu", *tasks[experiment.task].smoke_evaluation(experiment, test)]
