"""`resdet evaluate --submission` with detector weights: files for VOC, ILSVRC and COCO."""

from collections.abc import Sequence
from pathlib import Path

from resdet.detection.config import DetectionExperiment
from resdet.detection.data.annotations import Annotations
from resdet.detection.data.config import CocoConfig, ScenesConfig, VocConfig
from resdet.detection.evaluation import submissions
from resdet.detection.evaluation.command import check_and_detect
from resdet.detection.evaluation.results import Results
from resdet.detection.model import Detector
from resdet.engine import distributed
from resdet.errors import ConfigError, number_of


def submit_detections(models: Sequence[Detector], experiment: DetectionExperiment, path: str) -> dict[str, float]:
    """Writes and checks the detections of a detector or an ensemble on the test set of `data.val`."""
    data = experiment.scenes
    if isinstance(data, CocoConfig):
        check_coco(Path(path), models)  # early, since detection takes hours
    source = data.open_test()
    experiment.eval.losses = False
    world = distributed.join(experiment.train.device)
    try:
        results = check_and_detect(models, source, experiment, world).results
    finally:
        distributed.leave()
    if world.is_main:
        if isinstance(data, CocoConfig):
            limit = submissions.COCO_LIMITS[submissions.coco_kind(Path(path))]
            results = submissions.best_of_each_image(results, limit)
        write(path, results, source, data)
        print(f"{path}: {number_of(len(results), 'detection')} in {number_of(len(source), 'image')}")
    return {}


def check_coco(path: Path, models: Sequence[Detector]) -> None:
    """Rejects names that COCO's server does not accept, and names for keypoints with models that predict none."""
    if submissions.coco_kind(path) == "person_keypoints" and not any(model.draws_keypoints for model in models):
        raise ConfigError(f"{path.name} is the name of a submission of keypoints: give a keypoint detector.")


def write(path: str, results: Results, source: Annotations, data: ScenesConfig) -> None:
    if isinstance(data, CocoConfig):
        submissions.write_coco(path, results)
        return submissions.check_coco(path, source)
    if isinstance(data, VocConfig):
        year, split = data.val_sets[0].split("_", 1)
        competition: submissions.Competition = "comp3" if Path(path).name.startswith("comp3") else "comp4"
        submissions.write_voc(path, results, source, year, split, competition)
        return submissions.check_voc(path, source, year, split, competition)
    submissions.write_det(path, results, source)
    submissions.check_det(path, source)
