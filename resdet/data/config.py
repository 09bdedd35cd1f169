"""Data config: `data.name` selects a registered format and its dataclass for the other keys; does not import torch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from resdet.errors import ConfigError
from resdet.registry import Registry

if TYPE_CHECKING:
    from torch.utils.data import Dataset


@dataclass
class DataConfig:
    """The key that all data sets share."""

    name: str = "imagenet"

    def dataset(self, split: str, transform: "Callable[..., Any] | None" = None) -> "Dataset[Any]":
        """A split, `train` or `val`, as a map-style dataset of torch; its class documents the samples."""
        raise ConfigError(f"data.name is {self.name}, which has no map-style dataset: open it with data.open(split).")


formats: Registry[type[DataConfig]] = Registry(
    "data set",
    "data.name",
    {
        **{
            name: f"resdet.classification.data.config:{kind}"
            for name, kind in (
                ("imagenet", "ImageNetConfig"),
                ("folder", "FolderConfig"),
                ("shapes", "ShapesConfig"),
                ("cifar10", "Cifar10Config"),
                ("tiny_shapes", "TinyShapesConfig"),
            )
        },
        **{
            name: f"resdet.detection.data.config:{kind}"
            for name, kind in (
                ("coco", "CocoConfig"),
                ("voc", "VocConfig"),
                ("ilsvrc_det", "IlsvrcDetConfig"),
                ("shape_scenes", "ShapeScenesConfig"),
            )
        },
        **{
            name: f"resdet.localization.data.config:{kind}"
            for name, kind in (
                ("ilsvrc_loc", "IlsvrcLocConfig"),
                ("shape_loc", "ShapeLocConfig"),
            )
        },
    },
)
register = formats.register
