"""Opens the data sets of a config."""

import torch

from resdet.classification.data.config import ImagesConfig, OnDeviceConfig
from resdet.classification.data.on_device import OnDeviceImages
from resdet.images.decode import Source


def open_images(config: ImagesConfig, split: str) -> Source:
    """The source of a split, `train` or `val`; for ImageNet also `test`."""
    return config.open(split)


def open_on_device(config: OnDeviceConfig, split: str, device: torch.device) -> OnDeviceImages:
    """The images of a split, `train` or `val`, in one tensor on the device."""
    data = config.open(split)
    return OnDeviceImages(data.images, data.labels, data.classes, device)
