"""Training of detectors with boxes, masks and keypoints (appendix A)."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from resdet.data.loader import Notes
from resdet.detection import recipe
from resdet.detection.build import build_detector
from resdet.detection.check.anchors import AnchorGrid
from resdet.detection.check.brief import brief
from resdet.detection.check.objects import ObjectTable
from resdet.detection.config import DetectionExperiment
from resdet.detection.data.annotations import Annotations
from resdet.detection.data.class_balance import class_aware, repeat_factors
from resdet.detection.data.collate import COMPILED_ROOM, TargetFormat
from resdet.detection.data.loader import SceneLoader
from resdet.detection.data.sources import open_scenes
from resdet.detection.evaluation import ground_truth
from resdet.detection.evaluation.category_map import CategoryMap, needed
from resdet.detection.evaluation.evaluate import DatasetDetections, detect, empty, kinds_of
from resdet.detection.evaluation.metrics import headline_metrics, truth_of
from resdet.detection.evaluation.pictures import drawn_scene, results_beside_truth, write_pictures
from resdet.detection.evaluation.protocols import COCO
from resdet.detection.model import Detector
from resdet.detection.objects_training import PICTURE_COUNT, PICTURES, RESULTS, LossesStep, ObjectsTraining, with_total
from resdet.engine import distributed
from resdet.engine.distributed import World
from resdet.engine.log import Log
from resdet.engine.run_record import CONFIG
from resdet.errors import ConfigError, DataError
from resdet.progress import Activity
from resdet.restore import Build
from resdet.weights import load_weights


class DetectionTraining(ObjectsTraining):
    """The training task of a detection experiment."""

    source: Annotations
    validation: Annotations

    def __init__(
        self,
        experiment: DetectionExperiment,
        world: World,
        log: Log,
        init: Path | None = None,
        build: Build[Detector] = build_detector,
    ):
        """`build` creates the model of an experiment for given classes and category ids."""
        self.world = world
        self.monitor = "AP" if experiment.eval.metric == COCO else "mAP"
        torch.manual_seed(experiment.train.seed)
        self.notes = Notes(log.warn, number=world.number)
        data = experiment.scenes
        self.source, self.validation = open_scenes(data, "train"), open_scenes(data, "val")
        self.report_problems(log)
        weights = load_weights.as_checkpoint(init) if init else None
        anchors = None if weights is None else load_weights.anchors_of(weights)
        rules = recipe.RULES if anchors is None else recipe.fine_tuning_rules(anchors)
        experiment, choices = recipe.complete(experiment, ObjectTable.of(self.source), rules)
        for choice in choices:
            log.info(f"chosen for this data: {choice}")
        self.experiment = experiment = with_keypoints(experiment, self.source)
        self.model = build(experiment, self.source.classes, self.source.category_ids)
        self.check_classes(log)
        self.check_branches()
        if weights is not None:
            self.start_from(weights, log)
        self.training = self.make_loader()
        self.step = LossesStep(self.model, 2 * len(self.training.shapes))
        self.detections: DatasetDetections | None = None  # of the last evaluation

    def report_problems(self, log: Log) -> None:
        for source in (self.source, self.validation):
            for sentence in (*source.notes, *source.problems):
                log.info(sentence)

    def check_classes(self, log: Log) -> None:
        """Rejects validation objects of classes missing from the training set; ids and order may differ."""
        names = self.validation.classes
        missing = [names[label] for label in needed(self.validation) if names[label] not in self.source.classes]
        if missing:
            raise DataError(
                f"The validation set has the class {missing[0]}, and the training set has only "
                f"{', '.join(self.source.classes[:5])} …: give both annotation files the same categories."
            )
        note = CategoryMap.of(self.model, self.validation).note
        if note:
            log.info(f"validation: {note}")

    def check_images(self, log: Log) -> None:
        super().check_images(log)
        if log.out is None:
            return
        grid = AnchorGrid.of(self.experiment.model, self.model.rpn.strides)
        problems = brief(self.source, self.validation, self.experiment.scenes, grid)
        if problems:
            log.info(f"data check: {problems}")
            log.info(f"data check: `resdet data check --config {log.out / CONFIG}` lists them, and reads all images")

    def check_branches(self) -> None:
        """Rejects data without the masks or keypoints that the model learns."""
        if self.model.draws_masks and not self.source.has_masks:
            key = "mask" if self.experiment.model.mnc is None else "mnc"
            raise ConfigError(f"model.{key} is set, but the annotations have no masks: set model.{key}=null.")
        if self.model.draws_keypoints and not (self.source.has_keypoints and self.validation.has_keypoints):
            raise ConfigError(
                "model.keypoint is set, but the training or the validation annotations have no keypoints: give files "
                "with keypoints, such as COCO's person_keypoints_train2017.json, or set model.keypoint=null."
            )
        if self.model.draws_keypoints and self.source.keypoints != self.validation.keypoints:
            raise DataError(
                "The training and the validation annotations have different keypoints: give both files the same names "
                "and skeleton."
            )

    def monitors(self) -> list[str]:
        """Evaluates an empty result, which finds invalid annotations before training."""
        for kind in (kinds := kinds_of(self.model)):
            ground_truth.read(truth_of(self.validation, kind=kind), kind)
        metrics = headline_metrics(self.experiment.eval, self.validation, empty(self.model), kinds)
        return [*metrics, *(["loss"] if self.experiment.eval.losses else ())]

    def left_out(self, sentence: str) -> str:
        return f"image left out, {sentence}"

    def make_loader(self) -> SceneLoader:
        data, train = self.experiment.scenes, self.experiment.train
        mask_size = data.mask_size if self.model.draws_masks else None
        rooms = (COMPILED_ROOM,) if train.compile else ()
        return SceneLoader(
            self.source,
            data.augment,
            train.batch,
            train.seed,
            self.world.device,
            self.notes,
            copies=self.copies(),
            targets=TargetFormat(data.max_objects, mask_size, self.model.keypoint_count, rooms),
            workers=data.workers,
            on_bad_image=data.on_bad_image,
            rank=self.world.rank,
            world=self.world.size,
        )

    def copies(self) -> np.ndarray | None:
        """Returns the expected number of copies of each image in an epoch; None: one each."""
        data, count = self.experiment.scenes, len(self.source)
        images, labels = self.source.presence()
        if data.sampling == "repeat_factor":
            return repeat_factors(images, labels, count, data.repeat_threshold)
        return class_aware(images, labels, count, data.negatives) if data.sampling == "class_aware" else None

    def evaluate(self, model: Detector) -> dict[str, float]:
        """Computes validation losses and metrics over all processes."""
        settings, validation, kinds = self.experiment.eval, self.validation, kinds_of(model)
        self.detections = detections = detect([model], validation, self.experiment, self.world, self.notes)
        metrics = lambda: headline_metrics(settings, validation, detections.results, kinds, detections.left_out)
        with Activity("computing metrics"):
            return with_total(detections.losses) | distributed.from_main(metrics)

    def lower_is_better(self, metric: str) -> bool:
        return metric in with_total(self.detections.losses) if self.detections else False

    def keep(self, folder: Path) -> None:
        """Writes the detections of the last evaluation as a COCO results file, and draws some of them."""
        results = cast(DatasetDetections, self.detections).results
        results.save(folder / RESULTS)
        write_pictures(folder / PICTURES, self.validation, results, PICTURE_COUNT)

    def train_images(self, count: int) -> list[np.ndarray]:
        scenes = [sample.scene for sample in cast(SceneLoader, self.training).first(count)]
        return [drawn_scene(scene, self.source) for scene in scenes if scene is not None]

    def pictures(self, count: int) -> dict[str, np.ndarray]:
        """Draws detections and ground truth side by side on evenly spaced validation images; empty if a subclass
        evaluates without detections."""
        return results_beside_truth(self.validation, self.detections.results, count) if self.detections else {}

    def description(self) -> dict[str, Any]:
        keys = ("experiment", "classes", "category_ids")
        return {key: getattr(self.model, key) for key in keys}


def with_keypoints(experiment: DetectionExperiment, source: Annotations) -> DetectionExperiment:
    """Fills null names and skeleton in `model.keypoint` with those of the data."""
    config, given = experiment.model.keypoint, source.keypoints
    if config is None or given is None:
        return experiment
    if config.names is not None and config.names != given.names:
        raise ConfigError(
            f"model.keypoint.names are {', '.join(config.names[:3])} …, and those of the data "
            f"{', '.join(given.names[:3])} …: set model.keypoint.names=null."
        )
    skeleton = given.skeleton if config.skeleton is None else config.skeleton
    keypoint = replace(config, names=given.names, skeleton=skeleton)
    return replace(experiment, model=replace(experiment.model, keypoint=keypoint))
