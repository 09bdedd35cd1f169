"""From the data section of a config to the images it names."""

from typing import Any

import torch

from resdet.classification.data.config import ImagesConfig, ResidentConfig
from resdet.classification.data.on_device import ResidentImages


def open_images(config: ImagesConfig, split: str) -> Any:
    """The images of a split (`train`, `val`; ImageNet has `test` too), to be decoded, with labels and class names."""
    return config.open(split)


def open_resident(config: ResidentConfig, split: str, device: torch.device) -> ResidentImages:
    """The images of a split, `train` or `val`, as one tensor on the device."""
    data = config.open(split)
    return ResidentImages(data.images, data.labels, data.classes, device)
