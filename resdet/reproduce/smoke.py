"""The same rows in miniature: overrides that put generated data and small sizes in place of the paper's.

Nets become the smallest of their kind. VGG-16 becomes ResNet-18 as well: its linear layers alone have 120 million
weights. All trainings share one folder of generated data of each kind.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

STEPS = 2
COMMON = (
    "train.unit=steps", f"train.length={STEPS}", f"train.evaluate_every={STEPS}", f"train.checkpoint_every={STEPS}",
    "train.log_every=1", "train.precision=fp32", "train.device=cpu",
)  # fmt: skip
IMAGES = (
    "data.size=32", "data.short=36", "data.augment.short=[36,48]", "data.mean=per_pixel", "data.train_images=20",
    "data.val_images=20", "data.workers=0",
)  # fmt: skip
SCENES = (
    "data.train_images=8", "data.val_images=4", "data.size=96", "data.augment.short=[96]", "data.augment.long=96",
    "data.mask_size=14", "data.workers=0",
)  # fmt: skip
LOCALIZATION = (
    "data.train_images=24", "data.val_images=10", "data.side=96", "data.size=64", "data.short=72",
    "data.augment.short=[64,80]", "data.workers=0",
)  # fmt: skip
DETECTOR = (
    "model.num_classes=5", "model.pretrained=null", "model.backbone.name=resnet18", "model.features=c4",
    "model.rpn.channels=32", "model.rpn.anchors.sizes=[[16,32,64]]", "model.rpn.pre_nms=[100,50]",
    "model.rpn.post_nms=[40,20]", "model.rpn.batch=32", "model.box.batch=16", "model.box.resolution=14",
    "model.box.dropout=0", "model.input.short=96", "model.input.long=96",
)  # fmt: skip
LOCALIZER = ("model.num_classes=10", "model.pretrained=null", "model.backbone.name=resnet18")
PER_CLASS_RPN = (
    "model.rpn.sizes=[32,64]", "model.rpn.channels=32", "model.rpn.positive_iou=0.5", "model.rpn.negative_iou=0.4",
)  # fmt: skip
LOCATING = ("eval.scales=[64,80]", "eval.candidates=50", "eval.proposals=4", "eval.batch=8")


def data_words(experiment: Any, out: Path) -> list[str]:
    """Generated data of the experiment's kind."""
    if experiment.task == "detection":
        sampling = [f"data.sampling={experiment.data.sampling}"]
        return ["data.name=shape_scenes", f"data.root={out / 'shape_scenes'}", *SCENES, *sampling]
    if experiment.task in ("localization", "localization_rcnn"):
        return ["data.name=shape_loc", f"data.root={out / 'shape_loc'}", *LOCALIZATION]
    if experiment.data.name == "cifar10":
        return ["data.name=tiny_shapes", "data.train_images=64", "data.val_images=32"]
    return ["data.name=shapes", *IMAGES]


def train_words(experiment: Any) -> list[str]:
    """A small net, trained for a moment."""
    words = [*COMMON, *model_words(experiment), *eval_words(experiment)]
    words.append(f"train.batch={2 if experiment.task == 'detection' else 8}")
    if experiment.task == "detection":
        words.append("optim.clip_norm=1")  # a backbone that has hardly learnt makes wild gradients
    if experiment.train.exact_statistics:
        words.append("train.exact_statistics=8")
    if getattr(experiment, "alternating", None):
        parts = ("rpn", "regions")
        words += [f"alternating.{part}.{key}" for part in parts for key in ("length=2", "batch=2", "milestones=[1]")]
    return words


def model_words(experiment: Any) -> list[str]:
    if experiment.task == "detection":
        return list(DETECTOR)
    if experiment.task == "localization":
        return [*LOCALIZER, *PER_CLASS_RPN]
    if experiment.task == "localization_rcnn":
        return [*LOCALIZER, "model.context=4"]
    name = experiment.model.backbone.name
    plain = "plain" in name
    if experiment.data.name == "cifar10":
        return [f"model.backbone.name=cifar_{'plain' if plain else 'resnet'}8"]
    return ["model.num_classes=10", f"model.backbone.name={'plain18' if plain else 'resnet18'}"]


def test_words(experiment: Any, test: Sequence[str] = ()) -> list[str]:
    """Of an evaluation, for which a row has the overrides `test`."""
    return ["train.device=cpu", *eval_words(experiment, test)]


def eval_words(experiment: Any, test: Sequence[str] = ()) -> list[str]:
    """Small scales."""
    if experiment.task == "detection":
        several = bool(getattr(experiment.eval, "scales", ())) or any("eval.scales" in word for word in test)
        return [*(["eval.scales=[64,96,128]"] if several else ()), "eval.batch=2"]
    if experiment.task in ("localization", "localization_rcnn"):
        return list(LOCATING)
    return ["eval.batch=8", *(["eval.scales=[32,48]"] if experiment.data.name != "cifar10" else ())]
