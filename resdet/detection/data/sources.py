"""Opens the data sets of a config."""

from resdet.detection.data.annotations import Annotations
from resdet.detection.data.config import ScenesConfig
from resdet.errors import DataError


def open_scenes(config: ScenesConfig, split: str) -> Annotations:
    """Opens a split; raises DataError if it has no images, no classes or, except for `train`, no objects."""
    source = config.open(split)
    missing = "images" if not len(source) else "classes" if not source.classes else None
    if split != "train" and not missing and not source.label_counts().any():
        missing = "objects to evaluate detections with"
    if missing:
        reason = f" ({source.problems[0]})" if source.problems else ""
        key = "root" if split == "test" else split  # data.root determines whether there is a test split
        raise DataError(f"{source.file or source.root or config.root} has no {missing}{reason}: check data.{key}.")
    return source
