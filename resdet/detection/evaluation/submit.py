"""`resdet evaluate --submission` with a detector's weights: the file for VOC's, ILSVRC DET's or COCO's test server."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resdet.data.loader import Notes
from resdet.detection.data.annotations import Annotations
from resdet.detection.data.config import CocoConfig, VocConfig
from resdet.detection.data.sources import open_test_images
from resdet.detection.evaluation import submissions
from resdet.detection.evaluation.evaluate import judge
from resdet.detection.evaluation.report import check_classes
from resdet.detection.evaluation.results import Results
from resdet.engine import distributed


def submit_detections(models: Sequence[Any], experiment: Any, path: str) -> dict[str, float]:
    """Writes what one detector, or several as an ensemble, find in the images of `data.val`, whose objects nobody here
    knows, and checks the file."""
    if isinstance(experiment.data, CocoConfig):
        submissions.check_coco_name(Path(path))  # before hours of detecting
    source = open_test_images(experiment.data)
    experiment.eval.losses = False
    world = distributed.join(experiment.train.device)
    try:
        check_classes(models[0], source)
        models = [model.to(world.device) for model in models]
        results = judge(models, source, experiment, world, Notes(print)).results
    finally:
        distributed.leave()
    if world.is_main:
        write(path, results, source, experiment.data)
        print(f"{path}: {len(results)} detections in {len(source)} images")
    return {}


def write(path: str, results: Results, source: Annotations, data: Any) -> None:
    if isinstance(data, CocoConfig):
        submissions.write_coco(path, results)
        return submissions.check_coco(path, source)
    if isinstance(data, VocConfig):
        year, split = data.val_sets[0].split("_", 1)
        competition = "comp3" if Path(path).name.startswith("comp3") else "comp4"
        submissions.write_voc(path, results, source, year, split, competition)
        return submissions.check_voc(path, source, year, split, competition)
    submissions.write_det(path, results, source)
    submissions.check_det(path, source)
