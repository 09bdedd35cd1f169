"""Object detection and instance segmentation: appendix A, and what came after it."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from resdet.data.loader import Notes
from resdet.detection.build import build_detector
from resdet.detection.data.loader import SceneLoader
from resdet.detection.data.resampling import class_aware, repeat_factors
from resdet.detection.data.sources import open_scenes
from resdet.detection.evaluation import ground_truth
from resdet.detection.evaluation.evaluate import DatasetDetections, detect, empty, headline_metrics, truth_of
from resdet.detection.evaluation.pictures import write_pictures
from resdet.detection.evaluation.protocols import COCO
from resdet.detection.model import Detector
from resdet.detection.objects_training import PICTURES, RESULTS, SHOWN, LossesStep, ObjectsTraining, with_total
from resdet.engine import distributed
from resdet.engine.distributed import World
from resdet.engine.log import Log
from resdet.errors import ConfigError, DataError


class DetectionTraining(ObjectsTraining):
    """The trainer's view of a detection experiment."""

    lower_is_better = False

    def __init__(self, experiment: Any, world: World, log: Log, init: Path | None = None):
        self.experiment, self.world = experiment, world
        self.monitor = "AP" if experiment.eval.metric == COCO else "mAP"
        torch.manual_seed(experiment.train.seed)
        self.notes = Notes(log.warn)
        self.source = open_scenes(experiment.data, "train")
        self.validation = open_scenes(experiment.data, "val")
        self.report_problems(log)
        self.model = build_detector(experiment, self.source.classes, self.source.category_ids)
        self.check_masks()
        if init:
            self.start_from(init, log)
        self.training = self.make_loader()
        self.step = LossesStep(self.model)
        self.judged: DatasetDetections | None = None  # by the last evaluation

    def report_problems(self, log: Log) -> None:
        for source in (self.source, self.validation):
            for sentence in source.problems:
                log.info(sentence)
        if self.validation.classes != self.source.classes:
            raise DataError(
                f"The validation set has the classes {', '.join(self.validation.classes[:5])} … and the training set "
                f"{', '.join(self.source.classes[:5])} …: give both files the same categories."
            )

    def check_masks(self) -> None:
        if self.model.draws_masks and not self.source.has_masks:
            key = "mask" if self.experiment.model.mnc is None else "mnc"
            raise ConfigError(f"model.{key} is set and the annotations have no masks: set model.{key}=null.")

    def check_ground_truth(self) -> None:
        """Evaluates an empty set of detections."""
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
            workers=data.workers,
            on_bad_image=data.on_bad_image,
            rank=self.world.rank,
            world=self.world.size,
        )

    def copies(self) -> np.ndarray | None:
        """How often each image is expected in a pass over the data; None: once."""
        data = self.experiment.data
        presence = (*self.source.presence(), len(self.source))
        if data.sampling == "repeat_factor":
            return repeat_factors(*presence, data.repeat_threshold)
        return class_aware(*presence, data.negatives) if data.sampling == "class_aware" else None

    def evaluate(self, model: Detector) -> dict[str, float]:
        """AP, and the validation losses; the processes share the images, and all know the figures."""
        self.judged = detect([model], self.validation, self.experiment, self.world, self.notes)
        metric, judged = self.experiment.eval.metric, self.judged
        judge_results = lambda: headline_metrics(
            metric, self.validation, judged.results, model.draws_masks, judged.left_out
        )
        return with_total(judged.losses) | distributed.from_main(judge_results)

    def keep(self, folder: Path) -> None:
        """The detections of the last evaluation as a COCO results file, and drawn."""
        self.judged.results.save(folder / RESULTS)
        write_pictures(folder / PICTURES, self.validation, self.judged.results, SHOWN)

    def description(self) -> dict[str, Any]:
        keys = ("experiment", "classes", "category_ids")
        return {key: getattr(self.model, key) for key in keys}
