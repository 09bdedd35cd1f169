"""The classifier: normalization, a backbone, and class names."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from resdet.backbones.layers import Backbone
from resdet.backbones.modes import evaluating
from resdet.errors import DataError, require
from resdet.images import shape_groups
from resdet.images.crops import center_crop
from resdet.images.decode import as_image
from resdet.images.inputs import predict_all
from resdet.images.normalize import Normalize
from resdet.model import Model, Prepared
from resdet.results.classification import Classification
from resdet.structures import upload

PREDICT_BATCH = 64
TOP = 5  # default number of predicted classes


class Classifier(Model):
    """A backbone with its classes, pixel statistics and the size of its test crop."""

    task = "classification"
    kind = "classifier"
    class_weights: Tensor | None  # [C]: factors of the loss; set by training, not saved in checkpoints

    def __init__(
        self,
        backbone: Backbone,
        classes: Sequence[str],
        normalize: Normalize,
        size: int,
        short: int,
        label_smoothing: float = 0.0,
    ):
        super().__init__()
        # With images that are channels last in memory, convolutions need no reordering, on CPUs and GPUs.
        self.backbone = backbone.to(memory_format=torch.channels_last)
        self.normalize = normalize
        self.classes = list(classes)
        self.size, self.short = size, short
        self.label_smoothing = label_smoothing
        self.register_buffer("class_weights", None, persistent=False)
        self.experiment = {}

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits [B, C] of uint8 RGB images [B, 3, H, W]."""
        return cast(Tensor, self.backbone(self.normalize(images)))

    def compile_inference(self, compile: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """Compiles `forward` for each shape of images."""
        self.forward = compile(self.forward)  # type: ignore[method-assign]

    def losses(self, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Computes the cross entropy; `targets`: labels [B] (-1 is ignored), or probabilities [B, C] of mixed
        images."""
        check_labels(targets, len(self.classes))
        return {"cross_entropy": self.cross_entropy(self(images), targets)}

    def cross_entropy(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Computes the mean cross entropy over images with a label; zero if there is none.

        `class_weights` multiply the terms of their classes but do not change the divisor, so that the loss does not
        depend on the number of processes that share a batch.
        """
        logits, smoothing = logits.float(), self.label_smoothing
        if targets.is_floating_point():
            labeled = targets.sum(1, keepdim=True)  # below 1 if an image without a label is mixed in
            smoothed = targets * (1 - smoothing) + labeled * (smoothing / targets.shape[1])
            total = F.cross_entropy(logits, smoothed, self.class_weights, reduction="sum")
        else:
            labeled = targets >= 0
            total = F.cross_entropy(
                logits, targets, self.class_weights, ignore_index=-1, label_smoothing=smoothing, reduction="sum"
            )
        return total / labeled.sum().clamp(min=1)

    def predict(
        self,
        images: Any,
        top: int = TOP,
        batch: int | None = None,
        stream: bool = False,
        device: str | torch.device | None = None,
    ) -> Any:
        """Returns the `top` classes of each image, from its center crop.

        For one image (a path, a uint8 RGB array [H, W, 3], a PIL image, or a tensor [3, H, W] of uint8 or of floats
        from 0 to 1), returns a Classification. For a folder, a glob, a video, a batch or an iterable of images, returns
        a list, or with `stream` a generator. `batch` images are classified together (default: 64). `device`: moves the
        model there first, permanently.
        """
        if device is not None:
            self.to(device)
        return predict_all(lambda inputs: self.stream(inputs, top, batch), images, stream)

    def stream(self, images: Iterable[Any], top: int = TOP, batch: int | None = None) -> Iterator[Classification]:
        """Yields the results of `predict` one by one; holds three batches of images in memory."""
        return shape_groups.stream(self, images, PREDICT_BATCH if batch is None else batch, top=top)

    def prepare_image(self, image: Any) -> Prepared:
        """Decodes and crops an image, in any thread."""
        opened = as_image(image)
        return Prepared(self.size, center_crop(opened, self.short, self.size), opened.size[::-1])

    def predict_prepared(
        self, images: Sequence[Prepared], score: float | None = None, top: int | None = None
    ) -> list[Classification]:
        """Returns the `top` classes (default: 5) of each prepared image; `score` has no effect."""
        with evaluating([self]):
            scores = self.scores(np.stack([prepared.content for prepared in images]))
        return best_classes(scores, self.classes, TOP if top is None else top)

    @torch.inference_mode()
    def scores(self, crops: np.ndarray) -> Tensor:
        """Returns probabilities [B, C] of uint8 crops [B, H, W, 3], on the CPU."""
        pixels = upload(torch.from_numpy(crops), self.device)
        logits: Tensor = self(pixels.permute(0, 3, 1, 2))
        return logits.float().softmax(1).cpu()


def check_labels(targets: Tensor, classes: int) -> None:
    """Refuses labels outside the classes. Runs only on a CPU, since the check would wait for a GPU, and not in compiled
    code, where it would break the graph."""
    if targets.is_floating_point() or targets.device.type != "cpu" or torch.compiler.is_compiling():
        return
    outside = targets[(targets < -1) | (targets >= classes)]
    if len(outside):
        raise DataError(
            f"A label is {int(outside[0])}, but the model has {classes} classes: give labels from 0 to {classes - 1}, "
            "or -1 for an image without one."
        )


def best_classes(scores: Tensor, classes: Sequence[str], top: int) -> list[Classification]:
    """Returns the `top` classes of each image from its probabilities [B, C]."""
    require(top > 0, "top", top, "give a number of classes")
    best = scores.topk(min(top, len(classes)), dim=1)
    return [
        Classification(labels, values, [classes[label] for label in labels])
        for labels, values in zip(best.indices.numpy(), best.values.numpy())
    ]
