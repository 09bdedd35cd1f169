"""From images to results: resized as the weights want it, detected, and brought back to the images' own pixels.

What static shapes would waste is trimmed here: masks are drawn for the detections that stand, rounded up to a bucket.
What memory could not hold is never made: images come and go a batch at a time, and masks are encoded as they are drawn.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from resdet.backbones.modes import evaluating
from resdet.detection.data.buckets import rounded_up
from resdet.images.decode import as_image
from resdet.images.resizing import resize
from resdet.ops.masks import paste, paste_as_torchvision
from resdet.ops.rle import RLE, encode
from resdet.results.result import Result
from resdet.structures import Detections, Images, bucket, each

BATCH = 8  # images of one padded size that are detected in together, on a GPU
WINDOW = 64  # images after which a group is detected in, full or not


class Prepared(NamedTuple):
    """An image on its way into a batch."""

    number: int  # among those given
    image: Any  # as it was given
    pixels: np.ndarray  # resized
    size: tuple[int, int]  # its own height and width


def stream(model: Any, images: Iterable, score: float | None = None, batch: int | None = None) -> Iterator[Result]:
    """One result an image, in their order, as soon as it is known; `images` are paths and uint8 RGB arrays [H, W, 3],
    of which no more are read than are detected in together."""
    device, ready, following = model.normalize.std.device, {}, 0
    for group in grouped(images, model.input, batch or (1 if device.type == "cpu" else BATCH)):
        padded = pad([torch.from_numpy(prepared.pixels) for prepared in group], model.input.divisor)
        padded = Images(*(field.to(device) for field in padded))
        with torch.inference_mode(), evaluating([model]):
            found = results_of(model, padded, [prepared.size for prepared in group], score)
        for prepared, result in zip(group, found):
            result.image = prepared.image
            ready[prepared.number] = result
        while following in ready:
            yield ready.pop(following)
            following += 1


def grouped(images: Iterable, input: Any, most: int) -> Iterator[list[Prepared]]:
    """The images resized; together where the padded size is one, up to `most` out of WINDOW that follow one another."""
    waiting: dict[tuple, list[Prepared]] = {}  # the group with the oldest image first
    for number, given in enumerate(images):
        image = as_image(given)
        pixels = resize(image, input.min_size, input.max_size, input.resize)
        key = rounded_up(*pixels.shape[:2], input.divisor)
        waiting.setdefault(key, []).append(Prepared(number, given, pixels, image.size[::-1]))
        if len(waiting[key]) == most:
            yield waiting.pop(key)
        oldest = next(iter(waiting), None)
        if oldest and number - waiting[oldest][0].number >= WINDOW - 1:
            yield waiting.pop(oldest)
    yield from waiting.values()


def pad(pixels: Sequence[Tensor], divisor: int) -> Images:
    """Images [h, w, 3] of any sizes as [B, 3, H, W], channels last in memory, H and W multiples of the divisor."""
    sizes = torch.tensor([p.shape[:2] for p in pixels])
    height, width = rounded_up(*sizes.amax(0).tolist(), divisor)
    padded = pixels[0].new_zeros(len(pixels), height, width, 3)
    for image, picture in zip(padded, pixels):
        image[: picture.shape[0], : picture.shape[1]] = picture
    return Images(padded.permute(0, 3, 1, 2), sizes.float())


def results_of(
    model: Any, images: Images, originals: Sequence[tuple[int, int]], score: float | None = None
) -> list[Result]:
    """The results on images of a batch, whose original heights and widths are given."""
    detections, maps = model.detect(images, score)
    return finish(model, maps, detections, images.sizes, originals)


def finish(
    model: Any, maps: Sequence[Tensor], detections: Detections, sizes: Tensor, originals: Sequence[tuple[int, int]]
) -> list[Result]:
    """Detections in padded images, with the maps they come from, as results in original pixels."""
    results = []
    for number, original in enumerate(originals):
        alone = slice(number, number + 1)
        own = each(detections, lambda field: field[alone])
        results.append(finish_one(model, [x[alone] for x in maps], own, sizes[number], tuple(original)))
    return results


def finish_one(model: Any, maps: Any, detections: Detections, size: Tensor, original: tuple[int, int]) -> Result:
    """The same of one image, whose `maps` are whatever `model.masks` draws from."""
    count = int(detections.valid.sum())
    boxes = to_original(detections.boxes[0, :count], size, original)
    labels = detections.labels[0, :count].cpu().numpy()
    return Result(
        boxes=boxes.cpu().numpy(),
        scores=detections.scores[0, :count].cpu().numpy(),
        labels=labels,
        names=[model.classes[label] for label in labels],
        category_ids=np.array(model.category_ids, np.int64)[labels],
        size=original,
        rles=draw(model, maps, detections, boxes, original) if model.draws_masks else None,
    )


def draw(model: Any, maps: Any, detections: Detections, boxes: Tensor, original: tuple[int, int]) -> list[RLE]:
    """The masks of an image's first detections, whose `boxes` [n, 4] are those in original pixels."""
    if not len(boxes):
        return []
    kept = bucket(len(boxes), detections.boxes.shape[1])
    masks = model.masks(maps, detections.boxes[:, :kept], detections.labels[:, :kept])[0, : len(boxes)]
    drawn = (paste_as_torchvision if model.input.resize == "torchvision" else paste)(masks, boxes, *original)
    return [rle for part in drawn for rle in encode(part.masks, original, part.left, part.top)]


def to_original(boxes: Tensor, size: Tensor, original: tuple[int, int]) -> Tensor:
    """Boxes [n, 4] of the resized image in pixels of the original one."""
    ratio = torch.tensor(original, dtype=torch.float32, device=boxes.device) / size
    return boxes * ratio.flip(0).repeat(2)
