"""The registry of annotation formats, and the format of a folder."""

from dataclasses import replace
from pathlib import Path

from resdet.detection.formats.folder import Folder
from resdet.detection.formats.layout import Format, Layout, Unfit
from resdet.errors import DataError, number_of
from resdet.files.remote import ORIGIN, local
from resdet.registry import Registry

PACKAGE = "resdet.detection.formats"
SPLITS = ("train", "val", "test")
NEAREST = 3  # formats whose reasons an error states

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
    """The layout of a folder in the format `name`, or in the one that fits; of several, with most annotated images.

    `root` is a folder, or the address of a folder of shards."""
    if name is not None:
        formats.check(name)
    folder = Folder(local(root))
    outcomes = {key: formats[key]().recognize(folder) for key in ([name] if name else formats)}
    layouts = [layout for layout in outcomes.values() if isinstance(layout, Layout)]
    if not (folder.images or folder.having(".tar", ORIGIN)):
        layouts = [layout for layout in layouts if layout.lists_images]  # in another folder: a data.yaml of YOLO
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
    """Advice for images in two folders or more, without files of any format: the folders may be classes."""
    parents = {image.rpartition("/")[0] for image in folder.images}
    if len(parents) == 1 or any(each.near for each in unfit.values()):
        return ""
    return ", or train a classifier with --config folder.yaml if folders are classes"
