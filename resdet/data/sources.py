"""From the data section of a config to the images it names."""

from pathlib import Path
from typing import Any

import torch

from resdet.data.config import Cifar10Config, DataConfig, FolderConfig, ImageNetConfig, ImagesConfig, ShapesConfig
from resdet.data.resident import ResidentImages
from resdet.data.shapes import CLASSES, ShapeImages
from resdet.errors import DataError


def open_images(config: ImagesConfig, split: str) -> Any:
    """The images of a split (`train`, `val`; ImageNet has `test` too), to be decoded, with labels and class names."""
    if isinstance(config, ImageNetConfig):
        from resdet.data.imagenet import imagenet

        return imagenet(config.root, split)
    if isinstance(config, FolderConfig):
        return open_folder(config, split)
    assert isinstance(config, ShapesConfig)
    count = config.train_images if split == "train" else config.val_images
    return ShapeImages(count, config.short, config.seed, split)


def open_folder(config: FolderConfig, split: str) -> Any:
    """The validation tree has the classes of the training tree, so that both agree on the numbers."""
    from resdet.data.folder import ImageFolder

    train = ImageFolder(Path(config.root) / config.train)
    return train if split == "train" else ImageFolder(Path(config.root) / config.val, train.classes)


def open_resident(config: DataConfig, split: str, device: torch.device) -> ResidentImages:
    """The images of a split, `train` or `val`, as one tensor on the device."""
    if not isinstance(config, Cifar10Config):
        count = config.train_images if split == "train" else config.val_images
        images = ShapeImages(count, 32, config.seed, split)
        return ResidentImages(images.pixels(), images.labels, CLASSES, device)
    from resdet.data import cifar

    held_out = config.hold_out > 0
    data = cifar.read(Path(config.root), "train" if split == "train" or held_out else "test")
    if config.hold_out >= len(data.labels):
        raise DataError(
            f"data.hold_out is {config.hold_out} and the training set has {len(data.labels)} images: hold out fewer."
        )
    border = len(data.labels) - config.hold_out
    part = slice(None) if not held_out else slice(border) if split == "train" else slice(border, None)
    return ResidentImages(data.images[part], data.labels[part], data.classes, device)
