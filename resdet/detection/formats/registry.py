"""Registry of annotation formats, and recognition of a folder's format."""

from dataclasses import replace
from pathlib import Path

from resdet.detection.formats.folder import Folder
from resdet.detection.formats.layout import Format, Layout, Unfit
from resdet.errors import DataError, number_of
from resdet.files.remote import ORIGIN, local
from resdet.registry import Registry

PACKAGE = "resdet.detection.formats"
SPLITS = ("train", "val", "test")
NEAREST = 3  # formats explained in an error

formats: Registry[type[Format]] = Registry(
    "annotation format",
    "data.format",
    {
        "coco": f"{PACKAGE}.coco:Coco",
        "yolo": f"{PACKAGE}.yolo:Yolo",
        "voc": f"{PACKAGE}.voc:Voc",
        "cvat": f"{PACKAGE}.cvat:Cvat",
        "labelme": f"{PACKAGE}.labelme:LabelMe",
        "openimages": f"{PACKAGE}.openimages:OpenImages",
        "fiftyone": f"{PACKAGE}.fiftyone:FiftyOne",
        "csv": f"{PACKAGE}.csv_boxes:CsvBoxes",
        "mask_png": f"{PACKAGE}.mask_png:MaskPng",
        "webdataset": f"{PACKAGE}.webdataset:WebDataset",
    },
)
register_format = formats.register


def recognize(root: Path | str, name: str | None = None) -> Layout:
    """Returns the layout of a folder in the format `name`, or in the fitting format with the most annotated images.

    `root` is a folder, or the address of a folder with shards."""
    if name is not None:
        formats.check(name)
    folder = Folder(local(root))
    outcomes = {key: formats[key]().recognize(folder) for key in ([name] if name else formats)}
    layouts = [layout for layout in outcomes.values() if isinstance(layout, Layout)]
    if not (folder.images or folder.having(".tar", ORIGIN)):
        layouts = [layout for layout in layouts if layout.lists_images]  # in another folder, as for YOLO's data.yaml
        if not layouts:
            raise DataError(f"{root} has no images: give the folder that contains the images and their annotations.")
    if not layouts:
        raise DataError(_refusal(folder, {key: unfit for key, unfit in outcomes.items() if isinstance(unfit, Unfit)}))
    chosen = max(layouts, key=lambda layout: layout.annotated)
    splits = {split: chosen.splits[split] for split in SPLITS if split in chosen.splits}
    return replace(chosen, splits=splits, rivals=tuple(other for other in layouts if other is not chosen))


def _refusal(folder: Folder, unfit: dict[str, Unfit]) -> str:
    nearest = sorted(unfit, key=lambda key: -unfit[key].near)[:NEAREST]
    reasons = "; ".join(f"{key}: {unfit[key].reason}" for key in nearest)
    return (
        f"{folder.root} has {number_of(len(folder.images), 'image')} and no annotations in a known format ({reasons}): "
        f"see docs/data.md for the formats{_classes_hint(folder, unfit)}."
    )


def _classes_hint(folder: Folder, unfit: dict[str, Unfit]) -> str:
    """Returns advice for images in two or more folders without annotations: the folders may be classes."""
    parents = {image.rpartition("/")[0] for image in folder.images}
    if len(parents) == 1 or any(each.near for each in unfit.values()):
        return ""
    return ", or train a classifier with --config folder.yaml if folders are classes"
