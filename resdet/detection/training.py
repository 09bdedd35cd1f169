"""Training of detectors with boxes and masks (appendix A)."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from resdet.data.loader import Notes
from resdet.detection.build import build_detector
from resdet.detection.config import DetectionExperiment
from resdet.detection.data.annotations import Annotations
from resdet.detection.data.collate import COMPILED_ROOM
from resdet.detection.data.config import ScenesConfig
from resdet.detection.data.loader import SceneLoader
from resdet.detection.data.resampling import class_aware, repeat_factors
from resdet.detection.data.sources import open_scenes
from resdet.detection.evaluation import ground_truth
from resdet.detection.evaluation.evaluate import DatasetDetections, detect, empty, headline_metrics, truth_of
from resdet.detection.evaluation.pictures import write_pictures
from resdet.detection.evaluation.protocols import COCO
from resdet.detection.model import Detector
from resdet.detection.objects_training import PICTURE_COUNT, PICTURES, RESULTS, LossesStep, ObjectsTraining, with_total
from resdet.engine import distributed
from resdet.engine.distributed import World
from resdet.engine.log import Log
from resdet.errors import ConfigError, DataError


class DetectionTraining(ObjectsTraining):
    """The training task of a detection experiment."""

    lower_is_better = False
    source: Annotations
    validation: Annotations

    def __init__(self, experiment: DetectionExperiment, world: World, log: Log, init: Path | None = None):
        self.experiment, self.world = experiment, world
        self.monitor = "AP" if experiment.eval.metric == COCO else "mAP"
        torch.manual_seed(experiment.train.seed)
        self.notes = Notes(log.warn)
        data = cast(ScenesConfig, experiment.data)
        self.source, self.validation = open_scenes(data, "train"), open_scenes(data, "val")
        self.report_problems(log)
        self.model = build_detector(experiment, self.source.classes, self.source.category_ids)
        self.check_masks()
        if init:
            self.start_from(init, log)
        self.training = self.make_loader()
        self.step = LossesStep(self.model, 2 * len(self.training.shapes))
        self.detections: DatasetDetections  # of the last evaluation

    def report_problems(self, log: Log) -> None:
        for source in (self.source, self.validation):
            for sentence in source.problems:
                log.info(sentence)
        if self.validation.classes != self.source.classes:
            raise DataError(
                f"The validation set has the classes {', '.join(self.validation.classes[:5])} … and the training set "
                f"{', '.join(self.source.classes[:5])} …: give both annotation files the same categories."
            )

    def check_masks(self) -> None:
        if self.model.draws_masks and not self.source.has_masks:
            key = "mask" if self.experiment.model.mnc is None else "mnc"
            raise ConfigError(f"model.{key} is set, but the annotations have no masks: set model.{key}=null.")

    def check_ground_truth(self) -> None:
        """Evaluates no detections, to find invalid annotations before training."""
        masks = self.model.draws_masks
        for kind in ("bbox", "segm") if masks else ("bbox",):
            ground_truth.read(truth_of(self.validation, kind=kind), kind)
        headline_metrics(self.experiment.eval.metric, self.validation, empty(self.model), masks)

    def left_out(self, sentence: str) -> str:
        return f"image left out, {sentence}"

    def make_loader(self) -> SceneLoader:
        data, train = self.experiment.data, self.experiment.train
        return SceneLoader(
            self.source,
            data.augment,
            train.batch,
            train.seed,
            self.world.device,
            self.notes,
            copies=self.copies(),
            max_objects=data.max_objects,
            mask_size=data.mask_size if self.model.draws_masks else None,
            rooms=(COMPILED_ROOM,) if train.compile else (),
            workers=data.workers,
            on_bad_image=data.on_bad_image,
            rank=self.world.rank,
            world=self.world.size,
        )

    def copies(self) -> np.ndarray | None:
        """Expected copies of each image in an epoch; None: one each."""
        data, count = self.experiment.data, len(self.source)
        images, labels = self.source.presence()
        if data.sampling == "repeat_factor":
            return repeat_factors(images, labels, count, data.repeat_threshold)
        return class_aware(images, labels, count, data.negatives) if data.sampling == "class_aware" else None

    def evaluate(self, model: Detector) -> dict[str, float]:
        """Validation losses and metrics over all processes."""
        metric, validation = self.experiment.eval.metric, self.validation
        self.detections = detections = detect([model], validation, self.experiment, self.world, self.notes)
        metrics = lambda: headline_metrics(
            metric, validation, detections.results, model.draws_masks, detections.left_out
        )
        return with_total(detections.losses) | distributed.from_main(metrics)

    def keep(self, folder: Path) -> None:
        """Writes the detections of the last evaluation as a COCO results file, and draws some of them."""
        self.detections.results.save(folder / RESULTS)
        write_pictures(folder / PICTURES, self.validation, self.detections.results, PICTURE_COUNT)

    def description(self) -> dict[str, Any]:
        keys = ("experiment", "classes", "category_ids")
        return {key: getattr(self.model, key) for key in keys}
