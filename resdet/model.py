"""The base class of the models of all tasks."""

from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor, nn

Kind = Literal["backbone", "classifier", "detector", "localizer"]


class Model(nn.Module):
    """A network with its preprocessing, its classes and the config that it was built from.

    Arguments and results of `predict` and `losses` depend on the class: Classifier, Detector, Localizer, …
    """

    task: str  # name of the task in the registry
    kind: Kind  # the layout of its weights
    exported: bool = False  # whether it runs an exported file, which has no weights
    classes: list[str]
    experiment: dict[str, Any]  # the resolved config, saved in checkpoints

    losses: Callable[..., dict[str, Tensor]]  # (images, targets) -> scalars by name; their sum is minimized
    predict: Callable[..., Any]  # (images, …) -> one result per image
    # Replaces each function that takes much of the time of inference by `compile(function)`.
    compile_inference: Callable[[Callable[[Callable[..., Any]], Callable[..., Any]]], None]
