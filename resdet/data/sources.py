"""From the data section of a config to the images it names."""

from pathlib import Path
from typing import Any

import torch

from resdet.data.annotations import Annotations, concatenate
from resdet.data.config import (
    Cifar10Config,
    CocoConfig,
    DataConfig,
    FolderConfig,
    IlsvrcDetConfig,
    ImageNetConfig,
    ImagesConfig,
    LocalizationConfig,
    ScenesConfig,
    ShapeLocConfig,
    ShapeScenesConfig,
    ShapesConfig,
    VocConfig,
)
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


def open_scenes(config: ScenesConfig, split: str) -> Annotations:
    """The images of a split, `train` or `val`, with their objects; a DataError where there is nothing to work on."""
    source = _open_scenes(config, split)
    lack = "images" if not len(source) else "classes" if not source.classes else None
    if split == "val" and not lack and not source.label_counts().any():
        lack = "objects to judge detections by"
    if lack:
        why = f" ({source.problems[0]})" if source.problems else ""
        raise DataError(f"{source.file or source.root or config.root} has no {lack}{why}: check data.{split}.")
    return source


def _open_scenes(config: ScenesConfig, split: str) -> Annotations:
    root, on_bad = Path(config.root), config.on_bad_annotation
    if isinstance(config, VocConfig):
        return open_voc_sets(config, split)
    if isinstance(config, IlsvrcDetConfig):
        from resdet.data.ilsvrc_det import open_ilsvrc_det

        return open_ilsvrc_det(root, getattr(config, split), on_bad)
    from resdet.data.coco import open_coco

    if isinstance(config, ShapeScenesConfig):
        from resdet.data import shape_scenes

        shape_scenes.ensure(root, config.train_images, config.val_images, config.size, config.seed)
        return open_coco(root / "annotations" / f"{split}.json", root / split, on_bad)
    assert isinstance(config, CocoConfig)
    files = getattr(config, split)
    return open_coco(root / files.annotations, root / files.images, on_bad)


def open_voc_sets(config: VocConfig, split: str) -> Annotations:
    """The data named by `train` or `val`, or the sets of a VOCdevkit. Validation has the classes of training."""
    from resdet.data.voc import open_devkit, open_voc

    root, on_bad = Path(config.root), config.on_bad_annotation
    files = getattr(config, split)
    if not files.annotations:
        sets = [name.split("_", 1) for name in getattr(config, f"{split}_sets")]
        if any(len(parts) != 2 for parts in sets):
            raise DataError(f"data.{split}_sets is {getattr(config, f'{split}_sets')}: name each as 2007_trainval.")
        return concatenate([open_devkit(root, *parts, on_bad=on_bad) for parts in sets])
    classes = None if split == "train" else open_voc_sets(config, "train").classes
    image_set = root / files.image_set if files.image_set else None
    return open_voc(root / files.annotations, root / files.images, image_set, classes, on_bad)


def open_localized(config: LocalizationConfig, split: str) -> Any:
    """The images of a split, `train` or `val`, with their classes and boxes."""
    from resdet.data.ilsvrc_loc import open_ilsvrc_loc

    if isinstance(config, ShapeLocConfig):
        from resdet.data import shape_loc

        shape_loc.ensure(Path(config.root), config.train_images, config.val_images, config.side, config.seed)
    return open_ilsvrc_loc(config.root, split)
