"""Mixup (arXiv 1710.09412) and CutMix (arXiv 1905.04899), on the device and on whole batches.

Each image meets its neighbor in the batch, which the loader has shuffled. What is random is drawn on the CPU, so
that the device is never waited for.
"""

import math

import numpy as np
import torch

Batch = tuple[torch.Tensor, torch.Tensor]


def mix(
    images: torch.Tensor, targets: torch.Tensor, mixup_alpha: float, cutmix_alpha: float, generator: torch.Generator
) -> Batch:
    """Mixup or CutMix, whichever alpha is positive; one of them at random for the whole batch where both are."""
    choices = [(way, alpha) for way, alpha in ((mixup, mixup_alpha), (cutmix, cutmix_alpha)) if alpha > 0]
    if not choices:
        return images, targets
    way, alpha = choices[int(torch.randint(len(choices), (), generator=generator))]
    return way(images, targets, alpha, generator)


def mixup(images: torch.Tensor, targets: torch.Tensor, alpha: float, generator: torch.Generator) -> Batch:
    """Average each image [B,3,H,W] and its target [B,C] with its neighbor's, by a share from Beta(alpha, alpha)."""
    return blend(images, targets, draw_share(alpha, generator))


def cutmix(images: torch.Tensor, targets: torch.Tensor, alpha: float, generator: torch.Generator) -> Batch:
    """Paste a box of its neighbor into each image [B,3,H,W], and weigh the targets [B,C] by the areas."""
    share = draw_share(alpha, generator)
    return paste(images, targets, draw_box(share, images.shape[3], images.shape[2], generator))


def blend(images: torch.Tensor, targets: torch.Tensor, share: float) -> Batch:
    """`share` of each image and target, the rest from the one before it in the batch."""
    return torch.lerp(images.roll(1, 0), images, share), torch.lerp(targets.roll(1, 0), targets, share)


def paste(images: torch.Tensor, targets: torch.Tensor, box: tuple[int, int, int, int]) -> Batch:
    """The pixels within `box` (x1, y1, x2, y2) from the image before it in the batch, and targets to match."""
    x1, y1, x2, y2 = box
    mixed = images.clone()
    mixed[..., y1:y2, x1:x2] = images[..., y1:y2, x1:x2].roll(1, 0)
    share = 1 - (x2 - x1) * (y2 - y1) / (images.shape[2] * images.shape[3])
    return mixed, torch.lerp(targets.roll(1, 0), targets, share)


def draw_share(alpha: float, generator: torch.Generator) -> float:
    """A draw from Beta(alpha, alpha); torch's own takes no generator."""
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    return float(np.random.default_rng(seed).beta(alpha, alpha))


def draw_box(share: float, width: int, height: int, generator: torch.Generator) -> tuple[int, int, int, int]:
    """Box (x1, y1, x2, y2) that leaves `share` of the area, centered anywhere and clipped to the image."""
    x = int(torch.randint(width, (), generator=generator))
    y = int(torch.randint(height, (), generator=generator))
    half = math.sqrt(1 - share) / 2
    w, h = int(half * width), int(half * height)
    return max(x - w, 0), max(y - h, 0), min(x + w, width), min(y + h, height)
