"""Overrides that multiply all lengths of a training by a fraction."""

from collections.abc import Sequence
from fractions import Fraction

from resdet.config.experiment import Experiment
from resdet.errors import ConfigError

EVALUATIONS = 16  # maximum per scaled training; each takes as long as in a full training
KEYS = ("train.length", "train.checkpoint_every", "schedule.warmup")


def check(name: str, experiment: Experiment, scale: Fraction) -> None:
    """Raises a ConfigError if a scaled training has no steps between two milestones, or after the last one."""
    parts = getattr(experiment, "alternating", None)
    schedules = [(experiment.schedule.milestones, experiment.train.length)]
    schedules += [(part.milestones, part.length) for part in (parts.rpn, parts.regions)] if parts else []
    for positions in ([*milestones, length] for milestones, length in schedules):
        rounded = [scaled(each, experiment, scale) for each in positions]
        if len(set(rounded)) < len(rounded):
            raise ConfigError(
                f"--scale is {scale}, which rounds the steps {', '.join(f'{each:g}' for each in positions)} of {name} "
                f"(milestones and length) to {', '.join(map(str, rounded))}: give a larger fraction."
            )


def train_words(experiment: Experiment, scale: Fraction) -> list[str]:
    """Returns overrides that multiply all lengths by `scale`, rounded to at least 1, with at most 16 evaluations."""
    if scale == 1:
        return []
    train = experiment.train
    sections = {"train": train, "schedule": experiment.schedule}
    words = []
    for key in KEYS:
        section, name = key.split(".")
        words.append(f"{key}={scaled(getattr(sections[section], name), experiment, scale)}")
    interval = max(train.evaluate_every, train.length / EVALUATIONS)
    words.append(f"train.evaluate_every={scaled(interval, experiment, scale)}")
    words.append(milestones("schedule", experiment.schedule.milestones, experiment, scale))
    parts = getattr(experiment, "alternating", None)
    for name in ("rpn", "regions") if parts else ():
        part = getattr(parts, name)
        words.append(f"alternating.{name}.length={scaled(part.length, experiment, scale)}")
        words.append(milestones(f"alternating.{name}", part.milestones, experiment, scale))
    return words


def milestones(section: str, positions: Sequence[float], experiment: Experiment, scale: Fraction) -> str:
    return f"{section}.milestones=[{','.join(str(scaled(each, experiment, scale)) for each in positions)}]"


def scaled(length: float, experiment: Experiment, scale: Fraction) -> float:
    value = float(length * scale)
    return max(1, round(value)) if experiment.train.unit == "steps" and value else value
