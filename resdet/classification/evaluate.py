"""Evaluates a classifier, or an ensemble, on a data set with the views of resdet/classification/test_crops.py."""

from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import torch
from torch import Tensor
from torch.utils.data import Dataset

from resdet.classification.config import ClassificationEvalConfig
from resdet.classification.metrics import ClassificationMetrics, Tally
from resdet.classification.test_crops import Scorable, Scorer, TestCrops, build_test_crops
from resdet.data.loader import Skipped, collated, skip_or_raise, worker_count
from resdet.errors import DataError
from resdet.images.decode import Source
from resdet.progress import track
from resdet.structures import Batch

Scored = tuple[Tensor, Tensor, Tensor]  # probabilities [B, C], labels [B], indices [B]


class Views(Dataset):
    """Position in `indices` -> views (uint8 [V, 3, H, W] per scale), label, index, error message or ""."""

    def __init__(self, source: Source, crops: TestCrops, indices: Sequence[int], on_bad_image: str):
        self.source, self.crops, self.indices, self.on_bad_image = source, crops, indices, on_bad_image

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> tuple[list[Tensor], int, int, str]:
        index = self.indices[position]
        try:
            views = self.crops(self.source.image(index))
        except DataError as error:
            return [], -1, index, skip_or_raise(error, self.on_bad_image)
        return views, int(self.source.labels[index]), index, ""


def collate(items: list[tuple[list[Tensor], int, int, str]]) -> tuple[tuple[list[Tensor], Tensor, Tensor], list[str]]:
    """Stacks the views, one tensor per scale, with labels and indices; also returns the messages of skipped images."""
    kept = [item for item in items if item[0]]
    scales = [torch.cat(parts) for parts in zip(*(views for views, *_ in kept))]
    labels, indices = (torch.tensor([item[field] for item in kept]) for field in (1, 2))
    return (scales, labels, indices), [reason for *_, reason in items if reason]


def size_of(collated: tuple[tuple[list[Tensor], Tensor, Tensor], list[str]]) -> int:
    """Returns the number of images, including skipped ones."""
    (_, _, indices), reasons = collated
    return len(indices) + len(reasons)


@torch.inference_mode()
def scored_images(
    models: Sequence[Scorable],
    source: Source,
    config: ClassificationEvalConfig,
    device: torch.device,
    skipped: Skipped,
    workers: int = -1,
    on_bad_image: str = "error",
    rank: int = 0,
    world: int = 1,
) -> Iterator[Scored]:
    """Yields the scores of this process's share of a source."""
    crops = build_test_crops(config, models[0].size, models[0].short)
    samples = Views(source, crops, range(rank, len(source), world), on_bad_image)
    batch = {"center": config.batch, "ten_crop": max(1, config.batch // 10), "dense": 1}[config.views]
    keys = [list(range(len(samples))[start : start + batch]) for start in range(0, len(samples), batch)]
    scorer = Scorer(models, device, config.views == "dense")
    batches = collated(samples, keys, collate, worker_count(workers), device)
    for (scales, labels, indices), reasons in track(batches, "evaluating", len(samples), size_of):
        skipped.note(reasons)
        if scales:
            yield scorer(scales).unflatten(0, (len(labels), -1)).mean(1), labels.to(device), indices


@torch.inference_mode()
def scored_on_device(models: Sequence[Scorable], batches: Iterable[Batch], device: torch.device) -> Iterator[Scored]:
    """Yields the scores of small images on the device, with a single view (Table 6)."""
    scorer = Scorer(models, device, dense=False)
    for images, labels, indices in batches:
        yield scorer([cast(Tensor, images)]), cast(Tensor, labels), indices


def tally(scored: Iterable[Scored], classes: int, device: torch.device) -> ClassificationMetrics:
    counts = Tally(classes, device)
    for scores, labels, _ in scored:
        counts.add(scores, labels)
    return counts.metrics()
