"""A detector on a data set: its detections, its losses, and what the evaluators make of them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resdet.data.loader import Notes
from resdet.detection.data.annotations import Annotations
from resdet.detection.data.geometry import open_image
from resdet.detection.data.loader import EvaluationBatch, evaluation_batches
from resdet.detection.evaluation import coco
from resdet.detection.evaluation.ground_truth import Kind
from resdet.detection.evaluation.protocols import PROTOCOLS
from resdet.detection.evaluation.results import Results
from resdet.detection.evaluation.validation_loss import LossSums
from resdet.detection.inference.predictor import finish
from resdet.detection.inference.tta import EnsembleDetector
from resdet.engine.distributed import gather
from resdet.errors import DataError
from resdet.images.resizing import resize
from resdet.results.result import Result

COCO_FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")


@dataclass
class Judged:
    """What one pass over a data set gave, over all processes."""

    results: Results
    losses: dict[str, float]  # means over the images
    left_out: list[int]  # images that could not be read, and are not judged


def evaluation_batches_of(
    source: Annotations, experiment: Any, model: Any, world: Any, notes: Notes
) -> Iterator[EvaluationBatch]:
    """This process's share of a source, resized as the model's weights want it."""
    data, size = experiment.data, model.input
    return evaluation_batches(
        source,
        size.min_size,
        size.max_size,
        partial(resize, short=size.min_size, long=size.max_size, style=size.resize),
        experiment.eval.batch,
        world.device,
        notes,
        targets=experiment.eval.losses,
        max_objects=data.max_objects,
        mask_size=data.mask_size if model.draws_masks else None,
        divisor=None if experiment.train.compile else size.divisor,
        on_bad_image=data.on_bad_image,
        workers=data.workers,
        rank=world.rank,
        world=world.size,
    )


def judge(models: Sequence[Any], source: Annotations, experiment: Any, world: Any, notes: Notes) -> Judged:
    """All that a detector, or several as an ensemble, find in a source, tested as the experiment says."""
    settings = experiment.eval
    surplus = set(models[0].category_ids) - set(source.category_ids)
    if models[0].draws_masks and len(source.maskless()):
        notes.note([source.maskless_note()])
    if surplus:
        notes.note([f"{len(surplus)} of the model's categories are not the data's, and are not judged"])
    if len(models) > 1 or not settings.plain:
        return predict_all(EnsembleDetector(models, settings), source, experiment.data.on_bad_image, world, notes)
    batches = evaluation_batches_of(source, experiment, models[0], world, notes)
    return detect_all(models[0].eval(), source, batches, settings.score)


def predict_all(
    detector: Any, source: Annotations, on_bad_image: str, world: Any, notes: Notes, score: float | None = None
) -> Judged:
    """All that `detector.predict` finds in a source, image by image. What cannot be read is left out, unless it is an
    error."""
    parts, seen = [empty(detector)], []
    for index in range(world.rank, len(source), world.size):
        try:
            (result,) = detector.predict([open_image(source, index)], score)
        except DataError as error:
            if on_bad_image == "error":
                raise
            notes.note([f"image left out, {error}"])
            continue
        parts.append(as_results(result, source, index))
        seen.append(index)
    return Judged(of_all(parts), {}, unseen(source, seen))


@torch.inference_mode()
def detect_all(
    model: Any,
    source: Annotations,
    batches: Iterable[EvaluationBatch],
    score: float | None = None,
) -> Judged:
    """All detections in a source; the losses as well where the batches have targets. The model is in eval mode."""
    parts, seen, sums = [empty(model)], [], LossSums()
    for batch in batches:
        found, indices, batch_losses = detected(model, source, batch, score)
        parts += [as_results(result, source, index) for result, index in zip(found, indices)]
        seen += indices
        sums.add(batch_losses, len(indices))
    return Judged(of_all(parts), sums.means(), unseen(source, seen))


def detected(
    model: Any, source: Annotations, batch: EvaluationBatch, score: float | None = None
) -> tuple[list[Result], list[int], dict[str, Tensor]]:
    """The results of a batch, the numbers of its images, and its losses."""
    indices = batch.indices.tolist()
    maps = model.maps(batch.images)
    # Losses are taken of sampled anchors and regions: the same ones whoever evaluates, and after whatever.
    torch.manual_seed(indices[0])
    losses = {} if batch.targets is None else model.losses_of(maps, batch.images, batch.targets)
    originals = [tuple(source.sizes[index][::-1].tolist()) for index in indices]
    found = model.detections_of(maps, batch.images, score)
    return finish(model, maps, found, batch.images.sizes, originals), indices, losses


def as_results(result: Result, source: Annotations, index: int) -> Results:
    """What was found in an image of the source, in the size that its annotations have; of their categories alone."""
    image_id = source.result_id(index)
    entries = result.to_coco(image_id)
    masks = None if result.masks is None else [entry["segmentation"] for entry in entries]
    boxes = np.array([entry["bbox"] for entry in entries], np.float64).reshape(-1, 4)
    boxes *= np.tile(source.sizes[index] / result.size[::-1], 2)
    found = Results(np.full(len(entries), image_id), result.category_ids, result.scores, boxes, masks)
    return found.where(np.isin(found.category_ids, source.category_ids))


def empty(model: Any) -> Results:
    return Results(np.zeros(0), np.zeros(0), np.zeros(0), np.zeros((0, 4)), [] if model.draws_masks else None)


def of_all(parts: Sequence[Results]) -> Results:
    """The detections of all processes, of which each brings its own."""
    return Results.concatenate(gather([Results.concatenate(parts)]))


def unseen(source: Annotations, seen: list[int]) -> list[int]:
    """The images that are not among those of any process."""
    return sorted(set(range(len(source))) - set(gather(seen)))


def figures(
    metric: str, source: Annotations, results: Results, masks: bool, left_out: Sequence[int] = ()
) -> dict[str, float]:
    """The headline figures by the metric that was asked for; those that do not exist are left out."""
    truth = truth_of(source, left_out)
    if metric != "coco":
        return known({"mAP": PROTOCOLS[metric](truth, results)["mAP"]}, source)
    found = coco.evaluate(truth, results, "bbox")
    shown = {name: found[name] for name in COCO_FIGURES}
    if masks:
        found = coco.evaluate(truth_of(source, left_out, "segm"), results, "segm")
        shown |= {f"mask_{name}": found[name] for name in COCO_FIGURES}
    return known(shown, source)


def truth_of(source: Annotations, left_out: Sequence[int] = (), kind: Kind = "bbox") -> str | Path | dict:
    """The annotations as evaluators take them, without some images, whose objects they then pass over, and for masks
    without objects that have none; a sound COCO file is read by the evaluator itself, which is faster."""
    maskless = kind == "segm" and len(source.maskless()) > 0
    if source.intact and not left_out and not maskless:
        return source.file
    content, gone = source.to_coco(), {source.result_id(index) for index in left_out}
    content["images"] = [image for image in content["images"] if image["id"] not in gone]
    if maskless:
        content["annotations"] = [entry for entry in content["annotations"] if entry.get("segmentation")]
    return content


def known(values: dict[str, float | None], source: Annotations) -> dict[str, float]:
    first = next(iter(values))
    if values[first] is None:
        raise DataError(f"{source.root or 'the validation set'} has no objects to judge detections by: check data.val.")
    return {name: value for name, value in values.items() if value is not None}
