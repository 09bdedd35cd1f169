"""Config dataclasses of the data sets; free of torch. `data.name` decides which class reads the other keys."""

import difflib
from dataclasses import dataclass, field
from typing import Literal

from resdet.data.augment import AugmentConfig
from resdet.data.scenes.config import SceneConfig
from resdet.errors import ConfigError, require


@dataclass
class DataConfig:
    """The key that every data set shares."""

    name: str = "imagenet"


@dataclass
class ImagesConfig(DataConfig):
    """Images that are decoded, cropped and augmented by worker processes (section 3.4)."""

    size: int = 224  # side of a training crop
    test_size: int | None = None  # side of the crop in tests; null: as in training
    short: int = 256  # evaluation: the shorter side before the central crop
    mean: Literal["per_channel", "per_pixel"] = "per_channel"  # the paper subtracts the per-pixel mean
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    repeats: int = 1  # repeated augmentation: so many differently augmented copies of an image in a batch
    workers: int = -1  # loader processes; -1: one a core, eight at most
    on_bad_image: Literal["error", "skip"] = "error"

    def __post_init__(self):
        remedy = "the crop cannot be larger than the image it is cut from"
        for key, side in (("size", self.size), ("test_size", self.crop)):
            if not 1 <= side <= self.short:
                raise ConfigError(f"data.{key} is {side} and data.short {self.short}: {remedy}.", f"data.{key}")
        require(self.repeats > 0, "data.repeats", self.repeats, "give 1 (none) or more")

    @property
    def crop(self) -> int:
        """Side of the crop in tests."""
        return self.size if self.test_size is None else self.test_size


@dataclass
class ImageNetConfig(ImagesConfig):
    """ILSVRC 2012 in any of its official layouts (datasets/README.md)."""

    root: str = "datasets/ILSVRC2012"


@dataclass
class FolderConfig(ImagesConfig):
    """A folder of images per class, one tree for training and one for validation."""

    root: str = "datasets/images"
    train: str = "train"
    val: str = "val"


@dataclass
class ShapesConfig(ImagesConfig):
    """Generated images of geometric shapes, through the same pipeline as photographs; nothing to download."""

    train_images: int = 4096
    val_images: int = 512
    seed: int = 0


@dataclass
class ResidentConfig(DataConfig):
    """Small images that lie on the device as one tensor and are augmented there (section 4.2)."""

    pad: int = 4
    flip: bool = True
    mean: Literal["per_channel", "per_pixel"] = "per_pixel"
    mixup: float = 0.0
    cutmix: float = 0.0


@dataclass
class Cifar10Config(ResidentConfig):
    """CIFAR-10. `hold_out: 5000` validates on the end of the training set (the 45k/5k split of section 4.2)."""

    root: str = "datasets/cifar10"
    hold_out: int = 0  # 0: all 50,000 are trained on and the test set is the validation set, as Table 6 reports

    def __post_init__(self):
        remedy = "give a number of training images, or 0 for none"
        require(self.hold_out >= 0, "data.hold_out", self.hold_out, remedy)


@dataclass
class TinyShapesConfig(ResidentConfig):
    """Generated 32×32 images, ten classes of shapes: CIFAR's stand-in where nothing can be downloaded."""

    train_images: int = 8192
    val_images: int = 1024
    seed: int = 0


@dataclass
class SplitConfig:
    """Where the images and annotations of a split lie, relative to `data.root`."""

    images: str = ""  # a folder
    annotations: str = ""  # COCO, LVIS: a JSON file; VOC: a folder of XML files
    image_set: str | None = None  # VOC: a text file that lists the images, one name a line; null: all annotations


@dataclass
class ScenesConfig(DataConfig):
    """Images with objects: boxes, classes, and masks where the model draws them. Class names come from the files."""

    root: str = "."
    augment: SceneConfig = field(default_factory=SceneConfig)
    sampling: Literal["uniform", "repeat_factor", "class_aware"] = "uniform"
    negatives: float = 0.0  # class_aware: the share of a pass that goes to images without objects
    repeat_threshold: float = 0.001  # repeat_factor: images of classes rarer than this come more often (LVIS)
    max_objects: int = 100  # of an image; of more than that the largest are learnt, and the log says so
    mask_size: int = 56  # each object's mask is kept with so many pixels a side, cropped to its box
    workers: int = -1  # loader processes; -1: one a core, eight at most
    on_bad_image: Literal["error", "skip"] = "error"
    on_bad_annotation: Literal["error", "skip"] = "skip"  # what is skipped is counted and named in the log

    def __post_init__(self):
        for key in ("max_objects", "mask_size", "repeat_threshold"):
            require(getattr(self, key) > 0, f"data.{key}", getattr(self, key), "it must be above zero")
        require(0 <= self.negatives <= 1, "data.negatives", self.negatives, "it is a share, from 0 to 1")


