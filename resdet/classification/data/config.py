"""Config of the classification data sets; does not import torch."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from resdet.classification.data.augment_config import AugmentConfig
from resdet.data.config import DataConfig
from resdet.errors import ConfigError, DataError, require

if TYPE_CHECKING:
    from resdet.classification.data.cifar import Cifar
    from resdet.classification.data.dataset import ClassificationDataset, PixelDataset
    from resdet.images.decode import EncodedSource, Source


@dataclass
class ImagesConfig(DataConfig):
    """Images that worker processes decode, crop and augment (section 3.4)."""

    size: int = 224  # side of a training crop in pixels
    test_size: int | None = None  # side of a test crop in pixels; null: `data.size`
    # evaluation: shorter side in pixels before the center crop; null: 8/7 of the larger crop, 256 for 224
    short: int | None = 256
    # subtracted mean: the mean color, or the mean image as in the paper
    mean: Literal["per_channel", "per_pixel"] = "per_channel"
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    repeats: int = 1  # repeated augmentation: number of augmented copies of an image in a batch; 1: off
    workers: int = -1  # loader processes; -1: one per core of the process, at most eight
    # action for an image that cannot be decoded; error: stop the run; skip: leave the image out and list it in the log
    on_bad_image: Literal["error", "skip"] = "error"

    def __post_init__(self):
        remedy = "give a crop of at least 1 and at most data.short"
        for key, side in (("size", self.size), ("test_size", self.crop)):
            if not 1 <= side <= self.short_side:
                raise ConfigError(f"data.{key} is {side} and data.short {self.short_side}: {remedy}.", f"data.{key}")
        require(self.repeats > 0, "data.repeats", self.repeats, "give 1 (none) or more")

    @property
    def crop(self) -> int:
        """Side of a test crop in pixels."""
        return self.size if self.test_size is None else self.test_size

    @property
    def short_side(self) -> int:
        """Shorter side of an image before a test crop."""
        return round(max(self.size, self.crop) * 8 / 7) if self.short is None else self.short

    def dataset(self, split: str, transform: Callable | None = None) -> "ClassificationDataset":
        from resdet.classification.data.dataset import ClassificationDataset

        return ClassificationDataset(self.open(split), transform)

    def open(self, split: str) -> "Source":
        """Opens the source of a split, `train` or `val`."""
        raise NotImplementedError


@dataclass
class ImageNetConfig(ImagesConfig):
    """ILSVRC 2012 in any of its official layouts (datasets/README.md)."""

    root: str = "datasets/ILSVRC2012"  # folder of the data set

    def open(self, split: str) -> "Source":
        """Opens a split, which may also be `test`."""
        from resdet.classification.data.imagenet import imagenet

        return imagenet(self.root, split)


@dataclass
class FolderConfig(ImagesConfig):
    """One folder per class, or WebDataset shards, in one tree for training and one for validation.

    Without a tree `val`, a share of the images in the class folders of `train`, or of `root`, is for validation.
    """

    root: str = "datasets/images"  # folder of both trees, or an address of shards
    train: str = "train"  # training tree, relative to `data.root`
    val: str = "val"  # validation tree, relative to `data.root`
    val_share: float = 0.2  # share of the images of each class for validation, if there is no validation tree
    seed: int = 0  # seed of that split

    def __post_init__(self):
        super().__post_init__()
        require(0 < self.val_share < 1, "data.val_share", self.val_share, "it is a share, between 0 and 1")

    def open(self, split: str) -> "EncodedSource":
        """Opens a split with the classes of the training tree, so that labels agree."""
        from resdet.classification.data.folder_split import open_share
        from resdet.classification.data.shards import has_shards, open_folder
        from resdet.files.remote import local

        root = local(self.root)
        if self.val == "val" and not (root / "val").is_dir() and not has_shards(root / self.train):
            return open_share(root, self.train, split, self.val_share, self.seed)
        return open_folder(root, self.train if split == "train" else self.val, self.train)


@dataclass
class ShapesConfig(ImagesConfig):
    """Generated images of geometric shapes, in the same pipeline as photographs; no download."""

    train_images: int = 4096  # number of training images
    val_images: int = 512  # number of validation images
    seed: int = 0  # seed of the generated images

    def open(self, split: str) -> "Source":
        from resdet.data.shapes import ShapeImages

        count = self.train_images if split == "train" else self.val_images
        return ShapeImages(count, self.short_side, self.seed, split)


@dataclass
class OnDeviceConfig(DataConfig):
    """Small images in one tensor on the device, augmented there (section 4.2)."""

    pad: int = 4  # padding on each side in pixels, before a random crop
    flip: bool = True  # mirror half of the training images
    # subtracted mean: the mean color, or the mean image as in the paper
    mean: Literal["per_channel", "per_pixel"] = "per_pixel"
    mixup: float = 0.0  # alpha of mixup's Beta distribution; 0: off
    cutmix: float = 0.0  # alpha of CutMix's Beta distribution; 0: off

    def dataset(self, split: str, transform: Callable | None = None) -> "PixelDataset":
        from resdet.classification.data.dataset import PixelDataset

        return PixelDataset(self.open(split), transform)

    def open(self, split: str) -> "Cifar":
        """Opens a split, `train` or `val`: `images` uint8 [N, 3, H, W], `labels` [N] and `classes`."""
        raise NotImplementedError


@dataclass
class Cifar10Config(OnDeviceConfig):
    """CIFAR-10. `hold_out: 5000` validates on the end of the training set (the 45k/5k split of section 4.2)."""

    root: str = "datasets/cifar10"  # folder of the data set
    # number of images at the end of the training set for validation; 0: train on all 50,000 and validate on the test
    # set, as in Table 6
    hold_out: int = 0

    def __post_init__(self):
        remedy = "give a number of training images, or 0 for none"
        require(self.hold_out >= 0, "data.hold_out", self.hold_out, remedy)

    def open(self, split: str) -> "Cifar":
        from resdet.classification.data.cifar import Cifar, read

        held_out = self.hold_out > 0
        data = read(Path(self.root), "train" if split == "train" or held_out else "test")
        if self.hold_out >= len(data.labels):
            raise DataError(
                f"data.hold_out is {self.hold_out}, but the training set has {len(data.labels)} images: hold out fewer."
            )
        border = len(data.labels) - self.hold_out
        part = slice(None) if not held_out else slice(border) if split == "train" else slice(border, None)
        return Cifar(data.images[part], data.labels[part], data.classes)


@dataclass
class TinyShapesConfig(OnDeviceConfig):
    """Generated 32×32 images of ten shapes: a replacement for CIFAR that needs no download."""

    train_images: int = 8192  # number of training images
    val_images: int = 1024  # number of validation images
    seed: int = 0  # seed of the generated images

    def open(self, split: str) -> "Cifar":
        from resdet.classification.data.cifar import Cifar
        from resdet.data.shapes import ShapeImages

        count = self.train_images if split == "train" else self.val_images
        images = ShapeImages(count, 32, self.seed, split)
        return Cifar(images.pixels(), images.labels, images.classes)
