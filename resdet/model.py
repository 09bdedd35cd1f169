"""The base class of the models of all tasks."""

from collections.abc import Callable, Hashable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

Kind = Literal["backbone", "classifier", "detector", "localizer"]


class Prepared(NamedTuple):
    """An image decoded and resized by `prepare_image`, the input of `predict_prepared`."""

    shape: Hashable  #: images of one shape can be predicted together
    content: Any  #: depends on the model
    size: tuple[int, int]  #: height and width of the original image


class Model(nn.Module):
    """A network with its preprocessing, its classes and the config that it was built from.

    Arguments and results of `predict` and `losses` depend on the class: Classifier, Detector, Localizer, …
    """

    task: str  #: name of the task in the registry
    kind: Kind  #: the layout of its weights
    exported: bool = False  #: whether it runs an exported file, which has no weights
    accelerated: bool = False  #: whether it is prepared for inference only (`resdet.fast`): it cannot be saved
    classes: list[str]
    experiment: dict[str, Any]  #: the resolved config, saved in checkpoints

    losses: Callable[..., dict[str, Tensor]]  #: (images, targets) -> scalars by name; their sum is minimized
    predict: Callable[..., Any]  #: (images, …) -> one result per image
    #: `predict` in two stages, for servers: images are prepared in any thread, and predicted together in one.
    prepare_image: Callable[[Any], Prepared]
    predict_prepared: Callable[..., list[Any]]  #: (images, score=None, top=None) -> one result per image
    #: Replaces each slow function of inference by `compile(function)`.
    compile_inference: Callable[[Callable[[Callable[..., Any]], Callable[..., Any]]], None]

    @property
    def device(self) -> torch.device:
        """The device of the weights; the CPU without weights, as of exported models."""
        return next((weight.device for weight in self.parameters()), torch.device("cpu"))

    @device.setter
    def device(self, value: Any) -> None:
        raise AttributeError(
            f"{type(self).__name__}.device is the device of the weights, which .to(device) moves: use another name."
        )
