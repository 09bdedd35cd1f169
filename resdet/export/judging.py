"""What int8 costs: the figures of exported models on validation data, or how far apart they are on one image."""

from dataclasses import replace
from typing import Any

import torch

from resdet.data.config import ImagesConfig
from resdet.data.loader import Notes, Skipped
from resdet.data.resident import ResidentEvaluation
from resdet.data.sources import open_images, open_resident, open_scenes
from resdet.engine.distributed import World
from resdet.errors import ConfigError
from resdet.evaluation.detection import figures, predict_all
from resdet.evaluation.views import evaluate_resident, evaluate_views
from resdet.export.checking import compare_scores
from resdet.inference.exported import Exported, ExportedDetector
from resdet.inference.result import Result
from resdet.ops.boxes import iou

CPU = torch.device("cpu")
SAME = 0.5  # the IoU from which on two boxes of a class are of one object
AT_ONCE = 64  # small images


def figures_of(model: Exported, experiment: Any) -> dict[str, float]:
    """On the experiment's validation data: AP by its metric, or accuracy on single crops."""
    return detector_figures(model, experiment) if experiment.task == "detection" else accuracy(model, experiment)


def detector_figures(model: ExportedDetector, experiment: Any) -> dict[str, float]:
    source = open_scenes(experiment.data, "val")
    check_classes(set(source.category_ids) <= set(model.category_ids))
    on_bad_image, alone = experiment.data.on_bad_image, World(0, 1, CPU)
    judged = predict_all(model, source, on_bad_image, alone, Notes(print), experiment.eval.score)
    return figures(experiment.eval.metric, source, judged.results, model.draws_masks, judged.left_out)


def accuracy(model: Exported, experiment: Any) -> dict[str, float]:
    data = experiment.data
    if isinstance(data, ImagesConfig):
        source = open_images(data, "val")
        check_classes(len(source.classes) == len(model.classes))
        views = replace(experiment.eval, views="centre")
        options = {"skipped": Skipped(print, set()), "workers": data.workers, "on_bad_image": data.on_bad_image}
        found = evaluate_views([model], source, views, CPU, **options)
    else:
        images = open_resident(data, "val", CPU)
        check_classes(len(images.classes) == len(model.classes))
        found = evaluate_resident([model], ResidentEvaluation(images, AT_ONCE), CPU)
    return {"top-1": 1 - found.error, "top-5": 1 - found.top5_error}


def check_classes(fit: bool) -> None:
    if not fit:
        raise ConfigError("The data of --calibrate has other classes than the model: name the data it was trained for.")


def cost_table(whole: dict[str, float], small: dict[str, float]) -> str:
    """Markdown: each figure in float32, in int8, and what is lost."""
    pairs = [(name, value, small[name]) for name, value in whole.items()]
    rows = [f"| {name} | {before:.4f} | {after:.4f} | {before - after:.4f} |" for name, before, after in pairs]
    return "\n".join(["| | float32 | int8 | cost |", "|---|---:|---:|---:|", *rows])


def difference(whole: Exported, small: Exported, image: Any) -> str:
    """How far int8 is from float32 on one image, in words."""
    if isinstance(whole, ExportedDetector):
        return difference_of_results(*(model.predict([image])[0] for model in (whole, small)))
    pixels = whole.prepare([image])
    return compare_scores(whole(pixels), small(pixels))[1]


def difference_of_results(expected: Result, found: Result) -> str:
    boxes, others = torch.from_numpy(expected.boxes), torch.from_numpy(found.boxes)
    same = torch.from_numpy(expected.labels)[:, None] == torch.from_numpy(found.labels)
    overlaps = iou(boxes, others) * same
    again = (overlaps >= SAME).any(1) if len(found) else torch.zeros(len(expected), dtype=torch.bool)
    note = f"{int(again.sum())} of {len(expected)} detections are found again"
    if not again.any():
        return note
    partner = overlaps[again].argmax(1)
    apart = (boxes[again] - others[partner]).abs().max()
    scores = (torch.from_numpy(expected.scores)[again] - torch.from_numpy(found.scores)[partner]).abs().max()
    return f"{note}, their boxes within {apart:.1f} pixels, scores within {scores:.3f}"
