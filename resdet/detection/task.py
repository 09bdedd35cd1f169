"""The detection task, with boxes and masks, for the hub and the command line."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from resdet import config
from resdet.data.image_sequence import ImageSequence
from resdet.detection import four_step_training
from resdet.detection.build import build_detector
from resdet.detection.check.command import run_check
from resdet.detection.config import DetectionExperiment
from resdet.detection.data.config import ScenesConfig
from resdet.detection.data.sources import open_scenes
from resdet.detection.evaluation.command import evaluate
from resdet.detection.evaluation.submit import submit_detections
from resdet.detection.inference.choice import choose
from resdet.detection.inference.class_filter import ClassFilter, check_class_names
from resdet.detection.inference.config import TTAConfig
from resdet.detection.inference.tracker import LOW, START, Tracker
from resdet.detection.model import Detector
from resdet.detection.report import comparison, sections
from resdet.detection.training import DetectionTraining
from resdet.engine.distributed import World
from resdet.engine.log import Log
from resdet.errors import ConfigError
from resdet.results.sections import Section
from resdet.results.stream import Source, show
from resdet.tasks import CheckOptions, EvaluatedRun, EvaluateOptions, PredictOptions, Step, Task

SCENES = (
    "data.train_images=8", "data.val_images=4", "data.size=96", "data.augment.min_size=[96]",
    "data.augment.max_size=96", "data.mask_size=14", "data.workers=0",
)  # fmt: skip
DETECTOR = (
    "model.num_classes=5", "model.pretrained=null", "model.backbone.name=resnet18", "model.features=c4",
    "model.rpn.channels=32", "model.rpn.anchors.sizes=[[16,32,64]]", "model.rpn.pre_nms=[100,50]",
    "model.rpn.post_nms=[40,20]", "model.rpn.batch_per_image=32", "model.box.batch_per_image=16",
    "model.box.resolution=14", "model.box.dropout=0", "model.input.min_size=96", "model.input.max_size=96",
)  # fmt: skip


class DetectionTask(Task):
    """Detection of any number of objects per image."""

    evaluate_options = frozenset({"per_class", "save", "split"})
    predict_options = frozenset({"score", "draw"})

    def build(
        self, experiment: DetectionExperiment, classes: Sequence[str], category_ids: Sequence[int] | None = None
    ) -> Detector:
        return build_detector(experiment, classes, category_ids)

    def open_training(
        self, experiment: DetectionExperiment, world: World, log: Log, init: str | None = None
    ) -> DetectionTraining:
        return DetectionTraining(experiment, world, log, Path(init) if init else None, self.build)

    def steps(self, experiment: DetectionExperiment, folder: Path, init: str | None) -> list[Step]:
        return four_step_training.steps(experiment, folder, init, self.build) if experiment.alternating else []

    def evaluate(
        self,
        models: Sequence[Detector],
        weights: Sequence[str],
        experiment: DetectionExperiment,
        options: EvaluateOptions,
    ) -> dict[str, Any]:
        check_exported(models, weights, experiment.eval)
        if options.submission:
            return submit_detections(models, experiment, options.submission)
        return evaluate(models, experiment, options)

    def predict(
        self, models: Sequence[Any], weights: Sequence[str], sources: Sequence[Source], options: PredictOptions
    ) -> Iterator[dict[str, Any]]:
        model, score = self.predictor(models, weights, options), self.threshold(options)
        if not options.track:
            return show(model, sources, score, options.draw, options.batch)
        start = START if score is None else score
        tracker = lambda rate: Tracker(start, lost=round(rate)).update
        return show(model, sources, min(LOW, start), options.draw, options.batch, tracker)

    def predictor(self, models: Sequence[Any], weights: Sequence[str], options: PredictOptions) -> Any:
        if options.top is not None:
            raise ConfigError("--top is for classifiers and localizers: use --score for a detector.")
        settings = settings_of(options)
        check_exported(models, weights, settings)
        check_class_names(options.classes, models[0].classes, weights[0])
        predictor = choose(models, settings)
        return ClassFilter(predictor, options.classes) if options.classes else predictor

    def threshold(self, options: PredictOptions) -> float | None:
        return settings_of(options).score if options.score is None else options.score

    def report(self, run: EvaluatedRun, precision: float | None) -> list[Section]:
        return sections.report(run, precision)

    def compare(self, runs: Sequence[EvaluatedRun], precision: float | None) -> list[Section]:
        return comparison.compare(runs, precision)

    def calibration_images(self, data: ScenesConfig) -> Sequence[Any]:
        return ImageSequence(open_scenes(data, "train"))

    def check_data(self, experiment: DetectionExperiment, options: CheckOptions) -> dict[str, Any]:
        return run_check(experiment, options)

    def smoke_data(self, experiment: DetectionExperiment, out: Path) -> list[str]:
        root, sampling = f"data.root={out / 'shape_scenes'}", f"data.sampling={experiment.scenes.sampling}"
        return ["data.name=shape_scenes", root, *SCENES, sampling]

    def smoke_training(self, experiment: DetectionExperiment) -> list[str]:
        # Gradients of a barely trained backbone are large.
        words = [*DETECTOR, "train.batch=2", "optim.clip_norm=1"]
        if experiment.alternating:
            keys = ("length=2", "batch=2", "milestones=[1]")
            words += [f"alternating.{part}.{key}" for part in ("rpn", "regions") for key in keys]
        return words

    def smoke_evaluation(self, experiment: DetectionExperiment, overrides: Sequence[str] = ()) -> list[str]:
        several = bool(experiment.eval.scales) or any("eval.scales" in word for word in overrides)
        return [*(["eval.scales=[64,96,128]"] if several else ()), "eval.batch=2"]


def settings_of(options: PredictOptions) -> TTAConfig:
    """Returns the `eval` section of the overrides."""
    experiment = config.from_dict({"task": "detection"}, "the command line", tuple(options.overrides))
    return cast(DetectionExperiment, experiment).eval


def check_exported(models: Sequence[Any], weights: Sequence[str], settings: TTAConfig) -> None:
    """Rejects exported files where a model is needed."""
    if len(models) == 1 and settings.plain:
        return
    for model, path in zip(models, weights):
        if model.exported:
            raise ConfigError(
                f"{path} is an exported file, which supports neither ensembles nor TTA: give its checkpoint."
            )


task = DetectionTask()
