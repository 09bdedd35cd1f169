"""The classification task for the hub and the commands."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from resdet.classification import comparison, report
from resdet.classification.build import build_classifier
from resdet.classification.command import evaluate
from resdet.classification.config import ClassificationExperiment
from resdet.classification.data.config import ImagesConfig, OnDeviceConfig
from resdet.classification.model import TOP, Classifier
from resdet.classification.training import ClassificationTraining
from resdet.data.config import DataConfig
from resdet.data.image_sequence import ImageSequence
from resdet.engine.distributed import World
from resdet.engine.log import Log
from resdet.errors import ConfigError, DataError
from resdet.results.classification import Classification
from resdet.results.parquet import row_of_error
from resdet.results.sections import Section
from resdet.results.stream import Source, attempts, follow, sorted_out, until_interrupted
from resdet.tasks import EvaluatedRun, EvaluateOptions, PredictOptions, Task, refuse_precision

IMAGES = (
    "data.size=32", "data.short=36", "data.augment.short=[36,48]", "data.mean=per_pixel", "data.train_images=20",
    "data.val_images=20", "data.workers=0",
)  # fmt: skip


class ClassificationTask(Task):
    """Images with one label each."""

    evaluate_options = frozenset({"per_class"})
    image_keys = frozenset({"data.size", "data.test_size", "data.short"})
    predict_options = frozenset({"top"})

    def build(
        self, experiment: ClassificationExperiment, classes: Sequence[str], category_ids: Sequence[int] | None = None
    ) -> Classifier:
        return build_classifier(experiment, classes)

    def open_training(
        self, experiment: ClassificationExperiment, world: World, log: Log, init: str | None = None
    ) -> ClassificationTraining:
        return ClassificationTraining(experiment, world, log, Path(init) if init else None, self.build)

    def evaluate(
        self,
        models: Sequence[Classifier],
        weights: Sequence[str],
        experiment: ClassificationExperiment,
        options: EvaluateOptions,
    ) -> dict[str, float]:
        return evaluate(models, weights, experiment, options)

    def report(self, run: EvaluatedRun, precision: float | None) -> list[Section]:
        refuse_precision(run, precision, "a classifier")
        return report.report(run)

    def compare(self, runs: Sequence[EvaluatedRun], precision: float | None) -> list[Section]:
        refuse_precision(runs[0], precision, "a classifier")
        return comparison.compare(runs)

    def predict(
        self, models: Sequence[Classifier], weights: Sequence[str], sources: Sequence[Source], options: PredictOptions
    ) -> Iterator[dict[str, Any]]:
        model = self.predictor(models, weights, options)
        return classify(model, sources, TOP if options.top is None else options.top, options.batch)

    def predictor(self, models: Sequence[Classifier], weights: Sequence[str], options: PredictOptions) -> Classifier:
        if len(models) > 1:
            raise ConfigError(
                f"{' '.join(weights)}: predict supports no ensemble of classifiers; give one classifier, or several "
                "detectors or localizers."
            )
        if options.score is not None or options.draw or options.classes or options.overrides:
            raise ConfigError(
                f"{weights[0]} is a classifier: omit --score, --classes, --draw and eval.*, which need a detector."
            )
        return models[0]

    def calibration_images(self, data: DataConfig) -> Sequence[Any]:
        if isinstance(data, ImagesConfig):
            return ImageSequence(data.open("train"))
        images = cast(OnDeviceConfig, data).open("train").images
        return cast(Sequence[Any], images.transpose(0, 2, 3, 1))

    def smoke_data(self, experiment: ClassificationExperiment, out: Path) -> list[str]:
        if experiment.data.name == "cifar10":
            return ["data.name=tiny_shapes", "data.train_images=64", "data.val_images=32"]
        return ["data.name=shapes", *IMAGES]

    def smoke_training(self, experiment: ClassificationExperiment) -> list[str]:
        plain = "plain" in experiment.model.backbone.name
        if experiment.data.name == "cifar10":
            return [f"model.backbone.name=cifar_{'plain' if plain else 'resnet'}8", "train.batch=8"]
        net = "plain18" if plain else "resnet18"
        return ["model.num_classes=10", f"model.backbone.name={net}", "train.batch=8"]

    def smoke_evaluation(self, experiment: ClassificationExperiment, overrides: Sequence[str] = ()) -> list[str]:
        return ["eval.batch=8", *(["eval.scales=[32,48]"] if experiment.data.name != "cifar10" else ())]


def classify(model: Classifier, sources: Sequence[Source], top: int, batch: int) -> Iterator[dict[str, Any]]:
    """Prints the classes of each image, then of each frame of each video, and yields them as JSON types."""
    paths, videos = sorted_out(sources)
    for path, result in attempts(model, paths, batch, top=top):
        if isinstance(result, DataError):
            print(result)
            yield row_of_error(str(path), result)
            continue
        print(f"{path}: {result}")
        yield {"image": str(path), **named_scores(result)}
    for video in videos:
        with until_interrupted(video):
            for place, result in follow(video, lambda frames: model.stream(frames, top=top)):
                print(f"{place}: {result}", flush=video.live)
                yield {**place._asdict(), **named_scores(result)}


def named_scores(result: Classification) -> dict[str, Any]:
    return {"names": result.names, "scores": [round(float(score), 6) for score in result.scores]}


task = ClassificationTask()
