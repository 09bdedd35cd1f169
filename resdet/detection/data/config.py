"""Config of detection's data sets; imports no torch."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from resdet.data.config import DataConfig
from resdet.detection.data.augment_config import SceneConfig
from resdet.errors import ConfigError, at_least, require
from resdet.files.json_file import read_json

if TYPE_CHECKING:
    from resdet.detection.data.annotations import Annotations
    from resdet.detection.data.dataset import DetectionDataset


@dataclass
class SplitConfig:
    """Paths of the images and annotations of a split, relative to `data.root`."""

    images: str = ""  # folder of the images
    annotations: str = ""  # COCO, LVIS: a JSON file; VOC: a folder of XML files
    image_set: str | None = None  # VOC: a text file with one image name per line; null: all annotations


@dataclass
class ScenesConfig(DataConfig):
    """Images with objects: boxes, classes, and masks for models that predict them. Class names come from the files."""

    root: str = "."  # folder of the data set
    augment: SceneConfig = field(default_factory=SceneConfig)
    # uniform; repeat_factor: repeats images of rare classes (LVIS); class_aware: draws a class, then an image of it
    sampling: Literal["uniform", "repeat_factor", "class_aware"] = "uniform"
    negatives: float = 0.0  # class_aware: share of images without objects in an epoch, from 0 to 1
    # repeat_factor: images of a class are repeated if the class is in fewer than this share of the images
    repeat_threshold: float = 0.001
    # largest number of objects per image; if there are more, the largest objects are used, with a note in the log
    max_objects: int = 100
    mask_size: int = 56  # side in pixels of each object's mask, cropped to its box
    workers: int = -1  # loader processes; -1: one per core of the process, at most eight
    # action for an image that cannot be decoded; error: stop the run; skip: leave the image out and list it in the log
    on_bad_image: Literal["error", "skip"] = "error"
    # action for an invalid annotation; error: stop the run; skip: leave it out and count it in the log
    on_bad_annotation: Literal["error", "skip"] = "skip"

    def __post_init__(self):
        for key in ("max_objects", "mask_size", "repeat_threshold"):
            require(getattr(self, key) > 0, f"data.{key}", getattr(self, key), "it must be above zero")
        require(0 <= self.negatives <= 1, "data.negatives", self.negatives, "it is a share, from 0 to 1")

    def dataset(self, split: str, transform: Callable | None = None) -> "DetectionDataset":
        from resdet.detection.data.dataset import DetectionDataset
        from resdet.detection.data.sources import open_scenes

        return DetectionDataset(open_scenes(self, split), transform)

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that `open` takes."""
        return "train", "val"

    def open(self, split: str) -> "Annotations":
        """Opens a split, `train` or `val`."""
        raise NotImplementedError

    def coco_content(self, split: str) -> tuple[dict[str, Any], Path] | None:
        """Returns a split's COCO file, including invalid entries, and its image folder; None for other formats."""
        return None

    def places(self, split: str) -> dict[str, str]:
        """Locates annotations in the files of their format, by their numbers in the index; empty if unknown."""
        return {}

    def open_test(self) -> "Annotations":
        """Opens the images of `val` or `val_sets` without objects, with the test server's `image_id`s."""
        raise ConfigError(f"data.name is {self.name}: submissions need coco, voc, ilsvrc_det or ilsvrc_vid.")


@dataclass
class CocoConfig(ScenesConfig):
    """COCO's format, also for LVIS: a JSON file and an image folder per split."""

    root: str = "datasets/coco"
    train: SplitConfig = field(default_factory=lambda: SplitConfig("train2017", "annotations/instances_train2017.json"))
    val: SplitConfig = field(default_factory=lambda: SplitConfig("val2017", "annotations/instances_val2017.json"))
    keypoints: bool = True  # read the keypoints of the files, for detectors with model.keypoint

    def open(self, split: str) -> "Annotations":
        from resdet.detection.data.coco import open_coco

        return open_coco(*_paths(self.root, getattr(self, split)), self.on_bad_annotation, keypoints=self.keypoints)

    def coco_content(self, split: str) -> tuple[dict[str, Any], Path]:
        return _content(self.root, getattr(self, split))

    def open_test(self) -> "Annotations":
        from resdet.detection.data.test_sets import coco_test

        return coco_test(Path(self.root) / self.val.images, Path(self.root) / self.val.annotations)


