"""From images to results: resized as the weights want it, detected, and brought back to the images' own pixels.

What static shapes would waste is trimmed here: masks are drawn for the detections that stand, rounded up to a bucket.
"""

from typing import Any, Iterator, Optional, Sequence

import numpy as np
import torch
from torch import Tensor

from resdet.backbones.modes import evaluating
from resdet.data.scenes.buckets import rounded_up
from resdet.images.decode import as_image
from resdet.images.resizing import resize
from resdet.inference.result import Result
from resdet.ops.masks import paste, paste_as_torchvision
from resdet.structures import Detections, Images, bucket

BATCH = 8  # images of one padded size that are detected in together, on a GPU


@torch.inference_mode()
def predict(model: Any, images: Sequence, score: Optional[float] = None) -> list[Result]:
    """One result an image; `images` are paths and uint8 RGB arrays [H, W, 3]."""
    device, results = model.normalise.std.device, {}
    with evaluating([model]):
        for group in grouped(images, model.input, 1 if device.type == "cpu" else BATCH):
            numbers, pixels, originals = zip(*group)
            batch = pad([torch.from_numpy(array) for array in pixels], model.input.divisor)
            found = results_of(model, Images(*(field.to(device) for field in batch)), originals, score)
            results |= zip(numbers, found)
    ordered = [results[number] for number in range(len(images))]
    for result, image in zip(ordered, images):
        result.image = image
    return ordered


def grouped(images: Sequence, input: Any, most: int) -> Iterator[list[tuple[int, np.ndarray, tuple[int, int]]]]:
    """Images with their number, resized pixels and original (height, width); together where the padded size is one."""
    waiting: dict[tuple, list] = {}
    for number, image in enumerate(images):
        image = as_image(image)
        pixels = resize(image, input.short, input.long, input.resize)
        key = rounded_up(*pixels.shape[:2], input.divisor)
        waiting.setdefault(key, []).append((number, pixels, image.size[::-1]))
        if len(waiting[key]) == most:
            yield waiting.pop(key)
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
    model: Any, images: Images, originals: Sequence[tuple[int, int]], score: Optional[float] = None
) -> list[Result]:
    """The results on images of a batch, whose original heights and widths are given."""
    detections, maps = model.detect(images, score)
    return finish(model, maps, detections, images.sizes, originals)


def finish(
    model: Any, maps: Sequence[Tensor], detections: Detections, sizes: Tensor, originals: Sequence[tuple[int, int]]
) -> list[Result]:
    """Detections in padded images, with the maps they come from, as results in original pixels."""
    counts = detections.valid.sum(1).tolist()
    kept = bucket(max(counts), detections.boxes.shape[1])
    masks = None
    if model.draws_masks and max(counts):
        masks = model.masks(maps, detections.boxes[:, :kept], detections.labels[:, :kept])
    draw = paste_as_torchvision if model.input.resize == "torchvision" else paste
    results = []
    for number, (count, original) in enumerate(zip(counts, originals)):
        boxes = to_original(detections.boxes[number, :count], sizes[number], original)
        pasted = None
        if model.draws_masks:
            pasted = np.zeros((0, *original), bool)
            if count:
                pasted = draw(masks[number, :count], boxes, *original).cpu().numpy()
        labels = detections.labels[number, :count].cpu().numpy()
        results.append(
            Result(
                boxes=boxes.cpu().numpy(),
                scores=detections.scores[number, :count].cpu().numpy(),
                labels=labels,
                names=[model.classes[label] for label in labels],
                category_ids=np.array(model.category_ids, np.int64)[labels],
                masks=pasted,
                size=tuple(original),
            )
        )
    return results


def to_original(boxes: Tensor, size: Tensor, original: tuple[int, int]) -> Tensor:
    """Boxes [n, 4] of the resized image in pixels of the original one."""
    ratio = torch.tensor(original, dtype=torch.float32, device=boxes.device) / size
    return boxes * ratio.flip(0).repeat(2)
