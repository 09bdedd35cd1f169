"""Images with objects as a map-style dataset, with samples in the format of torchvision's detectors."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from resdet.detection.data.annotations import Annotations
from resdet.detection.data.geometry import scale_of

Sample = tuple[Tensor, dict[str, Tensor]]


class DetectionDataset(Dataset[Sample]):
    """(image, target) for each image: uint8 RGB [3, H, W], and a dict of

    boxes float32 [n, 4] xyxy · labels int64 [n], 1 to C, the index in `classes` plus 1 · iscrowd int64 [n] · image_id
    int64 [1], the index of the image · masks uint8 [n, H, W] of 0 and 1, if the annotations have masks.

    `transform` maps (image, target) to another sample, as the transforms of torchvision.transforms.v2 do.
    """

    def __init__(self, source: Annotations, transform: Callable[[Tensor, dict[str, Tensor]], Any] | None = None):
        self.source, self.transform = source, transform
        self.classes, self.category_ids = source.classes, source.category_ids

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Any:
        pixels, objects = self.source.image(index).decode(), self.source.objects(index)
        scale = scale_of(self.source, index, pixels)  # some ILSVRC annotations declare a size other than the image's
        target = {
            "boxes": torch.from_numpy(objects.boxes * np.tile(scale, 2).astype(np.float32)),
            "labels": torch.from_numpy(objects.labels) + 1,
            "iscrowd": torch.from_numpy(objects.crowd.astype(np.int64)),
            "image_id": torch.tensor([index]),
        }
        if self.source.has_masks:
            masks = np.zeros((len(objects), *pixels.shape[:2]), np.uint8)
            for mask, segment in zip(masks, objects.segments):
                if segment is not None:
                    mask[:] = segment.bitmap(*pixels.shape[:2])
            target["masks"] = torch.from_numpy(masks)
        if objects.keypoints is not None:
            moved = objects.keypoints.moved(scale, (0, 0), (pixels.shape[1], pixels.shape[0]))
            target["keypoints"] = torch.from_numpy(moved.points)
        image = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
        return self.transform(image, target) if self.transform else (image, target)
