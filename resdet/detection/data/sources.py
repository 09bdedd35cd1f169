"""From the data section of a config to the images it names."""

from resdet.detection.data.annotations import Annotations
from resdet.detection.data.config import ScenesConfig
from resdet.errors import DataError


def open_scenes(config: ScenesConfig, split: str) -> Annotations:
    """The images of a split, `train` or `val`, with their objects; a DataError where there is nothing to work on."""
    source = config.open(split)
    lack = "images" if not len(source) else "classes" if not source.classes else None
    if split == "val" and not lack and not source.label_counts().any():
        lack = "objects to judge detections by"
    if lack:
        why = f" ({source.problems[0]})" if source.problems else ""
        raise DataError(f"{source.file or source.root or config.root} has no {lack}{why}: check data.{split}.")
    return source


def open_test_images(config: ScenesConfig) -> Annotations:
    """The images that `data.val` or `data.val_sets` names, none with an object; `image_id`s are the servers' names."""
    return config.open_test()
