"""Validation losses of localizers, on test views without augmentation."""

import numpy as np
import torch
from torch import Tensor

from resdet.data.samplers import generator_for
from resdet.localization.data.crops import build_targets, clip_boxes, scaled_boxes
from resdet.localization.data.ilsvrc_loc import LocalizedImages
from resdet.localization.data.regions import sample_region
from resdet.localization.evaluate import ViewBatch
from resdet.localization.locate import Locator
from resdet.localization.rcnn_model import LocalizerRCNN
from resdet.localization.rpn_model import Localizer
from resdet.structures import RegionTargets, each


def rpn_losses(model: Localizer, source: LocalizedImages, max_objects: int, batch: ViewBatch) -> dict[str, Tensor]:
    """Computes the losses on each image's first view: the center crop, or the whole image at the first scale."""
    view = batch.views[0]
    sides = view.pixels.shape[:1:-1] * 2  # width and height, twice
    scales, shifts, sizes = (np.tile(field.cpu().numpy(), 2) for field in (view.scale, view.shift, batch.sizes.flip(1)))
    clipped = [
        clip_boxes(scaled_boxes(source, index, size[:2]) * scale - shift, sides)
        for index, size, scale, shift in zip(batch.indices, sizes, scales, shifts)
    ]
    boxes, crowd = zip(*clipped)
    targets = build_targets(boxes, crowd, source.labels[batch.indices], max_objects)
    torch.manual_seed(batch.indices[0])  # sample the same anchors in every evaluation
    return model.losses(view.pixels, each(targets, lambda field: field.to(view.pixels.device)))


def region_losses(
    model: LocalizerRCNN, locator: Locator, source: LocalizedImages, batch: ViewBatch
) -> dict[str, Tensor]:
    """Computes the losses on one proposal of an image, sampled as in training, but the same in every evaluation."""
    (index,), (*views, image) = batch.indices, batch.views
    label = torch.tensor([int(source.labels[index])], device=locator.device)
    proposals = locator.propose(views, batch.sizes, label[None])
    boxes = proposals.boxes[0, proposals.valid[0]]
    if not len(boxes):
        return {}
    objects = scaled_boxes(source, index, batch.sizes[0].flip(0).cpu().numpy())
    config = model.config
    sample = sample_region(
        boxes.cpu().numpy(),
        objects.astype(np.float32),
        config.positive_iou,
        config.positive_fraction,
        generator_for(index),
    )
    box, target, positive = (torch.as_tensor(value, device=locator.device)[None] for value in sample)
    return model.losses(locator.regions(image, box), RegionTargets(box, target, label, positive))
