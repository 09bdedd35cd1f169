"""`resdet data`: downloads public data sets and writes generated ones."""

from collections.abc import Sequence
from pathlib import Path

from resdet.classification.data import cifar
from resdet.data import output_folder
from resdet.data.shapes import ShapeImages

FRAMES = 30  # per generated video


def get(name: str, root: str | None) -> Path:
    """Downloads a data set from its official address into `root`, by default datasets/NAME; returns the folder."""
    folder = cifar.get(Path(root or f"datasets/{name}"))
    print(f"{name} is in {folder}")
    return folder


def make_shapes(root: str, train_images: int, val_images: int, size: int, seed: int) -> None:
    """Writes generated images as one folder per class, the layout of `data.name=folder`."""
    folder = Path(root)
    output_folder.refuse_filled(folder)
    sources = {
        "train": ShapeImages(train_images, size, seed, "train"),
        "val": ShapeImages(val_images, size, seed, "val"),
    }
    output_folder.create(folder, lambda temporary: write_classes(temporary, sources))
    print(
        f"{train_images} + {val_images} images in {folder}; train on them with --config folder.yaml data.root={folder}"
    )


def write_classes(root: Path, sources: dict[str, ShapeImages]) -> None:
    """Writes root/SPLIT/CLASS/NUMBER.jpg."""
    for split, source in sources.items():
        for index in range(len(source)):
            output_folder.put(
                root / split / source.classes[source.labels[index]] / f"{index:06d}.jpg", source.image(index).pixels
            )


def make_shape_scenes(
    root: str, train_images: int, val_images: int, size: int, seed: int, classes: Sequence[str] | None = None
) -> None:
    """Writes generated scenes with boxes and masks: a folder of images and a COCO file per split."""
    from resdet.detection.data import shape_scenes

    shape_scenes.write(Path(root), train_images, val_images, size, seed, classes)
    print(f"{train_images} + {val_images} scenes in {root}; train on them with --config custom.yaml data.root={root}")


def make_shape_vid(root: str, train_images: int, val_images: int, size: int, seed: int) -> None:
    """Writes generated videos of moving shapes, and one image per training video, in the layout of ILSVRC VID and DET.

    A video has 30 frames; numbers of images are rounded to whole videos.
    """
    from resdet.detection.data import shape_vid

    train, val = (max(1, round(images / FRAMES)) for images in (train_images, val_images))
    shape_vid.write(Path(root), train, val, FRAMES, train, size, seed)
    counts = f"{train} + {val} videos of {FRAMES} frames, and {train} images of DET,"
    print(f"{counts} in {root}; train on them with data.name=ilsvrc_vid data.root={root}")


def make_shape_loc(root: str, train_images: int, val_images: int, size: int, seed: int) -> None:
    """Writes generated images with boxes of their class, in the layout of ILSVRC CLS-LOC."""
    from resdet.localization.data import shape_loc

    shape_loc.write(Path(root), train_images, val_images, size, seed)
    print(f"{train_images} + {val_images} images in {root}; train on them with data.name=ilsvrc_loc data.root={root}")
