"""Data config: `data.name` selects a registered format and its dataclass for the other keys; does not import torch."""

from dataclasses import dataclass

from resdet.registry import Registry


@dataclass
class DataConfig:
    """The key that all data sets share."""

    name: str = "imagenet"


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
