"""Opens the folder of `data.name=auto` and reports how it was recognized."""

from pathlib import Path
from typing import TYPE_CHECKING

from resdet.detection.data.annotations import Annotations
from resdet.detection.formats.collector import Collector
from resdet.detection.formats.data_set import DataSet
from resdet.detection.formats.registry import formats, recognize
from resdet.detection.formats.share_classes import Content
from resdet.errors import number_of

if TYPE_CHECKING:
    from resdet.detection.data.config import AutoConfig


def open_auto(config: "AutoConfig", split: str) -> Annotations:
    """Opens a split of `config.root`; the notes of `train` report what was recognized."""
    layout = recognize(config.root, config.format)
    data = DataSet(layout, config.on_bad_annotation, config.keypoints, config.val_share, config.seed)
    source = data.open(split)
    if split == "train":
        source.notes = notes(data)
    return source


def coco_content(config: "AutoConfig", split: str) -> tuple[Content, Path] | None:
    """See `DataSet.as_written`."""
    layout = recognize(config.root, config.format)
    return DataSet(layout, "skip", config.keypoints, config.val_share, config.seed).as_written(split)


def places(config: "AutoConfig", split: str) -> dict[str, str]:
    """See `ScenesConfig.places`; COCO's annotations have ids instead."""
    layout = recognize(config.root, config.format)
    collector = Collector(layout.folder, keypoints=config.keypoints)
    formats[layout.format]().read(layout, split if split in layout.splits else "train", collector)
    return collector.problems.places["annotation"]


def notes(data: DataSet) -> list[str]:
    """Returns sentences on the format, on other formats that fit, and on the validation split."""
    layout, made = data.layout, data.val_split
    sentences = [str(layout)]
    for other in layout.rivals:
        sentences.append(
            f"{layout.root} is also in the format {other.format} ({number_of(other.annotated, 'annotated image')}, "
            f"{layout.annotated} in {layout.format}): set data.format={other.format} to use that"
        )
    if made:
        val, train = len(data.open("val")), len(data.open("train"))
        sentences.append(
            f"{layout.root} has no validation split: {val} of its {val + train} images are for "
            f"validation, by {made.file}"
        )
        if (made.share, made.seed) != (data.val_share, data.seed):
            sentences.append(
                f"{made.file} was made with the share {made.share:g} and the seed {made.seed}, not with "
                f"data.val_share={data.val_share:g} data.seed={data.seed}: `resdet data split` makes another"
            )
    return sentences
