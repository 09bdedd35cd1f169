"""Prediction: images are resized and detected in; results are in pixels of the original images.

Masks and keypoints are computed for the valid detections only, their number rounded up to a bucket. Memory is bounded:
images are processed batch by batch, and masks are run-length encoded one chunk at a time.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from resdet.backbones.modes import evaluating
from resdet.detection.config import InputConfig
from resdet.detection.data.buckets import rounded_up
from resdet.images.decode import as_image
from resdet.images.resizing import resize
from resdet.ops.keypoints import locate
from resdet.ops.masks import paste, paste_as_torchvision
from resdet.ops.rle import RLE, encode
from resdet.results.result import Result
from resdet.structures import Detections, Images, bucket, each

BATCH = 8  # images of equal padded size per batch on a GPU
WINDOW = 64  # an incomplete batch waits for at most this number of images


class Prepared(NamedTuple):
    """A resized image, before batching."""

    number: int  # position in the input
    image: Any  # path or pixels from the input
    pixels: np.ndarray  # resized
    size: tuple[int, int]  # original height and width


def stream(model: Any, images: Iterable, score: float | None = None, batch: int | None = None) -> Iterator[Result]:
    """Yields one result per image, in order, as early as possible; `images` are paths and uint8 RGB arrays [H, W, 3],
    read lazily. Up to `batch` images of one padded size are detected together."""
    device, following = model.normalize.std.device, 0
    ready: dict[int, Result] = {}
    for group in grouped(images, model.input, batch or (1 if device.type == "cpu" else BATCH)):
        padded = pad([torch.from_numpy(prepared.pixels) for prepared in group], model.input.divisor)
        padded = Images(*(field.to(device) for field in padded))
        with torch.inference_mode(), evaluating([model]):
            results = results_of(model, padded, [prepared.size for prepared in group], score)
        for prepared, result in zip(group, results):
            result.image = prepared.image
            ready[prepared.number] = result
        while following in ready:
            yield ready.pop(following)
            following += 1


def grouped(images: Iterable, input: InputConfig, most: int) -> Iterator[list[Prepared]]:
    """Groups of up to `most` resized images with equal padded size, out of WINDOW consecutive ones."""
    waiting: dict[tuple, list[Prepared]] = {}  # the group with the oldest image first
    for number, source in enumerate(images):
        image = as_image(source)
        pixels = resize(image, input.min_size, input.max_size, input.resize)
        height, width = pixels.shape[:2]
        key = rounded_up(height, width, input.divisor)
        waiting.setdefault(key, []).append(Prepared(number, source, pixels, image.size[::-1]))
        if len(waiting[key]) == most:
            yield waiting.pop(key)
        oldest = next(iter(waiting), None)
        if oldest and number - waiting[oldest][0].number >= WINDOW - 1:
            yield waiting.pop(oldest)
    yield from waiting.values()


def pad(pixels: Sequence[Tensor], divisor: int) -> Images:
    """Pads images [h, w, 3] to [B, 3, H, W], H and W multiples of the divisor, channels last in memory."""
    sizes = torch.tensor([p.shape[:2] for p in pixels])
    tallest, widest = sizes.amax(0).tolist()
    height, width = rounded_up(tallest, widest, divisor)
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
    results = []
    for number, original in enumerate(originals):
        alone = slice(number, number + 1)
        selected = each(detections, lambda field: field[alone])
        results.append(finish_one(model, [x[alone] for x in maps], selected, sizes[number], original))
    return results


def finish_one(model: Any, maps: Any, detections: Detections, size: Tensor, original: tuple[int, int]) -> Result:
    """The result of one image; `maps`: the input of `model.masks`."""
    count = int(detections.valid.sum())
    boxes = to_original(detections.boxes[0, :count], size, original)
    labels = detections.labels[0, :count].cpu().numpy()
    keypoints = find_keypoints(model, maps, detections, count, size, original) if model.draws_keypoints else {}
    return Result(
        boxes=boxes.cpu().numpy(),
        scores=detections.scores[0, :count].cpu().numpy(),
        labels=labels,
        names=[model.classes[label] for label in labels],
        category_ids=np.array(model.category_ids, np.int64)[labels],
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


def find_keypoints(
    model: Any, maps: Any, detections: Detections, count: int, size: Tensor, original: tuple[int, int]
) -> dict[str, Any]:
    """Fields of the result: keypoints of an image's first `count` detections, in original pixels."""
    kept = bucket(count, detections.boxes.shape[1])
    boxes = detections.boxes[:, :kept]
    heatmaps = model.heatmaps(maps, boxes, detections.labels[:, :kept])[0, :count]
    found = locate(heatmaps, boxes[0, :count].float())
    found[..., :2] *= torch.tensor(original, dtype=torch.float32, device=found.device).div(size).flip(0)
    names = model.keypoints.keypoint_names
    return {"keypoints": found.cpu().numpy(), "keypoint_names": names, "skeleton": model.keypoints.limbs}


def to_original(boxes: Tensor, size: Tensor, original: tuple[int, int]) -> Tensor:
    """Scales boxes [n, 4] from the resized to the original image."""
    ratio = torch.tensor(original, dtype=torch.float32, device=boxes.device) / size
    return boxes * ratio.flip(0).repeat(2)
