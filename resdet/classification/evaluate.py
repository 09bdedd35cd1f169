"""A classifier, or several as an ensemble, on a data set: shown as resdet/classification/test_crops.py says, and judged."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from resdet.classification.metrics import ClassificationMetrics, Tally
from resdet.classification.test_crops import Scorer, build_test_crops, tensors
from resdet.config.experiment import EvalConfig
from resdet.data.loader import Skipped, collated, worker_count
from resdet.errors import DataError
from resdet.structures import Batch


class Views(Dataset):
    """Image number -> what is shown of it, a list of uint8 [V, 3, H, W], one entry a scale; its label; why not."""

    def __init__(self, source: Any, show: Callable[[Any], list[np.ndarray]], indices: Sequence[int], on_bad_image: str):
        self.source, self.show, self.indices, self.on_bad_image = source, show, indices, on_bad_image

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> tuple[list[Tensor], int, int, str]:
        index = self.indices[position]
        try:
            shown = tensors(self.show, self.source.image(index))
        except DataError as error:
            if self.on_bad_image == "error":
                raise
            return [], -1, index, str(error)
        return shown, int(self.source.labels[index]), index, ""


def collate(items: list[tuple[list[Tensor], int, int, str]]) -> tuple[tuple[list[Tensor], Tensor, Tensor], list[str]]:
    """The views of all images together, one tensor a scale, labels and indices; why images were left out."""
    kept = [item for item in items if item[0]]
    scales = [torch.cat(views) for views in zip(*(shown for shown, *_ in kept))]
    labels, indices = (torch.tensor([item[field] for item in kept]) for field in (1, 2))
    return (scales, labels, indices), [reason for *_, reason in items if reason]


@torch.inference_mode()
def scored_images(
    models: Sequence[nn.Module],
    source: Any,
    config: EvalConfig,
    device: torch.device,
    skipped: Skipped,
    workers: int = -1,
    on_bad_image: str = "error",
    rank: int = 0,
    world: int = 1,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Probabilities [B, C], labels and indices [B] of this process's share of a source, some images at a time."""
    show = build_test_crops(config, models[0].size, models[0].short)
    samples = Views(source, show, range(rank, len(source), world), on_bad_image)
    batch = {"center": config.batch, "ten_crop": max(1, config.batch // 10), "dense": 1}[config.views]
    keys = [list(range(len(samples))[start : start + batch]) for start in range(0, len(samples), batch)]
    scorer = Scorer(models, device, config.views == "dense")
    for (scales, labels, indices), reasons in collated(samples, keys, collate, worker_count(workers), device):
        skipped.note(reasons)
        if scales:
            yield scorer(scales).unflatten(0, (len(labels), -1)).mean(1), labels.to(device), indices


def evaluate_views(
    models: Sequence[nn.Module], source: Any, config: EvalConfig, device: torch.device, **options
) -> ClassificationMetrics:
    """Errors of one net, or of an ensemble, on a source of images."""
    return judge(scored_images(models, source, config, device, **options), len(models[0].classes), device)


@torch.inference_mode()
def evaluate_on_device(
    models: Sequence[nn.Module], batches: Iterable[Batch], device: torch.device
) -> ClassificationMetrics:
    """The same on small images that lie on the device: a single view (Table 6)."""
    scorer = Scorer(models, device, dense=False)
    scored = ((scorer([batch.images]), batch.targets, batch.indices) for batch in batches)
    return judge(scored, len(models[0].classes), device)


def judge(scored: Iterable[tuple[Tensor, Tensor, Tensor]], classes: int, device: torch.device) -> ClassificationMetrics:
    tally = Tally(classes, device)
    for scores, labels, _ in scored:
        tally.add(scores, labels)
    return tally.figures()