@dataclass
class AutoConfig(ScenesConfig):
    """A folder in any format of docs/data.md, recognized by content; or COCO files by the paths in `train` and `val`.

    Without a validation split, one is made from the training images and kept in `root`/.resdet/split.json.
    """

    root: str = "datasets/custom"
    format: str | None = None  # name of the format, see docs/data.md; null: recognize it
    val_share: float = 0.2  # share of the images for validation, if the data has no validation split
    seed: int = 0  # seed of that split
    keypoints: bool = True  # read the keypoints of the files, for detectors with model.keypoint
    train: SplitConfig = field(default_factory=SplitConfig)
    val: SplitConfig = field(default_factory=SplitConfig)

    def __post_init__(self):
        super().__post_init__()
        require(0 < self.val_share < 1, "data.val_share", self.val_share, "it is a share, between 0 and 1")

    def open(self, split: str) -> "Annotations":
        from resdet.detection.data.coco import open_coco
        from resdet.detection.formats.auto import open_auto

        if not self.named:
            return open_auto(self, split)
        missing = next((key for key in ("train", "val") if not getattr(self, key).annotations), None)
        if missing:
            raise ConfigError(f"data.{missing}.annotations is empty: give the COCO files of both splits, or of none.")
        return open_coco(*_paths(self.root, getattr(self, split)), self.on_bad_annotation, keypoints=self.keypoints)

    @property
    def splits(self) -> tuple[str, ...]:
        from resdet.detection.formats.registry import recognize

        has_test = not self.named and "test" in recognize(self.root, self.format).splits
        return (*super().splits, "test") if has_test else super().splits

    @property
    def named(self) -> bool:
        """Whether `train` and `val` name COCO files."""
        return bool(self.train.annotations or self.val.annotations)

    def coco_content(self, split: str) -> tuple[dict[str, Any], Path] | None:
        from resdet.detection.formats.auto import coco_content

        return _content(self.root, getattr(self, split)) if self.named else coco_content(self, split)

    def places(self, split: str) -> dict[str, str]:
        from resdet.detection.formats.auto import places

        return places(self, split)


@dataclass
class VocConfig(ScenesConfig):
    """PASCAL VOC's format: sets of a VOCdevkit, or other data by the paths in `train` and `val`."""

    root: str = "datasets/VOCdevkit"
    # training sets of the VOCdevkit, YEAR_SET
    train_sets: list[str] = field(default_factory=lambda: ["2007_trainval", "2012_trainval"])
    val_sets: list[str] = field(default_factory=lambda: ["2007_test"])  # validation sets of the VOCdevkit, YEAR_SET
    train: SplitConfig = field(default_factory=SplitConfig)
    val: SplitConfig = field(default_factory=SplitConfig)

    def open(self, split: str) -> "Annotations":
        """Opens the paths in `train` or `val`, or sets of a VOCdevkit; `val` uses the classes of `train`."""
        from resdet.detection.data.voc import open_sets, open_voc

        root, on_bad, files = Path(self.root), self.on_bad_annotation, getattr(self, split)
        if not files.annotations:
            return open_sets(root, getattr(self, f"{split}_sets"), f"data.{split}_sets", on_bad)
        classes = None if split == "train" else self.open("train").classes
        image_set = root / files.image_set if files.image_set else None
        return open_voc(root / files.annotations, root / files.images, image_set, classes, on_bad)

    def open_test(self) -> "Annotations":
        from resdet.detection.data.test_sets import voc_test

        return voc_test(Path(self.root), self.val_sets)