@dataclass
class CocoConfig(ScenesConfig):
    """COCO's format, which LVIS shares: a JSON file and a folder of images for each split."""

    root: str = "datasets/coco"
    train: SplitConfig = field(default_factory=lambda: SplitConfig("train2017", "annotations/instances_train2017.json"))
    val: SplitConfig = field(default_factory=lambda: SplitConfig("val2017", "annotations/instances_val2017.json"))


@dataclass
class VocConfig(ScenesConfig):
    """PASCAL VOC's format: sets of a VOCdevkit, or data of your own, named by `train` and `val`."""

    root: str = "datasets/VOCdevkit"
    train_sets: list[str] = field(default_factory=lambda: ["2007_trainval", "2012_trainval"])
    val_sets: list[str] = field(default_factory=lambda: ["2007_test"])
    train: SplitConfig = field(default_factory=SplitConfig)
    val: SplitConfig = field(default_factory=SplitConfig)


@dataclass
class IlsvrcDetConfig(ScenesConfig):
    """ILSVRC's detection task in its official layout (datasets/README.md)."""

    root: str = "datasets/ILSVRC"
    train: str = "train+val1"
    val: str = "val2"


@dataclass
class ShapeScenesConfig(ScenesConfig):
    """Generated scenes of geometric shapes, written to `root` as images and COCO files when first used."""

    root: str = "datasets/shape_scenes"
    train_images: int = 2000
    val_images: int = 200
    size: int = 160
    seed: int = 0


@dataclass
class LocAugmentConfig:
    """Section 3.4's crop, flip and colour; boxes are carried along."""

    short: tuple[int, int] = (256, 480)  # the range of the short side
    flip: float = 0.5  # probability
    pca_colour: float = 0.1  # standard deviation; 0 turns it off

    def __post_init__(self):
        ordered = 0 < self.short[0] <= self.short[1]
        require(ordered, "data.augment.short", list(self.short), "give the smaller side first")
        require(0 <= self.flip <= 1, "data.augment.flip", self.flip, "it is a probability, from 0 to 1")
        require(self.pca_colour >= 0, "data.augment.pca_colour", self.pca_colour, "it cannot be negative")


@dataclass
class LocalizationConfig(DataConfig):
    """Images of one class each, with the boxes of its instances (appendix C)."""

    root: str = "."
    size: int = 224  # side of a training crop, of the central crop, and of R-CNN's warped regions
    short: int = 256  # the shorter side before the central crop
    augment: LocAugmentConfig = field(default_factory=LocAugmentConfig)
    max_objects: int = 32  # of an image; of more than that the largest are learnt
    workers: int = -1  # loader processes; -1: one a core, eight at most
    on_bad_image: Literal["error", "skip"] = "error"

    def __post_init__(self):
        if self.size < 1 or min(self.short, self.augment.short[0]) < self.size:
            raise ConfigError(
                f"data.size is {self.size}, data.short {self.short} and data.augment.short "
                f"{list(self.augment.short)}: the crop cannot be larger than the image it is cut from.",
                "data.size",
            )
        require(self.max_objects > 0, "data.max_objects", self.max_objects, "give one or more")


@dataclass
class IlsvrcLocConfig(LocalizationConfig):
    """ILSVRC 2012 with its boxes, in any of its official layouts (datasets/README.md)."""

    root: str = "datasets/ILSVRC2012"


@dataclass
class ShapeLocConfig(LocalizationConfig):
    """Generated images in the layout of ILSVRC's, written to `root` when first used."""

    root: str = "datasets/shape_loc"
    train_images: int = 4000
    val_images: int = 400
    side: int = 160  # of the images, the longer one
    seed: int = 0


FAMILIES: dict[str, type[DataConfig]] = {
    "imagenet": ImageNetConfig,
    "folder": FolderConfig,
    "shapes": ShapesConfig,
    "cifar10": Cifar10Config,
    "tiny_shapes": TinyShapesConfig,
    "coco": CocoConfig,
    "voc": VocConfig,
    "ilsvrc_det": IlsvrcDetConfig,
    "shape_scenes": ShapeScenesConfig,
    "ilsvrc_loc": IlsvrcLocConfig,
    "shape_loc": ShapeLocConfig,
}


def family(name: str) -> type[DataConfig]:
    """The config class that belongs to a data set's name."""
    if name in FAMILIES:
        return FAMILIES[name]
    near = difflib.get_close_matches(name, FAMILIES, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(FAMILIES)}."
    raise ConfigError(f"data.name: there is no data set named {name!r}: {hint}")
