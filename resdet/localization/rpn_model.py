"""The localizer of appendix C: predicts boxes for given classes in an image."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from resdet.backbones.layers import Backbone
from resdet.detection.model import as_images, normalized, with_room
from resdet.images.normalize import Normalize
from resdet.localization.config import LocateConfig
from resdet.localization.per_class_rpn import PerClassOutput, PerClassRPN
from resdet.model import Model
from resdet.ops import boxes as box_ops
from resdet.structures import Images, Targets


class Localizer(Model):
    """A classification net without its classifier, and a per-class RPN on its last feature map."""

    task = "localization"
    kind = "localizer"

    def __init__(
        self,
        backbone: Backbone,
        rpn: PerClassRPN,
        normalize: Normalize,
        classes: Sequence[str],
        size: int,
        short: int,
        locating: LocateConfig,
    ):
        """`size` of the center crop, `short` side before it; `locating` configures `predict`."""
        super().__init__()
        # With images that are channels last in memory, convolutions need no reordering, on CPUs and GPUs.
        self.backbone = backbone.to(memory_format=torch.channels_last)
        self.rpn, self.normalize = rpn, normalize
        self.classes = list(classes)
        self.size, self.short, self.locating = size, short, locating
        self.experiment = {}

    def forward(self, images: Images | Tensor, classes: Tensor) -> PerClassOutput:
        """Returns the outputs for uint8 images [B, 3, H, W] and classes [B, K]."""
        images = as_images(images)
        features = self.backbone.last(normalized(self.normalize, images))
        return self.rpn(features, classes, images.pixels.shape[2:])

    def losses(self, images: Images | Tensor, targets: Targets) -> dict[str, Tensor]:
        """Computes rpn_class and rpn_box. `targets.labels` [B, G] all equal the class of the image, including padding,
        so that an image without a visible object yields negative samples of its class."""
        images, targets = as_images(images), with_room(targets)
        return self.rpn.losses(self(images, targets.labels[:, :1]), targets, images.sizes)

    def candidates(self, images: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Returns probabilities [B, K, N] and boxes [B, K, N, 4] of all anchors, in pixels of the images."""
        anchors, logits, deltas = self(images, classes)
        return logits.float().sigmoid(), box_ops.decode(anchors, deltas)

    def compile_inference(self, compile: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """Compiles `forward` for each shape of images."""
        self.forward = compile(self.forward)  # type: ignore[method-assign]

    def predict(
        self,
        images: Any,
        classes: Sequence[int | Sequence[int]],
        device: str | torch.device | None = None,
    ) -> list[Any]:
        """Returns one `resdet.Result` per image, with the best box of each given class, in order.

        `images` are those of `Classifier.predict`, `classes` one or several class numbers per image. `device`: moves
        the model there first, permanently.
        """
        from resdet.localization.locate import predict

        return predict(self, images, classes, device)

    def backbone_tensors(self) -> dict[str, Tensor]:
        """Returns the classifier's tensors under its own names."""
        return dict(self.backbone.state_dict())

    def class_layers(self) -> list[str]:
        """Returns the layers whose size depends on the number of classes, which fine-tuning reinitializes."""
        return ["rpn.scores", "rpn.boxes"]