def _paths(root: str, files: SplitConfig) -> tuple[Path, Path]:
    from resdet.files.remote import local

    return local(root) / files.annotations, local(root) / files.images


def _content(root: str, files: SplitConfig) -> tuple[dict[str, Any], Path]:
    file, folder = _paths(root, files)
    return read_json(file), folder


@dataclass
class IlsvrcDetConfig(ScenesConfig):
    """ILSVRC's detection task in its official layout (datasets/README.md)."""

    root: str = "datasets/ILSVRC"
    train: str = "train+val1"  # training sets, joined by +
    val: str = "val2"  # validation set

    def open(self, split: str) -> "Annotations":
        from resdet.detection.data.ilsvrc_det import open_ilsvrc_det

        return open_ilsvrc_det(Path(self.root), getattr(self, split), self.on_bad_annotation)

    def open_test(self) -> "Annotations":
        from resdet.detection.data.test_sets import det_test

        return det_test(Path(self.root), self.val)


@dataclass
class IlsvrcVidConfig(ScenesConfig):
    """ILSVRC's detection from video in its official layout (datasets/README.md); frames are separate images."""

    root: str = "datasets/ILSVRC"
    val: str = "val"  # validation set: val, or test for a submission
    frames_per_video: int = 15  # number of evenly spaced frames of each training video
    det_images: int = 2000  # largest number of training images of ILSVRC DET for each of the 30 classes; 0: none
    val_frame_stride: int = 1  # validate on every n-th frame

    def __post_init__(self):
        super().__post_init__()
        at_least(1, self, "data", "frames_per_video", "val_frame_stride")
        at_least(0, self, "data", "det_images")

    def open(self, split: str) -> "Annotations":
        from resdet.detection.data.ilsvrc_vid import open_train, open_val

        if split == "train":
            return open_train(self.root, self.frames_per_video, self.det_images, self.on_bad_annotation)
        if self.val != "val":
            raise ConfigError(f"data.val is {self.val}, which has no annotations: set it to val.", "data.val")
        return open_val(self.root, self.val_frame_stride, self.on_bad_annotation)

    def open_test(self) -> "Annotations":
        from resdet.detection.data.test_sets import vid_test

        return vid_test(Path(self.root), self.val)


@dataclass
class ShapeVidConfig(IlsvrcVidConfig):
    """Generated videos of moving shapes, written to `root` in the layout of ILSVRC VID and DET on first use."""

    root: str = "datasets/shape_vid"
    train_videos: int = 100  # number of training videos
    val_videos: int = 20  # number of validation videos
    frames: int = 30  # frames of a video
    train_images: int = 200  # number of training images in the layout of DET
    side: int = 160  # side of the frames in pixels
    seed: int = 0  # seed of the generated videos

    def open(self, split: str) -> "Annotations":
        self.ensure()
        return super().open(split)

    def open_test(self) -> "Annotations":
        self.ensure()
        return super().open_test()

    def ensure(self) -> None:
        from resdet.detection.data import shape_vid

        counts = self.train_videos, self.val_videos, self.frames, self.train_images
        shape_vid.ensure(Path(self.root), *counts, self.side, self.seed)


@dataclass
class ShapeScenesConfig(ScenesConfig):
    """Generated scenes of geometric shapes, written to `root` as images and COCO files on first use."""

    root: str = "datasets/shape_scenes"
    train_images: int = 2000  # number of training images
    val_images: int = 200  # number of validation images
    size: int = 160  # longer side of the images in pixels
    seed: int = 0  # seed of the generated images

    def open(self, split: str) -> "Annotations":
        from resdet.detection.data import shape_scenes
        from resdet.detection.data.coco import open_coco

        root = Path(self.root)
        shape_scenes.ensure(root, self.train_images, self.val_images, self.size, self.seed)
        return open_coco(root / "annotations" / f"{split}.json", root / split, self.on_bad_annotation)
