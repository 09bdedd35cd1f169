"""Class weights of the training loss, for imbalanced data."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from resdet.errors import ConfigError, number_of


def class_weights(
    config: Literal["balanced"] | Sequence[float] | None, labels: np.ndarray, classes: Sequence[str]
) -> Tensor | None:
    """Returns float32 [C]; None: all classes have equal weights. `labels` are those of the whole training set, so that
    all processes agree."""
    if config is None:
        return None
    if isinstance(config, str):
        return balanced(labels, len(classes))
    if len(config) != len(classes):
        given, number = number_of(len(config), "number"), number_of(len(classes), "class", "classes")
        raise ConfigError(f"model.class_weights lists {given} and the data has {number}: give one for each class.")
    return torch.tensor(config)


def balanced(labels: np.ndarray, classes: int) -> Tensor:
    """Returns weights inversely proportional to the number of images of each class, with a mean of 1 over all images; 0
    for a class without images. Ignores label -1."""
    counts = np.bincount(labels[labels >= 0], minlength=classes)
    mean = counts.sum() / max(1, np.count_nonzero(counts))
    return torch.from_numpy(np.where(counts > 0, mean / counts.clip(min=1), 0)).float()


def extremes(weights: Tensor, classes: Sequence[str]) -> str:
    """Formats the lowest and the highest weight, with their classes."""
    low, high = int(weights.argmin()), int(weights.argmax())
    return f"{weights[low]:.3g} ({classes[low]}) to {weights[high]:.3g} ({classes[high]})"
