"""Prediction: resizes images, detects objects, and returns results in pixels of the original images.

Masks and keypoints are computed only for valid detections, with their number rounded up to a bucket. Memory is bounded:
images are processed in batches, at most two of them decoded ahead, and masks are run-length encoded in chunks.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from resdet.backbones.modes import evaluating
from resdet.detection.config import InputConfig
from resdet.detection.data.buckets import Shape, rounded_up
from resdet.images.decode import as_image
from resdet.images.resize import resize
from resdet.ops.keypoints import locate
from resdet.ops.masks import Extend, paste, with_border, with_border_as_torchvision
from resdet.ops.rle import RLE, encode
from resdet.results.result import Result
from resdet.results.stream import Predictor
from resdet.structures import Detections, Images, bucket, upload

BATCH = 8  # images of the same padded size per batch on a GPU


class BranchPredictor(Predictor, Protocol):
    """A detector, an ensemble, or an exported file, with or without masks and keypoints."""

    classes: list[str]
    category_ids: list[int]

    @property
    def draws_masks(self) -> bool: ...

    @property
    def draws_keypoints(self) -> bool: ...


class Instances(NamedTuple):
    """Detections of an image, filled up to a bucket, for masks and keypoints."""

    maps: Any  # input of `model.masks`
    boxes: Tensor  # [1, k, 4], in pixels of the padded image
    labels: Tensor  # [1, k]
    ratio: Tensor  # [2]: original pixels per resized pixel, x and y


def batch_for(device: torch.device) -> int:
    """Returns the default batch size."""
    return 1 if device.type == "cpu" else BATCH


def detect_together(
    model: Any, pixels: Sequence[np.ndarray], originals: Sequence[tuple[int, int]], score: float | None = None
) -> list[Result]:
    """Detects objects in resized images [h, w, 3]; `originals`: original height and width of each image."""
    padded = pad_to([torch.from_numpy(image) for image in pixels], model.padded_shape)
    padded = Images(*(upload(field, model.device) for field in padded))
    with torch.inference_mode(), evaluating([model]):
        return results_of(model, padded, originals, score)


def prepare(source: Any, input: InputConfig) -> tuple[np.ndarray, tuple[int, int]]:
    """Returns the resized pixels [h, w, 3] of an image, and its original height and width."""
    image = as_image(source)
    return resize(image, input.min_size, input.max_size, input.resize), image.size[::-1]


def pad(pixels: Sequence[Tensor], divisor: int) -> Images:
    """Pads images [h, w, 3] to [B, 3, H, W] in channels_last format; H and W are multiples of the divisor."""
    return pad_to(pixels, lambda height, width: rounded_up(height, width, divisor))


def pad_to(pixels: Sequence[Tensor], shape: Callable[[int, int], Shape]) -> Images:
    """Pads images [h, w, 3] to the `shape` of the largest height and width, in channels_last format."""
    sizes = torch.tensor([p.shape[:2] for p in pixels])
    tallest, widest = sizes.amax(0).tolist()
    height, width = shape(tallest, widest)
    padded = pixels[0].new_zeros(len(pixels), height, width, 3)
    for target, image in zip(padded, pixels):
        target[: image.shape[0], : image.shape[1]] = image
    return Images(padded.permute(0, 3, 1, 2), sizes.float())


def results_of(
    model: Any, images: Images, originals: Sequence[tuple[int, int]], score: float | None = None
) -> list[Result]:
    """Detects objects in a batch; `originals`: original height and width of each image."""
    detections, maps = model.detect(images, score)
    return postprocess(model, maps, detections, images.sizes, originals)


def postprocess(
    model: Any, maps: Sequence[Tensor], detections: Detections, sizes: Tensor, originals: Sequence[tuple[int, int]]
) -> list[Result]:
    """Converts detections in padded images, with their feature maps, to results in original pixels."""
    inputs = [[x[number : number + 1] for x in maps] for number in range(len(originals))]
    return postprocess_each(model, inputs, detections, sizes, originals)


def postprocess_each(
    model: Any, inputs: Sequence[Any], detections: Detections, sizes: Tensor, originals: Sequence[tuple[int, int]]
) -> list[Result]:
    """As `postprocess`, with `inputs` for `model.masks`, one per image."""
    ratios = to_original(sizes, originals)
    results = box_results(model, detections, ratios, originals)
    for number, result in enumerate(results):
        kept = bucket(len(result), detections.boxes.shape[1])
        boxes, labels = (field[number, None, :kept] for field in (detections.boxes, detections.labels))
        instances = Instances(inputs[number], boxes, labels, ratios[number])
        if model.draws_masks:
            result.rles = draw(model, instances, len(result), result.size)
        if model.draws_keypoints:
            result.keypoints = find_keypoints(model, instances, len(result))
            result.keypoint_names, result.skeleton = [*model.keypoints.keypoint_names], [*model.keypoints.limbs]
    return results


def box_results(
    model: Any, detections: Detections, ratios: Tensor, originals: Sequence[tuple[int, int]]
) -> list[Result]:
    """Returns results without masks and keypoints, with one copy and sync per batch; `ratios` from `to_original`."""
    boxes = detections.boxes * ratios.repeat(1, 2)[:, None]
    fields = (detections.scores, detections.labels, detections.valid)
    packed = torch.cat([boxes, *(field[..., None].float() for field in fields)], 2).cpu().numpy()
    results = []
    for image, size in zip(packed, originals):
        rows = image[: int(image[:, 6].sum())]
        labels = rows[:, 5].astype(np.int64)
        names, category_ids = [model.classes[label] for label in labels], np.array(model.category_ids, np.int64)[labels]
        results.append(Result(rows[:, :4].copy(), rows[:, 4].copy(), labels, names, category_ids, size))
    return results


def draw(model: Any, instances: Instances, count: int, size: tuple[int, int]) -> list[RLE]:
    """Encodes the masks of the first `count` instances, in an image of this height and width."""
    if not count:
        return []
    masks = model.masks(instances.maps, instances.boxes, instances.labels)[0, :count]
    boxes = instances.boxes[0, :count] * instances.ratio.repeat(2)
    pasted = paste(masks, boxes, *size, extend=border_of(model))
    return [rle for part in pasted for rle in encode(part.masks, size, part.left, part.top)]


def border_of(model: Any) -> Extend:
    """Returns how to extend pasted masks, in the coordinates of the library whose resizing the model uses."""
    return with_border_as_torchvision if model.input.resize == "torchvision" else with_border


def find_keypoints(model: Any, instances: Instances, count: int) -> np.ndarray:
    """Locates the keypoints of the first `count` instances, float32 [count, K, 3], in original pixels."""
    if not count:
        return np.zeros((0, len(model.keypoints.keypoint_names), 3), np.float32)
    heatmaps = model.heatmaps(instances.maps, instances.boxes, instances.labels)[0, :count]
    located = locate(heatmaps, instances.boxes[0, :count].float())
    located[..., :2] *= instances.ratio
    return located.cpu().numpy()


def to_original(sizes: Tensor, originals: Sequence[tuple[int, int]]) -> Tensor:
    """Returns original pixels per resized pixel, x and y: [B, 2]."""
    return (upload(torch.tensor(originals, dtype=torch.float32), sizes.device) / sizes).flip(1)
