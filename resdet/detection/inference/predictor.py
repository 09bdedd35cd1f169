"""Prediction: images are resized and detected in; results are in pixels of the original images.

Masks and keypoints are computed for the valid detections only, their number rounded up to a bucket. Memory is bounded:
images are processed batch by batch, two batches are decoded ahead, and masks are run-length encoded in chunks.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from resdet.backbones.modes import evaluating
from resdet.detection.config import InputConfig
from resdet.detection.data.buckets import Shape, rounded_up
from resdet.images import grouped
from resdet.images.decode import as_image
from resdet.images.resizing import resize
from resdet.ops.keypoints import locate
from resdet.ops.masks import paste, paste_as_torchvision
from resdet.ops.rle import RLE, encode
from resdet.results.result import Result
from resdet.results.stream import Predictor
from resdet.structures import Detections, Images, bucket, each, upload

BATCH = 8  # images of equal padded size per batch on a GPU


class BranchPredictor(Predictor, Protocol):
    """A detector, an ensemble, or an exported file, with or without masks and keypoints."""

    @property
    def draws_masks(self) -> bool: ...

    @property
    def draws_keypoints(self) -> bool: ...


class DetectionArrays(NamedTuple):
    """The n detections of one image, on the CPU."""

    boxes: np.ndarray  # float32 [n, 4], in original pixels
    scores: np.ndarray  # float32 [n]
    labels: np.ndarray  # int64 [n]


def stream(model: Any, images: Iterable, score: float | None = None, batch: int | None = None) -> Iterator[Result]:
    """Yields one result per image, in order, as early as possible; `images` are paths and uint8 RGB arrays [H, W, 3].
    Up to `batch` images of one padded size are detected together; of a sequence, two batches are read ahead."""
    most = batch_for(model.device) if batch is None else batch
    return grouped.stream(model, images, most, score=score)


def batch_for(device: torch.device) -> int:
    """Images detected together, by default."""
    return 1 if device.type == "cpu" else BATCH


def detect_together(
    model: Any, pixels: Sequence[np.ndarray], originals: Sequence[tuple[int, int]], score: float | None = None
) -> list[Result]:
    """Results of resized images [h, w, 3]; `originals`: height and width of each image before."""
    padded = pad_to([torch.from_numpy(image) for image in pixels], model.padded_shape)
    padded = Images(*(upload(field, model.device) for field in padded))
    with torch.inference_mode(), evaluating([model]):
        return results_of(model, padded, originals, score)


def prepare(source: Any, input: InputConfig) -> tuple[np.ndarray, tuple[int, int]]:
    """The resized pixels [h, w, 3] of an image, and its original height and width."""
    image = as_image(source)
    return resize(image, input.min_size, input.max_size, input.resize), image.size[::-1]


def pad(pixels: Sequence[Tensor], divisor: int) -> Images:
    """Pads images [h, w, 3] to [B, 3, H, W], H and W multiples of the divisor, channels last in memory."""
    return pad_to(pixels, lambda height, width: rounded_up(height, width, divisor))


def pad_to(pixels: Sequence[Tensor], shape: Callable[[int, int], Shape]) -> Images:
    """Pads images [h, w, 3] to the `shape` of the largest height and width, channels last in memory."""
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
    """Results of a batch; `originals`: original height and width of each image."""
    detections, maps = model.detect(images, score)
    return finish(model, maps, detections, images.sizes, originals)


def finish(
    model: Any, maps: Sequence[Tensor], detections: Detections, sizes: Tensor, originals: Sequence[tuple[int, int]]
) -> list[Result]:
    """Results in original pixels, from detections in padded images and their feature maps."""
    inputs = [[x[number : number + 1] for x in maps] for number in range(len(originals))]
    return finish_each(model, inputs, detections, sizes, originals)


def finish_each(
    model: Any, inputs: Sequence[Any], detections: Detections, sizes: Tensor, originals: Sequence[tuple[int, int]]
) -> list[Result]:
    """`finish` for given `inputs` of `model.masks`, one per image."""
    ratios = to_original(sizes, originals)
    boxes = detections.boxes * ratios.repeat(1, 2)[:, None]
    results = []
    for number, arrays in enumerate(download(detections, boxes)):
        selected = each(detections, lambda field: field[number : number + 1])
        results.append(finish_one(model, inputs[number], selected, ratios[number], arrays, originals[number]))
    return results


def download(detections: Detections, boxes: Tensor) -> list[DetectionArrays]:
    """The detections of each image with these `boxes` [B, D, 4]: one copy, and one wait, for the whole batch."""
    fields = (detections.scores, detections.labels, detections.valid)
    packed = torch.cat([boxes, *(field[..., None].float() for field in fields)], 2).cpu().numpy()
    rows = [image[: int(image[:, 6].sum())] for image in packed]
    return [DetectionArrays(part[:, :4].copy(), part[:, 4].copy(), part[:, 5].astype(np.int64)) for part in rows]


def finish_one(
    model: Any, maps: Any, detections: Detections, ratio: Tensor, arrays: DetectionArrays, original: tuple[int, int]
) -> Result:
    """The result of one image; `maps`: the input of `model.masks`; `ratio` [2]: original pixels per pixel, x and y."""
    count = len(arrays.boxes)
    boxes = detections.boxes[0, :count] * ratio.repeat(2)
    keypoints = find_keypoints(model, maps, detections, count, ratio) if model.draws_keypoints else {}
    return Result(
        boxes=arrays.boxes,
        scores=arrays.scores,
        labels=arrays.labels,
        names=[model.classes[label] for label in arrays.labels],
        category_ids=np.array(model.category_ids, np.int64)[arrays.labels],
        size=original,
        rles=draw(model, maps, detections, boxes, original) if model.draws_masks else None,
        **keypoints,
    )


def draw(model: Any, maps: Any, detections: Detections, boxes: Tensor, original: tuple[int, int]) -> list[RLE]:
    """Encoded masks of an image's first n detections; `boxes` [n, 4] are in original pixels."""
    if not len(boxes):
        return []
    kept = bucket(len(boxes), detections.boxes.shape[1])
    masks = model.masks(maps, detections.boxes[:, :kept], detections.labels[:, :kept])[0, : len(boxes)]
    pasted = (paste_as_torchvision if model.input.resize == "torchvision" else paste)(masks, boxes, *original)
    return [rle for part in pasted for rle in encode(part.masks, original, part.left, part.top)]


def find_keypoints(model: Any, maps: Any, detections: Detections, count: int, ratio: Tensor) -> dict[str, Any]:
    """Fields of the result: keypoints of an image's first `count` detections, in original pixels."""
    names, limbs = model.keypoints.keypoint_names, model.keypoints.limbs
    if not count:
        return {"keypoints": np.zeros((0, len(names), 3), np.float32), "keypoint_names": names, "skeleton": limbs}
    kept = bucket(count, detections.boxes.shape[1])
    boxes = detections.boxes[:, :kept]
    heatmaps = model.heatmaps(maps, boxes, detections.labels[:, :kept])[0, :count]
    located = locate(heatmaps, boxes[0, :count].float())
    located[..., :2] *= ratio
    return {"keypoints": located.cpu().numpy(), "keypoint_names": names, "skeleton": limbs}


def to_original(sizes: Tensor, originals: Sequence[tuple[int, int]]) -> Tensor:
    """Original pixels per pixel of the resized images, x and y: [B, 2]."""
    return (upload(torch.tensor(originals, dtype=torch.float32), sizes.device) / sizes).flip(1)
