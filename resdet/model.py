"""The base class of the models of all tasks."""

from collections.abc import Callable, Hashable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

Kind = Literal["backbone", "classifier", "detector", "localizer"]


class Prepared(NamedTuple):
    """An image decoded and resized by `prepare_image`; the input of `predict_prepared`."""

    shape: Hashable  #: images of equal shape can be predicted as one batch
    content: Any  #: specific to the model
    size: tuple[int, int]  #: height and width of the original image


class Model(nn.Module):
    """A network with its preprocessing, its classes and its config.

    Arguments and results of `predict` and `losses` depend on the class: Classifier, Detector, Localizer, …
    """

    task: str  #: name of the task in the registry
    kind: Kind  #: the layout of its weights
    exported: bool = False  #: whether it runs an exported file without weights
    accelerated: bool = False  #: whether it is prepared for inference only (`resdet.fast`) and cannot be saved
    classes: list[str]
    experiment: dict[str, Any]  #: the resolved config, saved in checkpoints

    losses: Callable[..., dict[str, Tensor]]  #: (images, targets) -> scalars by name; their sum is minimized
    predict: Callable[..., Any]  #: (images, …) -> one result per image
    #: `predict` in two stages, for servers: any thread prepares images, and one thread predicts them in batches.
    prepare_image: Callable[[Any], Prepared]
    predict_prepared: Callable[..., list[Any]]  #: (images, score=None, top=None) -> one result per image
    #: Replaces each expensive function of inference with `compile(function)`.
    compile_inference: Callable[[Callable[[Callable[..., Any]], Callable[..., Any]]], None]

    @property
    def device(self) -> torch.device:
        """The device of the weights; the CPU for models without weights, such as exported ones."""
        return next((weight.device for weight in self.parameters()), torch.device("cpu"))

    @device.setter
    def device(self, value: Any) -> None:
        raise AttributeError(
            f"{type(self).__name__}.device is the device of the weights, which .to(device) moves: use another name."
        )
