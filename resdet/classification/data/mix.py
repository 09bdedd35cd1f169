"""Mixup (arXiv 1710.09412) and CutMix (arXiv 1905.04899), on whole batches on the device.

Each image is mixed with its predecessor in the shuffled batch. Copies from repeated augmentation are consecutive, and
are mixed with those of the previous image. Random numbers come from the CPU, to avoid waiting for the device.
"""

import math

import numpy as np
import torch

Batch = tuple[torch.Tensor, torch.Tensor]


def mix(
    images: torch.Tensor,
    targets: torch.Tensor,
    mixup_alpha: float,
    cutmix_alpha: float,
    generator: torch.Generator,
    copies: int = 1,
) -> Batch:
    """Applies mixup or CutMix if its alpha is positive; if both are, one of them at random for the whole batch.

    `copies`: number of consecutive copies of an image.
    """
    choices = [(method, alpha) for method, alpha in ((mixup, mixup_alpha), (cutmix, cutmix_alpha)) if alpha > 0]
    if not choices:
        return images, targets
    method, alpha = choices[int(torch.randint(len(choices), (), generator=generator))]
    return method(images, targets, alpha, generator, copies)


def mixup(images: torch.Tensor, targets: torch.Tensor, alpha: float, generator: torch.Generator, copies: int) -> Batch:
    """Blends images [B, 3, H, W] and targets [B, C] with their predecessors, weighted by Beta(alpha, alpha)."""
    return blend(images, targets, draw_share(alpha, generator), copies)


def cutmix(images: torch.Tensor, targets: torch.Tensor, alpha: float, generator: torch.Generator, copies: int) -> Batch:
    """Pastes a box of its predecessor into each image [B, 3, H, W], and weights the targets [B, C] by area."""
    share = draw_share(alpha, generator)
    return paste(images, targets, draw_box(share, images.shape[3], images.shape[2], generator), copies)


def blend(images: torch.Tensor, targets: torch.Tensor, share: float, distance: int = 1) -> Batch:
    """Weights each image and target by `share`, and the one `distance` places before it by the rest."""
    return torch.lerp(images.roll(distance, 0), images, share), torch.lerp(targets.roll(distance, 0), targets, share)


def paste(images: torch.Tensor, targets: torch.Tensor, box: tuple[int, int, int, int], distance: int = 1) -> Batch:
    """Replaces the pixels in `box` (x1, y1, x2, y2) with those of the image `distance` places before, and weights the
    targets by area."""
    x1, y1, x2, y2 = box
    mixed = images.clone()
    mixed[..., y1:y2, x1:x2] = images[..., y1:y2, x1:x2].roll(distance, 0)
    share = 1 - (x2 - x1) * (y2 - y1) / (images.shape[2] * images.shape[3])
    return mixed, torch.lerp(targets.roll(distance, 0), targets, share)


def draw_share(alpha: float, generator: torch.Generator) -> float:
    """Samples Beta(alpha, alpha) with NumPy, since torch's distribution does not accept a generator."""
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    return float(np.random.default_rng(seed).beta(alpha, alpha))


def draw_box(share: float, width: int, height: int, generator: torch.Generator) -> tuple[int, int, int, int]:
    """Returns a box (x1, y1, x2, y2) of area 1 - `share`, with a random center, clipped to the image."""
    x = int(torch.randint(width, (), generator=generator))
    y = int(torch.randint(height, (), generator=generator))
    half = math.sqrt(1 - share) / 2
    w, h = int(half * width), int(half * height)
    return max(x - w, 0), max(y - h, 0), min(x + w, width), min(y + h, height)
