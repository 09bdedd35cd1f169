"""Top-1 and top-5 errors (Tables 2 to 6), per class and overall, across all processes."""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from resdet.results import markdown

TOP = 5


def has_top5(classes: int) -> bool:
    """Whether a top-5 error is informative: with five classes or fewer, it is always 0."""
    return classes > TOP


@dataclass
class ClassificationMetrics:
    """Errors as fractions; `per_class` [C, 3] contains images, top-1 hits and top-5 hits of each class."""

    images: int
    loss: float
    error: float
    top5_error: float
    per_class: Tensor

    def summary(self) -> dict[str, float]:
        top5 = {"top5_error": self.top5_error} if has_top5(len(self.per_class)) else {}
        return {"loss": self.loss, "error": self.error, **top5}


class Tally:
    """Accumulates counts on the device; ignores images with label -1 (unknown or unreadable)."""

    def __init__(self, classes: int, device: torch.device):
        self.counts = torch.zeros(classes, 3, dtype=torch.float64, device=device)  # images, top-1 hits, top-5 hits
        self.loss = torch.zeros((), dtype=torch.float64, device=device)

    def add(self, scores: Tensor, labels: Tensor) -> None:
        """Adds probabilities `scores` [B, C] and labels [B]. Of equal scores, the smaller class number ranks first.

        NaN ranks above all other scores, and an image with a NaN score for its label counts as an error.
        """
        valid = labels >= 0
        target = scores.gather(1, labels.clamp(min=0)[:, None])
        before = torch.arange(scores.shape[1], device=scores.device) < labels[:, None]
        rank = (~(scores <= target)).sum(1) + ((scores == target) & before).sum(1)
        hits = torch.stack([valid, valid & (rank < 1), valid & (rank < TOP)], 1).double()
        self.counts.index_add_(0, labels.clamp(min=0), hits)
        self.loss += (valid * -target[:, 0].double().clamp(min=1e-45).log()).sum()

    def metrics(self) -> ClassificationMetrics:
        """Returns the metrics across all processes."""
        if dist.is_initialized():
            dist.all_reduce(self.counts)
            dist.all_reduce(self.loss)
        images, first, fifth = self.counts.sum(0).tolist()
        count = max(images, 1)
        return ClassificationMetrics(
            int(images), self.loss.item() / count, 1 - first / count, 1 - fifth / count, self.counts.cpu()
        )


def per_class_table(metrics: ClassificationMetrics, names: list[str]) -> str:
    """Returns a Markdown table, worst class first; n/a for a class without images."""
    rows = []
    for name, (images, first, fifth) in zip(names, metrics.per_class.tolist()):
        errors = (1 - first / images, 1 - fifth / images) if images else (None, None)
        rows.append((name, int(images), *errors))
    rows.sort(key=lambda row: -1 if row[2] is None else row[2], reverse=True)
    percent = lambda error: "n/a" if error is None else f"{100 * error:.2f}"
    cells = [[name, str(images), percent(one), percent(five)] for name, images, one, five in rows]
    columns = 4 if has_top5(len(names)) else 3
    header = ["class", "images", "top-1 error %", "top-5 error %"][:columns]
    return markdown.table(header, [row[:columns] for row in cells])
