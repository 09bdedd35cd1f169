"""Data config: `data.name` selects a registered format and the dataclass of the other keys; does not import torch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from resdet.errors import ConfigError
from resdet.registry import Registry

if TYPE_CHECKING:
    from torch.utils.data import Dataset


@dataclass
class DataConfig:
    """The key that all data sets have."""

    name: str = "imagenet"  # data set or format; selects the keys below

    def dataset(self, split: str, transform: "Callable[..., Any] | None" = None) -> "Dataset[Any]":
        """Returns a split, `train` or `val`, as a map-style dataset; its class documents the samples."""
        raise ConfigError(f"data.name is {self.name}, which has no map-style dataset: open it with data.open(split).")


formats: Registry[type[DataConfig]] = Registry(
    "data set",
    "data.name",
    {
        "imagenet": "resdet.classification.data.config:ImageNetConfig",
        "folder": "resdet.classification.data.config:FolderConfig",
        "shapes": "resdet.classification.data.config:ShapesConfig",
        "cifar10": "resdet.classification.data.config:Cifar10Config",
        "tiny_shapes": "resdet.classification.data.config:TinyShapesConfig",
        "auto": "resdet.detection.data.config:AutoConfig",
        "coco": "resdet.detection.data.config:CocoConfig",
        "voc": "resdet.detection.data.config:VocConfig",
        "ilsvrc_det": "resdet.detection.data.config:IlsvrcDetConfig",
        "ilsvrc_vid": "resdet.detection.data.config:IlsvrcVidConfig",
        "shape_scenes": "resdet.detection.data.config:ShapeScenesConfig",
        "shape_vid": "resdet.detection.data.config:ShapeVidConfig",
        "ilsvrc_loc": "resdet.localization.data.config:IlsvrcLocConfig",
        "shape_loc": "resdet.localization.data.config:ShapeLocConfig",
    },
)
register = formats.register
