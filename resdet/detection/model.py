"""The detector: Faster R-CNN and its variants, with static shapes from images to detections.

The batch shape and the config determine all shapes in `losses` and `detect`, so each compiles to a single graph. Both
work in training and in eval mode, so validation losses need no mode switch.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from resdet.backbones.layers import Backbone
from resdet.detection.config import InputConfig
from resdet.detection.data.buckets import Shape, inference_shape, inference_shapes
from resdet.detection.heads.box_head import Conv5Head, VGGHead
from resdet.detection.heads.config import KeypointConfig
from resdet.detection.heads.keypoint_head import KeypointBranch
from resdet.detection.heads.roi_heads import RoIHeads
from resdet.detection.heads.rpn import RPN
from resdet.detection.inference import predictor
from resdet.detection.records import images_from_list, targets_from_list
from resdet.errors import DataError
from resdet.images import shape_groups
from resdet.images.inputs import predict_all
from resdet.images.normalize import Normalize
from resdet.model import Model, Prepared
from resdet.necks.base import Neck
from resdet.results.result import Result
from resdet.structures import Detections, Images, Proposals, Targets, each


class Detector(Model):
    """Faster R-CNN and its variants: backbone, optional neck, RPN and RoI heads, with class names and input size."""

    task = "detection"
    kind = "detector"

    def __init__(
        self,
        backbone: Backbone,
        neck: Neck | None,
        levels: Sequence[str],
        rpn: RPN,
        roi_heads: RoIHeads,
        normalize: Normalize,
        classes: Sequence[str],
        category_ids: Sequence[int],
        input: InputConfig,
    ):
        """`levels`: names of the feature maps of the RPN; `category_ids`: ids of the classes in the annotation file."""
        super().__init__()
        # Images are channels_last; with weights in the same format, convolutions reorder nothing, on CPUs and GPUs.
        self.backbone = backbone.to(memory_format=torch.channels_last)
        self.neck = neck
        self.rpn, self.roi_heads = rpn, roi_heads
        self.normalize = normalize
        self.levels = list(levels)
        self.classes, self.category_ids = list(classes), list(category_ids)
        self.input = input
        self.shapes: list[Shape] = []  # padded shapes of images; empty: multiples of `input.divisor`
        self.score = roi_heads.config.score
        self.experiment = {}

    @property
    def nms(self) -> float:
        """IoU threshold of the final suppression."""
        return self.roi_heads.config.nms

    @property
    def draws_masks(self) -> bool:
        return "mask" in self.roi_heads.branches

    @property
    def draws_keypoints(self) -> bool:
        return "keypoint" in self.roi_heads.branches

    @property
    def keypoints(self) -> KeypointConfig:
        """Keypoint names and skeleton; only with a keypoint branch."""
        return cast(KeypointBranch, self.roi_heads.branches["keypoint"]).config

    @property
    def keypoint_count(self) -> int | None:
        """Number of keypoints per object; None without a keypoint branch."""
        return len(self.keypoints.keypoint_names) if self.draws_keypoints else None

    def forward(self, images: Images | Tensor | Sequence[Tensor]) -> Detections:
        """Detects objects, with boxes in pixels of the padded images; detections below the model's `score` are padding.

        A list of images [3, H, W], uint8 or floats from 0 to 1, is padded to one size, a multiple of `input.divisor`. A
        tensor [B, 3, H, W] has values from 0 to 255 and is not padded.
        """
        return self.detect(as_images(images, self.input.divisor))[0]

    def losses(
        self, images: Images | Tensor | Sequence[Tensor], targets: Targets | Sequence[Mapping[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Computes losses by name, from records or from lists in the format of torchvision's detectors.

        Scalars: rpn_objectness, rpn_box, class and box (per stage of a cascade), and, for a detector that predicts
        them, mask, keypoint and mask_class (MNC).
        """
        images = as_images(images, self.input.divisor)
        return self.losses_of(self.maps(images), images, as_targets(targets, images, len(self.classes)))

    def detect(self, images: Images, score: float | None = None) -> tuple[Detections, list[Tensor]]:
        """Returns detections above `score`, and the feature maps for `masks` and `heatmaps`."""
        above = self.score if score is None else score
        limit = above if isinstance(above, Tensor) else images.sizes.new_full((), above)
        return self.detect_above(images, limit)

    def detect_above(self, images: Images, score: Tensor) -> tuple[Detections, list[Tensor]]:
        """As `detect`, with the score as a tensor, so that another score does not trigger recompilation."""
        maps = self.maps(images)
        return self.roi_heads.detect(maps, self.propose(maps, images), images.sizes, score), maps

    def masks(self, maps: Sequence[Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
        """Returns mask probabilities [B, N, m, m] within boxes [B, N, 4]."""
        return self.roi_heads.branches["mask"].predict(maps, boxes, labels)

    def heatmaps(self, maps: Sequence[Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
        """Returns keypoint logits [B, N, K, m, m] within boxes [B, N, 4]; `resdet.ops.keypoints.locate` decodes
        them."""
        return self.roi_heads.branches["keypoint"].predict(maps, boxes, labels)

    def maps(self, images: Images) -> list[Tensor]:
        """Computes the feature maps, finest first."""
        features = self.backbone.features(normalized(self.normalize, images))
        if self.neck is not None:
            features = self.neck(features)
        return [features[level] for level in self.levels]

    def propose(self, maps: Sequence[Tensor], images: Images, training: bool = False) -> Proposals:
        """Returns the proposals of the RPN, `model.rpn.post_nms` per image for training or for inference."""
        return self.rpn.propose(self.rpn(maps, images.pixels.shape[2:]), images.sizes, training)

    def losses_of(self, maps: Sequence[Tensor], images: Images, targets: Targets) -> dict[str, Tensor]:
        targets = with_room(targets)
        output = self.rpn(maps, images.pixels.shape[2:])
        proposals = self.rpn.propose(output, images.sizes, training=True)
        losses = self.rpn.losses(output, targets, images.sizes)
        return {**losses, **self.roi_heads.losses(maps, proposals, targets, images.sizes)}

    def padded_shape(self, height: int, width: int) -> Shape:
        """Returns the padded shape for images up to this height and width."""
        return inference_shape(height, width, self.shapes, self.input.divisor)

    def predict(
        self,
        images: Any,
        score: float | None = None,
        batch: int | None = None,
        stream: bool = False,
        device: str | torch.device | None = None,
    ) -> Any:
        """Detects objects with scores above `score` in each image; boxes are in pixels of that image.

        Takes an image (a path, a uint8 RGB array [H, W, 3], a PIL image, a tensor [3, H, W] of uint8 or of floats from
        0 to 1) and returns a `resdet.Result`; takes a folder, a glob, a video, a batch or an iterable of images and
        returns a list, or with `stream` a generator. Up to `batch` images of one padded size are detected together
        (default: 8 on a GPU, 1 on a CPU). `device`: moves the model there first, and leaves it there.
        """
        if device is not None:
            self.to(device)
        return predict_all(lambda inputs: self.stream(inputs, score, batch), images, stream)

    def stream(self, images: Iterable[Any], score: float | None = None, batch: int | None = None) -> Iterator[Result]:
        """Yields the results of paths and arrays in order, each as early as possible; keeps few images in memory (for a
        sequence, two batches are read ahead)."""
        most = predictor.batch_for(self.device) if batch is None else batch
        return shape_groups.stream(self, images, most, score=score)

    def prepare_image(self, image: Any) -> Prepared:
        """Decodes and resizes an image; thread-safe."""
        pixels, size = predictor.prepare(image, self.input)
        return Prepared(self.padded_shape(*pixels.shape[:2]), pixels, size)

    def predict_prepared(
        self, images: Sequence[Prepared], score: float | None = None, top: int | None = None
    ) -> list[Result]:
        """Detects objects in prepared images of one shape; `top` has no effect."""
        return predictor.detect_together(self, [one.content for one in images], [one.size for one in images], score)

    def compile_inference(self, compile: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """Compiles detection, and the branch heads per number of regions; pads images to a few shapes."""
        self.shapes = inference_shapes(self.input.min_size, self.input.max_size, self.input.divisor)
        self.detect_above = compile(self.detect_above)  # type: ignore[method-assign]
        for branch in self.roi_heads.branches.values():
            branch.head.forward = compile(branch.head.forward)

    def backbone_tensors(self) -> dict[str, Tensor]:
        """Returns the classifier's tensors under their original names, including those moved to the box head."""
        tensors = dict(self.backbone.state_dict())
        for stage in self.roi_heads.stages:
            if isinstance(stage.head, (Conv5Head, VGGHead)):
                tensors |= stage.head.state_dict()
        return tensors

    def class_layers(self) -> list[str]:
        """Names the layers whose size depends on the number of classes; fine-tuning on other classes reinitializes
        them."""
        layers = [
            f"roi_heads.stages.{n}.predictor.{kind}"
            for n in range(len(self.roi_heads.stages))
            for kind in ("scores", "boxes")
        ]
        heads = ("stages.0.mask_scores", "mask_head.masks", "keypoint_head.heatmaps")
        return [*layers, *(f"roi_heads.{layer}" for layer in heads)]


def with_room(targets: Targets) -> Targets:
    """Pads targets without objects to one invalid object, since matching takes a maximum over objects."""
    if targets.boxes.shape[1]:
        return targets
    return cast(Targets, each(targets, lambda field: field.new_zeros(len(field), 1, *field.shape[2:])))


def as_targets(targets: Targets | Sequence[Mapping[str, Tensor]], images: Images, classes: int) -> Targets:
    """Converts lists to records and validates them; records are not validated."""
    if isinstance(targets, Targets):
        return targets
    if len(targets) != len(images.sizes):
        raise DataError(f"There are {len(images.sizes)} images and {len(targets)} targets: give one for each image.")
    records = targets_from_list(targets)
    if records.labels.numel() and records.labels.max() >= classes:
        highest = int(records.labels.max()) + 1
        raise DataError(f"A label is {highest}, but the model has {classes} classes: give labels from 1 to {classes}.")
    return records


def as_images(images: Images | Tensor | Sequence[Tensor], divisor: int = 32) -> Images:
    """Converts a tensor [B, 3, H, W], with values from 0 to 255 and no padding, or a list (`images_from_list`)."""
    if isinstance(images, Images):
        return images
    if not isinstance(images, Tensor):
        return images_from_list(images, divisor)
    sides = [torch.full((len(images),), side, dtype=torch.float32, device=images.device) for side in images.shape[2:]]
    return Images(images, torch.stack(sides, 1))  # avoids an upload, which a CUDA graph could not capture


def normalized(normalize: Normalize, images: Images) -> Tensor:
    """Returns normalized pixels [B, 3, H, W], with zeros as padding."""
    height, width = images.pixels.shape[2:]
    rows = torch.arange(height, device=images.sizes.device) < images.sizes[:, :1]
    columns = torch.arange(width, device=images.sizes.device) < images.sizes[:, 1:]
    inside = rows[:, None, :, None] & columns[:, None, None, :]
    return torch.where(inside, normalize(images.pixels), 0.0)
