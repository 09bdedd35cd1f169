"""Validation losses of localizers: of the views that they are tested with, without augmentation."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from resdet.data.samplers import generator_for
from resdet.localization.data.crops import boxes_in, targets_of, within
from resdet.localization.data.regions import draw_region
from resdet.localization.evaluate import Shown
from resdet.localization.locate import Locator
from resdet.localization.rcnn_model import LocalizerRCNN
from resdet.localization.rpn_model import Localizer
from resdet.structures import RegionTargets, each


def rpn_losses(model: Localizer, source: Any, most: int, shown: Shown) -> dict[str, Tensor]:
    """Of each image's first view: the central crop, or the whole image at the first scale. `most` objects count."""
    view = shown.views[0]
    sides = view.pixels.shape[:1:-1] * 2  # width and height, twice
    scales, shifts, sizes = (np.tile(field.cpu().numpy(), 2) for field in (view.scale, view.shift, shown.sizes.flip(1)))
    seen = [
        within(boxes_in(source, index, size[:2]) * scale - shift, sides)
        for index, size, scale, shift in zip(shown.indices, sizes, scales, shifts)
    ]
    targets = targets_of(*zip(*seen), source.labels[shown.indices], most)
    torch.manual_seed(shown.indices[0])  # the anchors that count are the same ones at every evaluation
    return model.losses(view.pixels, each(targets, lambda field: field.to(view.pixels.device)))


def region_losses(model: LocalizerRCNN, locator: Locator, source: Any, shown: Shown) -> dict[str, Tensor]:
    """Of one proposal of the image, drawn as in training, and the same one at every evaluation."""
    (index,), (*views, picture) = shown.indices, shown.views
    label = torch.tensor([int(source.labels[index])], device=locator.device)
    proposals = locator.propose(views, shown.sizes, label[None])
    boxes = proposals.boxes[0, proposals.valid[0]]
    if not len(boxes):
        return {}
    objects = boxes_in(source, index, shown.sizes[0].flip(0).cpu().numpy())
    config = model.config
    box, thing, positive = draw_region(
        boxes.cpu().numpy(),
        objects.astype(np.float32),
        config.positive_iou,
        config.positive_fraction,
        generator_for(index),
    )
    box, thing, positive = (torch.as_tensor(value, device=locator.device)[None] for value in (box, thing, positive))
    return model.losses(locator.regions(picture, box), RegionTargets(box, thing, label, positive))
