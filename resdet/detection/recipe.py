"""Chooses values that suit the data for the config keys set to `auto`.

The rules use the number of images and the sizes of objects, not the pixels. docs/data.md lists them.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np

from resdet import config
from resdet.config.experiment import plain
from resdet.detection.check.anchors import grid_of
from resdet.detection.check.fit import AnchorFit, fit_anchors, imbalance
from resdet.detection.check.objects import ObjectTable
from resdet.detection.config import DetectionExperiment
from resdet.errors import number_of

SMALL = 32.0  # pixels; side of the smallest default anchor, which small objects should reach
SMALL_SHARE = 0.1  # share of the objects that may stay smaller
SIDES = (320, 800)  # limits of the short side of images
LONGEST = 1333  # long side for a short side of 800 in torchvision and detectron2
WIDER_SHARE = 0.1  # share of the images that may be wider than max_size / min_size
ENLARGE = 2.0  # largest enlargement of images
JITTER = (0.8, 0.85, 0.9, 0.95, 1.0)  # short sides in training, relative to that at inference
STEP = 32  # sides are multiples of this
PROPOSALS = (128, 256, 512)  # sampled per image
PROPOSALS_PER_OBJECT = 16
EPOCHS = 12  # minimum; the length of the 1x schedule for COCO
SAMPLES = 600.0  # times the square root of N: minimum number of samples in a training on N images
EVALUATIONS = 8
WARMUP = 200.0  # maximum number of steps

Value = tuple[Any, str]
Rules = Mapping[str, Callable[[DetectionExperiment, ObjectTable], Value]]


@dataclass(frozen=True)
class Choice:
    key: str
    value: Any
    reason: str

    def __str__(self) -> str:
        value = json.dumps(self.value, separators=(",", ":")).replace('"', "").replace(":", ": ")
        return f"{self.key}={value} ({self.reason})"


def complete(
    experiment: DetectionExperiment, table: ObjectTable, rules: Rules | None = None
) -> tuple[DetectionExperiment, list[Choice]]:
    """Returns the experiment with values for the keys of `rules` (default: `RULES`) that are `auto`, and these choices;
    `table` describes the training images."""
    choices = []
    for key, rule in (RULES if rules is None else rules).items():
        if key in experiment.auto:
            choices.append(Choice(key, *rule(experiment, table)))
            values = {key: choices[-1].value}
            experiment = cast(DetectionExperiment, config.with_values(experiment, values, "the choice for this data"))
    return experiment, choices


def min_size(experiment: DetectionExperiment, table: ObjectTable) -> Value:
    """Chooses the short side at which most objects reach `SMALL`, or the training's short side if the config sets
    it."""
    if "data.augment.min_size" not in experiment.auto:
        return max(experiment.scenes.augment.min_size), "the largest of data.augment.min_size"
    sides = table.sizes.min(1).astype(np.float64)  # 0 where unknown
    kept = ~table.crowd & (sides > 0)[table.images]
    objects = table.boxes[kept]
    sizes = np.sqrt((objects[:, 2:] - objects[:, :2]).prod(1)) / sides[table.images[kept]]
    if not len(sizes):
        return min(SIDES[1], experiment.model.input.max_size), "there are no objects to choose it from"
    ideal = SMALL / max(float(np.quantile(sizes, SMALL_SHARE)), 1e-6)
    limit = min(SIDES[1], multiple(ENLARGE * float(np.median(sides[sides > 0]))))
    side = min(max(SIDES[0], min(multiple(ideal), limit)), experiment.model.input.max_size)
    share = float((sizes * side >= SMALL * (1 - 1e-9)).mean())
    return side, f"{share:.0%} of the objects are then at least {SMALL:g} pixels large"


def max_size(experiment: DetectionExperiment, table: ObjectTable) -> Value:
    """Chooses the long side by the usual ratio, or up to `LONGEST` if most images need it to keep their short side."""
    side, sizes = experiment.model.input.min_size, table.sizes[(table.sizes > 0).all(1)]
    ratio = float(np.quantile(sizes.max(1) / sizes.min(1), 1 - WIDER_SHARE)) if len(sizes) else 1.0
    usual, needed = round(side * LONGEST / SIDES[1]), min(LONGEST, math.ceil(side * ratio))
    if needed > usual:
        return needed, f"the long side of images is up to {ratio:.2g} times the short one"
    return usual, f"{LONGEST}/{SIDES[1]} of model.input.min_size"


def training_sizes(experiment: DetectionExperiment, table: ObjectTable) -> Value:
    side, given = experiment.model.input.min_size, "data.augment.max_size" not in experiment.auto
    limit = experiment.scenes.augment.max_size if given else experiment.model.input.max_size
    sides = sorted({min(limit, max(1, round(side * factor / STEP) * STEP)) for factor in JITTER})
    return sides, f"{JITTER[0]:g} to {JITTER[-1]:g} of model.input.min_size"


def training_max_size(experiment: DetectionExperiment, table: ObjectTable) -> Value:
    limit, largest = experiment.model.input.max_size, max(experiment.scenes.augment.min_size)
    return max(limit, largest), "model.input.max_size" if limit >= largest else "the largest of data.augment.min_size"


def anchors(experiment: DetectionExperiment, table: ObjectTable) -> Value:
    """Chooses the default anchors, or better fitting ones if too many objects match none."""
    return fitted_anchors(experiment, fit_anchors(table, experiment.scenes, grid_of(experiment.model), search=True))


def fitted_anchors(experiment: DetectionExperiment, fit: AnchorFit) -> Value:
    default = plain(asdict(experiment.model.rpn.anchors))
    if fit.better is None:
        return default, f"{fit.recall:.1%} of the objects have an anchor of IoU 0.5 or more"
    values = {"sizes": [list(sides) for sides in fit.better.sizes], "ratios": list(fit.better.ratios)}
    reason = f"{fit.better_recall:.1%} of the objects have one of IoU 0.5 or more, {fit.recall:.1%} with the default"
    return default | values, reason


def sampling(experiment: DetectionExperiment, table: ObjectTable) -> Value:
    rare = imbalance(table, experiment.scenes).rare()
    if len(rare):
        return "repeat_factor", f"{', '.join(table.classes[label] for label in rare[:3])} rarely occur"
    return "uniform", "no class is rare"


def repeat_threshold(experiment: DetectionExperiment, table: ObjectTable) -> Value:
    balance = imbalance(table, experiment.scenes)
    if len(balance.rare()):
        return round(balance.threshold, 4), "classes in a smaller share of the images are repeated"
    return experiment.scenes.repeat_threshold, "no class is rare"


def max_objects(experiment: DetectionExperiment, table: ObjectTable) -> Value:
    most = int(np.bincount(table.images, minlength=1).max())
    return max(100, multiple(most, 50)), f"an image has up to {number_of(most, 'object')}"


def batch_per_image(experiment: DetectionExperiment, table: ObjectTable) -> Value:
    """Samples fewer proposals for few objects: background would otherwise dominate the mean of the losses."""
    counts = np.bincount(table.images[~table.crowd], minlength=1)
    usual = int(np.quantile(counts[counts > 0], 0.9)) if (counts > 0).any() else 0
    count = next((count for count in PROPOSALS if usual * PROPOSALS_PER_OBJECT <= count), PROPOSALS[-1])
    return count, f"most images have at most {number_of(usual, 'object')}"


def freeze_stages(experiment: DetectionExperiment, table: ObjectTable) -> Value:
    if experiment.model.pretrained:
        return 2, "conv1 and conv2_x keep their pretrained weights"
    return 0, "model.pretrained is null"


def length(experiment: DetectionExperiment, table: ObjectTable) -> Value:
    count, batch = max(1, len(table.sizes)), experiment.train.batch
    images = max(EPOCHS * count, SAMPLES * math.sqrt(count))
    reason = f"{number_of(count, 'image')}, each {images / count:.0f} times"
    if experiment.train.unit == "epochs":
        return max(1, round(images / count)), reason
    return max(10, round(images / batch / 10) * 10), f"{reason}, {batch} a step"


def interval(experiment: DetectionExperiment, table: ObjectTable) -> Value:
    whole = experiment.train.length / EVALUATIONS
    value = max(1, round(whole)) if experiment.train.unit == "steps" else max(1e-3, round(whole, 3))
    return value, f"train.length / {EVALUATIONS}"


def warmup(experiment: DetectionExperiment, table: ObjectTable) -> Value:
    share = experiment.train.length / 10
    if experiment.train.unit == "steps":
        return round(min(WARMUP, share)), f"train.length / 10, at most {WARMUP:g} steps"
    return round(share, 3), "train.length / 10"


RULES: Rules = {
    "model.input.min_size": min_size,
    "model.input.max_size": max_size,  # follows min_size
    "data.augment.min_size": training_sizes,  # these follow model.input
    "data.augment.max_size": training_max_size,
    "data.max_objects": max_objects,
    "model.rpn.anchors": anchors,  # at the training scale
    "model.box.batch_per_image": batch_per_image,
    "data.repeat_threshold": repeat_threshold,
    "data.sampling": sampling,
    "model.freeze_stages": freeze_stages,
    "train.length": length,
    "train.evaluate_every": interval,  # these follow train.length
    "train.checkpoint_every": interval,
    "schedule.warmup": warmup,
}
SIZE_RULES: Rules = {key: rule for key, rule in RULES.items() if key.endswith("_size")}


def fine_tuning_rules(anchors: Mapping[str, Any]) -> Rules:
    """Returns the rules for fine-tuning a detector with these anchors; missing anchor keys take their defaults."""

    def given_anchors(experiment: DetectionExperiment, table: ObjectTable) -> Value:
        return plain(asdict(experiment.model.rpn.anchors)) | dict(anchors), "those of the initial weights"

    return {**RULES, "model.rpn.anchors": given_anchors}


def multiple(value: float, step: int = STEP) -> int:
    """Rounds the value up to a multiple of `step`."""
    return math.ceil(value / step - 1e-9) * step
