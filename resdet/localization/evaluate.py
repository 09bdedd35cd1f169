"""A localizer on a data set: where it sees given classes, what a classifier says these are, and the errors of both."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from resdet.classification.config import ClassificationEvalConfig
from resdet.classification.evaluate import scored_images
from resdet.data.loader import Notes, Skipped, collated, worker_count
from resdet.detection.evaluation.validation_loss import LossSums
from resdet.engine.distributed import gather
from resdet.errors import DataError
from resdet.localization.config import LocalizationEvalConfig
from resdet.localization.loc_error import GUESSES, evaluate_loc
from resdet.localization.locate import Locator, Show, View
from resdet.results.result import Result


class Shown(NamedTuple):
    """Images as a locator wants them."""

    views: list[View]
    sizes: Tensor  # [B, 2]: height and width of the images
    indices: list[int]


class ViewSamples(Dataset):
    """Image number -> its views, or the reason why there are none."""

    def __init__(self, source: Any, show: Show, on_bad_image: str):
        self.source, self.show, self.on_bad_image = source, show, on_bad_image

    def __getitem__(self, index: int) -> tuple[Shown | None, str]:
        try:
            image = self.source.image(index)
            return Shown(self.show(image), torch.tensor([image.size[::-1]], dtype=torch.float32), [index]), ""
        except DataError as error:
            if self.on_bad_image == "error":
                raise
            return None, str(error)


def collate(items: list[tuple[Shown | None, str]]) -> tuple[Shown | None, list[str]]:
    """The images together; views of one kind have one size."""
    kept = [shown for shown, _ in items if shown]
    notes = [note for _, note in items if note]
    if not kept:
        return None, notes
    views = [View(*(torch.cat(fields) for fields in zip(*alike))) for alike in zip(*(shown.views for shown in kept))]
    indices = [index for shown in kept for index in shown.indices]
    return Shown(views, torch.cat([shown.sizes for shown in kept]), indices), notes


def shown_images(
    locator: Locator, source: Any, indices: Sequence[int], batch: int, workers: int, on_bad_image: str, notes: Notes
) -> Iterator[Shown]:
    """These images of the source, on the locator's device."""
    step = batch if locator.together else 1
    keys = [list(indices[start : start + step]) for start in range(0, len(indices), step)]
    samples = ViewSamples(source, locator.show, on_bad_image)
    for shown, sentences in collated(samples, keys, collate, worker_count(workers), locator.device):
        notes.note(sentences)
        if shown:
            views = [seen.to(locator.device) for seen in shown.views]
            yield Shown(views, shown.sizes.to(locator.device), shown.indices)


class Located(NamedTuple):
    """Boxes of K given classes in n images."""

    indices: np.ndarray  # int64 [n]
    boxes: np.ndarray  # float32 [n, K, 4], xyxy in pixels of the images
    scores: np.ndarray  # float32 [n, K]
    sizes: np.ndarray  # float32 [n, 2]: height and width of the images
    losses: dict[str, float]  # means over the images, where they were asked for

    def results(self, source: Any, classes: np.ndarray) -> list[Result]:
        """The same as one result an image; `classes` [N, K] are those that were given."""
        sizes = self.sizes.astype(int).tolist()
        return [
            Result.of(boxes, scores, classes[index], source.classes, size, source.name(index))
            for index, boxes, scores, size in zip(self.indices.tolist(), self.boxes, self.scores, sizes)
        ]


@torch.inference_mode()
def locate_all(
    locator: Locator,
    source: Any,
    classes: np.ndarray,
    config: LocalizationEvalConfig,
    notes: Notes,
    workers: int = -1,
    on_bad_image: str = "error",
    rank: int = 0,
    world: int = 1,
    losses: Callable[[Shown], dict[str, Tensor]] | None = None,
) -> Located:
    """The best box of each of the classes [N, K] of all images, in their order; the processes share the work.

    Images with a class below 0, and those that cannot be read and are skipped, are left out. `losses` gives those of
    some images, of which the means are kept.
    """
    mine = np.flatnonzero((classes >= 0).all(1))[rank::world].tolist()
    parts, sums = [nowhere(classes.shape[1])], LossSums()
    for shown in shown_images(locator, source, mine, config.batch, workers, on_bad_image, notes):
        wanted = torch.from_numpy(classes[shown.indices]).to(locator.device)
        found = (*locator(shown.views, shown.sizes, wanted), shown.sizes)
        parts.append((np.array(shown.indices), *(field.cpu().numpy() for field in found)))
        sums.add(losses(shown) if losses else {}, len(shown.indices))
    fields = [np.concatenate(part) for part in zip(*gather(parts))]
    order = np.argsort(fields[0])
    return Located(*(field[order] for field in fields), sums.means())


def nowhere(classes: int) -> tuple[np.ndarray, ...]:
    """Indices, boxes, scores and sizes of no image."""
    shapes = [(0, classes, 4), (0, classes), (0, 2)]
    return np.zeros(0, np.int64), *(np.zeros(shape, np.float32) for shape in shapes)


def best_classes(
    models: Sequence[nn.Module],
    source: Any,
    config: LocalizationEvalConfig,
    device: torch.device,
    skipped: Skipped,
    **options: Any,
) -> np.ndarray:
    """The five best classes of each image by a classifier or an ensemble of them, int64 [N, 5]; -1 where it was
    skipped. `options` are those of `scored_images`."""
    guesses = min(GUESSES, len(models[0].classes))
    found = np.full((len(source), guesses), -1, np.int64)
    views = ClassificationEvalConfig(batch=config.batch, views=config.classifier_views)
    parts = [
        (indices.numpy(), scores.topk(guesses).indices.cpu().numpy())
        for scores, _, indices in scored_images(models, source, views, device, skipped=skipped, **options)
    ]
    for indices, best in gather(parts):
        found[indices] = best
    return found


def errors(source: Any, located: Located, guessed: np.ndarray | None) -> dict[str, float]:
    """`loc_error` of the first box of each image, that of its own class; and with `guessed` [N, k] the classes of the
    others, `topk_loc_error` and `topk_error`, the classes' own."""
    picked = located.indices
    if not len(picked):
        raise DataError("No validation image could be read: look at the files that were named.")
    truth = (source.labels[picked], [source.boxes(i) for i in picked.tolist()])
    # The boxes of a few images were drawn in a picture of another size.
    ratio = source.sizes[picked] / located.sizes[:, ::-1]
    boxes = located.boxes * np.tile(ratio, 2)[:, None]
    figures = {"loc_error": evaluate_loc(truth, (truth[0][:, None], boxes[:, :1]))["loc_error"]}
    if guessed is not None:
        found = evaluate_loc(truth, (guessed[picked], boxes[:, 1:]))
        k = guessed.shape[1]
        figures |= {f"top{k}_loc_error": found["loc_error"], f"top{k}_error": found["class_error"]}
    return figures
