"""From the data section of a config to the images it names."""

from typing import Any

import torch

from resdet.classification.data.config import ImagesConfig, OnDeviceConfig
from resdet.classification.data.on_device import OnDeviceImages


def open_images(config: ImagesConfig, split: str) -> Any:
    """The images of a split (`train`, `val`; ImageNet has `test` too), to be decoded, with labels and class names."""
    return config.open(split)


def open_on_device(config: OnDeviceConfig, split: str, device: torch.device) -> OnDeviceImages:
    """The images of a split, `train` or `val`, as one tensor on the device."""
    data = config.open(split)
    return OnDeviceImages(data.images, data.labels, data.classes, device)
