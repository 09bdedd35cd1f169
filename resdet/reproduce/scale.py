"""Overrides that multiply all lengths of a training by a fraction."""

from fractions import Fraction

from resdet.config.experiment import Experiment

EVALUATIONS = 16  # most of a scaled training; each takes as long as one of the whole training
KEYS = ("train.length", "train.checkpoint_every", "schedule.warmup")


def train_words(experiment: Experiment, scale: Fraction) -> list[str]:
    """Overrides for `scale` times the lengths; steps are rounded, to at least one. Evaluates at most 16 times."""
    if scale == 1:
        return []
    train = experiment.train
    whole = train.unit == "steps"

    def scaled(length: float) -> float:
        value = float(length * scale)
        return max(1, round(value)) if whole and value else value

    sections = {"train": train, "schedule": experiment.schedule}
    words = []
    for key in KEYS:
        section, name = key.split(".")
        words.append(f"{key}={scaled(getattr(sections[section], name))}")
    words.append(f"train.evaluate_every={scaled(max(train.evaluate_every, train.length / EVALUATIONS))}")
    words.append(milestones("schedule", [scaled(each) for each in experiment.schedule.milestones]))
    parts = getattr(experiment, "alternating", None)
    for name in ("rpn", "regions") if parts else ():
        part = getattr(parts, name)
        words.append(f"alternating.{name}.length={scaled(part.length)}")
        words.append(milestones(f"alternating.{name}", [scaled(each) for each in part.milestones]))
    return words


def milestones(section: str, lengths: list[float]) -> str:
    return f"{section}.milestones=[{','.join(map(str, lengths))}]"
