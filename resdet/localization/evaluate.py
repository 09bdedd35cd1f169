"""Evaluation of localizers on a data set: boxes of given or predicted classes, and their errors."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from resdet.classification.config import ClassificationEvalConfig
from resdet.classification.evaluate import scored_images
from resdet.classification.model import Classifier
from resdet.data.loader import Notes, Skipped, collated, skip_or_raise, worker_count
from resdet.detection.evaluation.validation_loss import LossSums
from resdet.engine.distributed import gather
from resdet.errors import DataError
from resdet.images.decode import Source
from resdet.localization.config import LocalizationEvalConfig
from resdet.localization.data.ilsvrc_loc import LocalizedImages
from resdet.localization.loc_error import GUESSES, evaluate_loc
from resdet.localization.locate import Locator, View, ViewBuilder
from resdet.progress import track
from resdet.results.result import Result


class ViewBatch(NamedTuple):
    """The inputs of a locator."""

    views: list[View]
    sizes: Tensor  # [B, 2]: height and width of the images
    indices: list[int]


class ViewSamples(Dataset):
    """Image index -> its views and "", or None and an error message."""

    def __init__(self, source: Source, build_views: ViewBuilder, on_bad_image: str):
        self.source, self.build_views, self.on_bad_image = source, build_views, on_bad_image

    def __getitem__(self, index: int) -> tuple[ViewBatch | None, str]:
        try:
            image = self.source.image(index)
            size = torch.tensor([image.size[::-1]], dtype=torch.float32)
            return ViewBatch(self.build_views(image), size, [index]), ""
        except DataError as error:
            return None, skip_or_raise(error, self.on_bad_image)


def collate(items: list[tuple[ViewBatch | None, str]]) -> tuple[ViewBatch | None, list[str]]:
    """Returns the batch of all images, and error messages; views of one kind have one size."""
    parts = [part for part, _ in items if part]
    notes = [note for _, note in items if note]
    if not parts:
        return None, notes
    views = [View(*(torch.cat(fields) for fields in zip(*alike))) for alike in zip(*(part.views for part in parts))]
    indices = [index for part in parts for index in part.indices]
    return ViewBatch(views, torch.cat([part.sizes for part in parts]), indices), notes


def size_of(collated: tuple[ViewBatch | None, list[str]]) -> int:
    """Returns the number of images, including skipped ones."""
    batch, notes = collated
    return len(notes) + (len(batch.indices) if batch else 0)


def view_batches(
    locator: Locator,
    source: Source,
    indices: Sequence[int],
    batch: int,
    workers: int,
    on_bad_image: str,
    notes: Notes,
    title: str = "evaluating",
) -> Iterator[ViewBatch]:
    """Yields the views of the images with these indices, on the locator's device. `title` names the progress."""
    step = batch if locator.batched else 1
    keys = [list(indices[start : start + step]) for start in range(0, len(indices), step)]
    samples = ViewSamples(source, locator.build_views, on_bad_image)
    batches = collated(samples, keys, collate, worker_count(workers), locator.device)
    for images, sentences in track(batches, title, len(indices), size_of):
        notes.note(sentences)
        if images:
            views = [view.to(locator.device) for view in images.views]
            yield ViewBatch(views, images.sizes.to(locator.device), images.indices)


class Located(NamedTuple):
    """Boxes of K given classes in n images."""

    indices: np.ndarray  # int64 [n]
    boxes: np.ndarray  # float32 [n, K, 4], xyxy in pixels of the images
    scores: np.ndarray  # float32 [n, K]
    sizes: np.ndarray  # float32 [n, 2]: height and width of the images
    losses: dict[str, float]  # means over the images; empty if not computed

    def results(self, source: Source, classes: np.ndarray) -> list[Result]:
        """Returns one result per image; `classes` [N, K] are the given classes of all images."""
        sizes = self.sizes.astype(int).tolist()
        return [
            Result.of(boxes, scores, classes[index], source.classes, size, source.name(index))
            for index, boxes, scores, size in zip(self.indices.tolist(), self.boxes, self.scores, sizes)
        ]


@torch.inference_mode()
def locate_all(
    locator: Locator,
    source: Source,
    classes: np.ndarray,
    config: LocalizationEvalConfig,
    notes: Notes,
    workers: int = -1,
    on_bad_image: str = "error",
    rank: int = 0,
    world: int = 1,
    losses: Callable[[ViewBatch], dict[str, Tensor]] | None = None,
) -> Located:
    """Returns the best boxes of the given classes [N, K], in image order, from all processes.

    Omits images with a class below 0 and skipped unreadable images. `losses` computes the mean losses of a batch.
    """
    indices = np.flatnonzero((classes >= 0).all(1))[rank::world].tolist()
    parts, sums = [no_images(classes.shape[1])], LossSums()
    for batch in view_batches(locator, source, indices, config.batch, workers, on_bad_image, notes):
        labels = torch.from_numpy(classes[batch.indices]).to(locator.device)
        fields = (*locator(batch.views, batch.sizes, labels), batch.sizes)
        parts.append((np.array(batch.indices), *(field.cpu().numpy() for field in fields)))
        sums.add(losses(batch) if losses else {}, len(batch.indices))
    numbers, boxes, scores, sizes = (np.concatenate(part) for part in zip(*gather(parts)))
    order = np.argsort(numbers)
    return Located(numbers[order], boxes[order], scores[order], sizes[order], sums.means())


def no_images(classes: int) -> tuple[np.ndarray, ...]:
    """Returns empty indices, boxes, scores and sizes."""
    shapes = [(0, classes, 4), (0, classes), (0, 2)]
    return np.zeros(0, np.int64), *(np.zeros(shape, np.float32) for shape in shapes)


def best_classes(
    models: Sequence[Classifier],
    source: Source,
    config: LocalizationEvalConfig,
    device: torch.device,
    skipped: Skipped,
    **options: Any,
) -> np.ndarray:
    """Returns the top five classes of each image from a classifier or an ensemble, int64 [N, 5]; -1 for a skipped
    image.

    `options` are those of `scored_images`.
    """
    guesses = min(GUESSES, len(models[0].classes))
    classes = np.full((len(source), guesses), -1, np.int64)
    views = ClassificationEvalConfig(batch=config.batch, views=config.classifier_views)
    parts = [
        (indices.numpy(), scores.topk(guesses).indices.cpu().numpy())
        for scores, _, indices in scored_images(models, source, views, device, skipped=skipped, **options)
    ]
    for indices, best in gather(parts):
        classes[indices] = best
    return classes


def errors(source: LocalizedImages, located: Located, guessed: np.ndarray | None) -> dict[str, float]:
    """Returns `loc_error` of the first box of each image, which has the ground-truth class. With predicted classes
    `guessed` [N, k] of the other boxes, also returns `topk_loc_error`, and `topk_error` of the classes alone."""
    indices = located.indices
    if not len(indices):
        raise DataError("Cannot read any validation image: check the files reported above.")
    truth = (source.labels[indices], [source.boxes(i) for i in indices.tolist()])
    # A few images were annotated at another size.
    ratio = source.sizes[indices] / located.sizes[:, ::-1]
    boxes = located.boxes * np.tile(ratio, 2)[:, None]
    metrics = {"loc_error": evaluate_loc(truth, (truth[0][:, None], boxes[:, :1]))["loc_error"]}
    if guessed is not None:
        result = evaluate_loc(truth, (guessed[indices], boxes[:, 1:]))
        k = guessed.shape[1]
        metrics |= {f"top{k}_loc_error": result["loc_error"], f"top{k}_error": result["class_error"]}
    return metrics
