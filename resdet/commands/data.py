"""`resdet data`: fetches public data sets, and writes generated ones."""

from collections.abc import Sequence
from pathlib import Path

from resdet.data import cifar
from resdet.data.shapes import ShapeImages
from resdet.errors import DataError


def get(name: str, root: str | None) -> Path:
    """Downloads a data set from its official address into datasets/; returns its folder."""
    folder = cifar.get(Path(root or f"datasets/{name}"))
    print(f"{name} lies in {folder}")
    return folder


def make_shapes(root: str, train_images: int, val_images: int, size: int, seed: int) -> None:
    """Writes generated images as a folder per class, the layout of `data.name=folder`."""
    import cv2

    folder = Path(root)
    if folder.exists() and any(folder.iterdir()):
        raise DataError(f"{folder} is not empty: name a new folder.")
    for split, count in (("train", train_images), ("val", val_images)):
        source = ShapeImages(count, size, seed, split)
        for index in range(count):
            path = folder / split / source.classes[source.labels[index]] / f"{index:06d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), cv2.cvtColor(source.image(index).pixels, cv2.COLOR_RGB2BGR))
    print(f"{train_images} + {val_images} images in {folder}; train on them with data.name=folder data.root={folder}")


def make_shape_scenes(
    root: str, train_images: int, val_images: int, size: int, seed: int, classes: Sequence[str] | None = None
) -> None:
    """Writes generated scenes with boxes and masks: a folder of pictures and a COCO file for each split."""
    from resdet.data import shape_scenes

    shape_scenes.write(Path(root), train_images, val_images, size, seed, classes)
    splits = [
        f"data.{split}.images={split} data.{split}.annotations=annotations/{split}.json" for split in ("train", "val")
    ]
    print(f"{train_images} + {val_images} scenes in {root}; train on them with data.root={root} {' '.join(splits)}")


def make_shape_loc(root: str, train_images: int, val_images: int, size: int, seed: int) -> None:
    """Writes generated images with the boxes of their class, in the layout of ILSVRC CLS-LOC."""
    from resdet.data import shape_loc

    shape_loc.write(Path(root), train_images, val_images, size, seed)
    print(f"{train_images} + {val_images} images in {root}; train on them with data.name=ilsvrc_loc data.root={root}")
