"""The localization tasks for the hub and the commands: a per-class RPN, and an R-CNN on its proposals."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from resdet import config
from resdet.classification.config import TestCropsConfig
from resdet.classification.model import TOP
from resdet.engine.distributed import World
from resdet.engine.log import Log
from resdet.errors import ConfigError
from resdet.localization import comparison, report
from resdet.localization.build import build_localizer, build_localizer_rcnn
from resdet.localization.classify_and_locate import ClassifyAndLocate, check_classifier
from resdet.localization.command import evaluate
from resdet.localization.config import LocalizationExperiment
from resdet.localization.rcnn_model import LocalizerRCNN
from resdet.localization.rcnn_training import LocalizationRCNNTraining
from resdet.localization.rpn_model import Localizer
from resdet.localization.rpn_training import LocalizationTraining
from resdet.model import Model
from resdet.results.sections import Section
from resdet.results.stream import Source, show
from resdet.tasks import EvaluatedRun, EvaluateOptions, PredictOptions, Task, refuse_precision

DATA = (
    "data.train_images=24", "data.val_images=10", "data.side=96", "data.size=64", "data.short=72",
    "data.augment.short=[64,80]", "data.workers=0",
)  # fmt: skip
LOCALIZER = ("model.num_classes=10", "model.pretrained=null", "model.backbone.name=resnet18", "train.batch=8")
PER_CLASS_RPN = (
    "model.rpn.sizes=[32,64]", "model.rpn.channels=32", "model.rpn.positive_iou=0.5", "model.rpn.negative_iou=0.4",
)  # fmt: skip
LOCATING = ("eval.scales=[64,80]", "eval.candidates=50", "eval.proposals=4", "eval.batch=8")


class LocalizationTask(Task):
    """Images of one class each, with the boxes of its instances."""

    evaluate_options = frozenset({"classifiers"})
    image_keys = frozenset({"data.size", "data.short"})
    predict_options = frozenset({"top", "score", "draw"})

    def build(
        self, experiment: LocalizationExperiment, classes: Sequence[str], category_ids: Sequence[int] | None = None
    ) -> Model:
        return build_localizer(experiment, classes)

    def open_training(
        self, experiment: LocalizationExperiment, world: World, log: Log, init: str | None = None
    ) -> LocalizationTraining:
        return LocalizationTraining(experiment, world, log, Path(init) if init else None)

    def evaluate(
        self,
        models: Sequence[Localizer | LocalizerRCNN],
        weights: Sequence[str],
        experiment: LocalizationExperiment,
        options: EvaluateOptions,
    ) -> dict[str, float]:
        return evaluate(models, experiment, options)

    def report(self, run: EvaluatedRun, precision: float | None) -> list[Section]:
        refuse_precision(run, precision, "a localizer")
        return report.report(run)

    def compare(self, runs: Sequence[EvaluatedRun], precision: float | None) -> list[Section]:
        refuse_precision(runs[0], precision, "a localizer")
        return comparison.compare(runs)

    def predict(
        self,
        models: Sequence[Localizer | LocalizerRCNN],
        weights: Sequence[str],
        sources: Sequence[Source],
        options: PredictOptions,
    ) -> Iterator[dict[str, Any]]:
        model = self.predictor(models, weights, options)
        return show(model, sources, options.score, options.draw, options.batch)

    def predictor(
        self, models: Sequence[Localizer | LocalizerRCNN], weights: Sequence[str], options: PredictOptions
    ) -> ClassifyAndLocate:
        if not options.classifiers:
            raise ConfigError(
                f"{weights[0]} is a localizer, which needs the classes of an image: name a classifier by --classifier."
            )
        if options.classes:
            raise ConfigError(
                f"{weights[0]} is a localizer, which predicts a box for each class of its classifier: omit --classes."
            )
        origin = f"the config inside {weights[0]}"
        experiment = config.from_dict(models[0].experiment, origin, tuple(options.overrides))
        settings = cast(LocalizationExperiment, experiment).eval
        nets = [
            check_classifier(net, models[0].classes, f"--classifier {path}")
            for path, net in options.classifiers.items()
        ]
        views = TestCropsConfig(views=settings.classifier_views)
        return ClassifyAndLocate(models, nets, settings, views, TOP if options.top is None else options.top)

    def smoke_data(self, experiment: LocalizationExperiment, out: Path) -> list[str]:
        return ["data.name=shape_loc", f"data.root={out / 'shape_loc'}", *DATA]

    def smoke_training(self, experiment: LocalizationExperiment) -> list[str]:
        return [*LOCALIZER, *PER_CLASS_RPN]

    def smoke_evaluation(self, experiment: LocalizationExperiment, overrides: Sequence[str] = ()) -> list[str]:
        return list(LOCATING)


class LocalizationRCNNTask(LocalizationTask):
    """The localization task with an R-CNN on the proposals of a trained per-class RPN."""

    def build(
        self, experiment: Any, classes: Sequence[str], category_ids: Sequence[int] | None = None
    ) -> LocalizerRCNN:
        return build_localizer_rcnn(experiment, classes)

    def open_training(
        self, experiment: Any, world: World, log: Log, init: str | None = None
    ) -> LocalizationRCNNTraining:
        return LocalizationRCNNTraining(experiment, world, log, Path(init) if init else None)

    def smoke_training(self, experiment: Any) -> list[str]:
        return [*LOCALIZER, "model.context=4"]


rpn_task, rcnn_task = LocalizationTask(), LocalizationRCNNTask()
