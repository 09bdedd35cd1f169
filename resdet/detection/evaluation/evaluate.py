"""Runs detectors on a data set and gathers detections and validation losses of all processes."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from resdet.data.loader import Notes, skip_or_raise
from resdet.detection.config import DetectionExperiment
from resdet.detection.data.annotations import Annotations
from resdet.detection.data.collate import TargetFormat
from resdet.detection.data.geometry import open_image
from resdet.detection.data.loader import EvaluationBatch, evaluation_batches
from resdet.detection.evaluation.category_map import CategoryMap
from resdet.detection.evaluation.ground_truth import Kind
from resdet.detection.evaluation.results import Results
from resdet.detection.evaluation.validation_loss import LossSums
from resdet.detection.inference.choice import choose
from resdet.detection.inference.predictor import BranchPredictor, postprocess
from resdet.detection.model import Detector
from resdet.engine.distributed import World, gather
from resdet.errors import DataError, number_of
from resdet.images.resize import resize
from resdet.progress import track
from resdet.results.box_format import xyxy_to_xywh
from resdet.results.result import Result


@dataclass
class DatasetDetections:
    """Detections on a data set, gathered from all processes."""

    results: Results
    losses: dict[str, float]  # means over the images
    left_out: list[int]  # indices of unreadable images, excluded from the metrics


def evaluation_batches_of(
    source: Annotations, experiment: DetectionExperiment, model: Detector, world: World, notes: Notes
) -> Iterator[EvaluationBatch]:
    """Returns batches of this rank's share of a source, resized for the model."""
    data, size = experiment.scenes, model.input
    targets = TargetFormat(data.max_objects, data.mask_size if model.draws_masks else None, model.keypoint_count)
    batches = evaluation_batches(
        source,
        partial(resize, short=size.min_size, long=size.max_size, style=size.resize),
        experiment.eval.batch,
        world.device,
        notes,
        targets=targets if experiment.eval.losses else None,
        shape=model.padded_shape,
        on_bad_image=data.on_bad_image,
        workers=data.workers,
        rank=world.rank,
        world=world.size,
    )
    return track(batches, "evaluating", len(world.share(len(source))), lambda batch: len(batch.indices))


def detect(
    models: Sequence[Detector], source: Annotations, experiment: DetectionExperiment, world: World, notes: Notes
) -> DatasetDetections:
    """Runs a detector, or several as an ensemble, on a source, with the experiment's evaluation settings."""
    settings = experiment.eval
    categories = CategoryMap.of(models[0], source)
    surplus = int((~categories.present).sum())
    if models[0].draws_masks and len(source.maskless()):
        notes.note([source.maskless_note()])
    if surplus:
        number = number_of(surplus, "category of the model is", "categories of the model are")
        notes.note([f"{number} not in the data and not evaluated"])
    if len(models) > 1 or not settings.plain or settings.tile or models[0].exported:
        detector, on_bad_image = choose(models, settings), experiment.scenes.on_bad_image
        return detect_one_by_one(detector, source, categories, on_bad_image, world, notes, settings.score)
    batches = evaluation_batches_of(source, experiment, models[0], world, notes)
    return detect_all(models[0].eval(), source, categories, batches, settings.score)


def detect_one_by_one(
    detector: BranchPredictor,
    source: Annotations,
    categories: CategoryMap,
    on_bad_image: str,
    world: World,
    notes: Notes,
    score: float | None = None,
) -> DatasetDetections:
    """Runs a detector on a source, image by image; skips unreadable images, or raises if `on_bad_image` is "error"."""
    parts, indices = [empty(detector)], []
    share = world.share(len(source))
    for index in track(share, "evaluating", len(share)):
        try:
            (result,) = detector.stream([open_image(source, index)], score)
        except DataError as error:
            notes.note([f"image left out, {skip_or_raise(error, on_bad_image)}"])
            continue
        parts.append(to_results(result, source, index, categories))
        indices.append(index)
    return DatasetDetections(gather_results(parts), {}, unread(source, indices))


@torch.inference_mode()
def detect_all(
    model: Detector,
    source: Annotations,
    categories: CategoryMap,
    batches: Iterable[EvaluationBatch],
    score: float | None = None,
) -> DatasetDetections:
    """Detects objects in all batches of a source, with losses if batches have targets; needs a model in eval mode."""
    parts, read, sums = [empty(model)], [], LossSums()
    labels = torch.tensor(categories.labels or [0]).to(model.device)  # 0: label of padding
    for batch in batches:
        results, indices, batch_losses = detect_batch(model, source, relabel(batch, labels), score)
        parts += [to_results(result, source, index, categories) for result, index in zip(results, indices)]
        read += indices
        sums.add(batch_losses, len(indices))
    return DatasetDetections(gather_results(parts), sums.means(), unread(source, read))


def detect_batch(
    model: Detector, source: Annotations, batch: EvaluationBatch, score: float | None = None
) -> tuple[list[Result], list[int], dict[str, Tensor]]:
    """Returns the results, image indices and losses of a batch."""
    indices = batch.indices.tolist()
    detections, maps = model.detect(batch.images, score)
    # Makes the sampling of anchors and proposals, and thus the losses, reproducible.
    torch.manual_seed(indices[0])
    losses = {} if batch.targets is None else model.losses_of(maps, batch.images, batch.targets)
    originals = [(height, width) for width, height in source.sizes[indices].tolist()]
    return postprocess(model, maps, detections, batch.images.sizes, originals), indices, losses


def relabel(batch: EvaluationBatch, labels: Tensor) -> EvaluationBatch:
    """Replaces the targets' labels with the model's; `labels`: the model's label of each category of the data."""
    if batch.targets is None:
        return batch
    return batch._replace(targets=batch.targets._replace(labels=labels[batch.targets.labels]))


def to_results(result: Result, source: Annotations, index: int, categories: CategoryMap) -> Results:
    """Converts an image's result to the annotated size and the source's category ids, without other categories."""
    image_ids = np.full(len(result), source.result_id(index))
    scale = source.sizes[index] / result.size[::-1]
    boxes = xyxy_to_xywh(result.boxes.astype(np.float64)) * np.tile(scale, 2)
    masks = None if result.rles is None else [{**rle} for rle in result.rles]
    keypoints = None if result.keypoints is None else result.keypoints.astype(np.float64) * np.append(scale, 1)
    results = Results(image_ids, categories.ids[result.labels], result.scores, boxes, masks, keypoints)
    return results.where(categories.present[result.labels])


def empty(model: BranchPredictor) -> Results:
    keypoints = np.zeros((0, 1, 3)) if model.draws_keypoints else None
    masks: list[dict] | None = [] if model.draws_masks else None
    return Results(np.zeros(0), np.zeros(0), np.zeros(0), np.zeros((0, 4)), masks, keypoints)


def kinds_of(model: BranchPredictor) -> list[Kind]:
    """Returns the kinds of predictions to evaluate: boxes, masks, keypoints."""
    kinds: dict[Kind, bool] = {"bbox": True, "segm": model.draws_masks, "keypoints": model.draws_keypoints}
    return [kind for kind, drawn in kinds.items() if drawn]


def gather_results(parts: Sequence[Results]) -> Results:
    """Joins the detections of all processes."""
    return Results.concatenate(gather([Results.concatenate(parts)]))


def unread(source: Annotations, indices: list[int]) -> list[int]:
    """Returns the images missing from the indices of all processes."""
    return sorted(set(range(len(source))) - set(gather(indices)))
