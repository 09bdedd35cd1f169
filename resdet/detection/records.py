"""Tensor records from lists of tensors and dicts in the format of torchvision's detectors."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from resdet.errors import DataError
from resdet.ops.masks import crop_masks
from resdet.structures import Images, Targets

MASK_SIZE = 56  # side in pixels of an object's mask, stretched over its box


def images_from_list(images: Sequence[Tensor], divisor: int = 32) -> Images:
    """Pads images [3, H, W] of any sizes, uint8 or floats from 0 to 1, to one size, a multiple of `divisor`."""
    if not images or any(image.ndim != 3 or image.shape[0] != 3 for image in images):
        raise DataError("The images are not a list of RGB tensors [3, H, W]: give one or more.")
    height, width = (-(-max(image.shape[axis] for image in images) // divisor) * divisor for axis in (1, 2))
    pixels = [image * 255 if image.is_floating_point() else image for image in images]
    padded = [F.pad(image, (0, width - image.shape[2], 0, height - image.shape[1])) for image in pixels]
    sizes = torch.tensor([image.shape[1:] for image in images], dtype=torch.float32, device=images[0].device)
    return Images(torch.stack(padded), sizes)


def targets_from_list(targets: Sequence[Mapping[str, Tensor]]) -> Targets:
    """Converts dicts of boxes [n, 4] xyxy, labels [n] from 1, and optionally masks [n, H, W], keypoints [n, K, 3] and
    iscrowd [n]; rejects boxes without area."""
    check_same_keys(targets)
    for target in targets:
        check_lengths(target)
    count = max((len(target["boxes"]) for target in targets), default=0)
    boxes = torch.stack([pad(target["boxes"].float().reshape(-1, 4), count) for target in targets])
    labels = torch.stack([pad(target["labels"].long() - 1, count) for target in targets])
    if labels.numel() and labels.min() < 0:
        raise DataError("A label is 0: labels count from 1, as torchvision's do, whose 0 is the background.")
    number = torch.tensor([len(target["boxes"]) for target in targets], device=boxes.device)
    valid = torch.arange(count, device=boxes.device) < number[:, None]
    if not ((boxes[..., 2:] > boxes[..., :2]).all(2) & boxes.isfinite().all(2))[valid].all():
        raise DataError("A box is not finite or has no area: give x1, y1, x2, y2 with x1 < x2 and y1 < y2.")
    crowd = torch.stack(
        [pad(target.get("iscrowd", torch.zeros_like(target["labels"])).bool(), count) for target in targets]
    )
    masks = torch.stack([pad(masks_of(target), count) for target in targets]) if "masks" in targets[0] else None
    keypoints = None
    if "keypoints" in targets[0]:
        keypoints = torch.stack([pad(target["keypoints"].float(), count) for target in targets])
    return Targets(boxes, labels, valid, crowd, masks, keypoints)


def check_same_keys(targets: Sequence[Mapping[str, Tensor]]) -> None:
    """Rejects a batch in which only some images have masks or keypoints."""
    for key in ("masks", "keypoints"):
        if len({key in target for target in targets}) > 1:
            raise DataError(f"Some targets have {key} and others none: give {key} for all images, or for none.")


def check_lengths(target: Mapping[str, Tensor]) -> None:
    for key in ("boxes", "labels"):
        if key not in target:
            raise DataError(f"A target has no {key}: give boxes and labels, empty ones for an image without objects.")
    count = len(target["boxes"])
    for key in ("labels", "masks", "keypoints", "iscrowd"):
        if key in target and len(target[key]) != count:
            raise DataError(f"A target has {count} boxes and {len(target[key])} {key}: give one for each box.")


def pad(values: Tensor, count: int) -> Tensor:
    """Pads [n, …] with zeros to [count, …]."""
    return F.pad(values, (0, 0) * (values.ndim - 1) + (0, count - len(values)))


def masks_of(target: Mapping[str, Tensor]) -> Tensor:
    """Crops masks [n, H, W] of whole images to their boxes: uint8 [n, m, m], 0 to 255."""
    masks, boxes = target["masks"], target["boxes"].float().reshape(-1, 4)
    if not len(boxes):
        return masks.new_zeros((0, MASK_SIZE, MASK_SIZE), dtype=torch.uint8)
    height, width = masks.shape[1:]
    side = max(height, width)
    square = F.pad((masks > 0).to(torch.uint8) * 255, (0, side - width, 0, side - height))
    whole = boxes.new_tensor([[0.0, 0.0, side, side]]).repeat(len(boxes), 1)
    indices = torch.arange(len(boxes), device=boxes.device)
    cropped = crop_masks(square[None], whole[None], indices[None], boxes[None], MASK_SIZE)[0]
    return (cropped * 255).round().to(torch.uint8)
