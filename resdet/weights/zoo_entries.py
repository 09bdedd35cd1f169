"""Facts about each published model: task, data, metric, size, license, URL and checksum.

torchvision's facts come from its own metadata, detectron2's from `detectron2_zoo`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from resdet.weights import detectron2_zoo, zoo

METRICS = {  # torchvision's names of metrics -> ours
    "acc@1": "top-1",
    "acc@5": "top-5",
    "box_map": "box AP",
    "mask_map": "mask AP",
    "kp_map": "keypoint AP",
}
DATA = {"ImageNet-1K": "ImageNet-1K val", "COCO-val2017": detectron2_zoo.COCO}
TORCHVISION_LICENSE = "BSD-3-Clause; terms of the training data may apply"


@dataclass(frozen=True)
class Entry:
    """A name that `resdet.load` accepts."""

    name: str
    task: str  # classification or detection
    data: str  # data set of the metrics
    published: Mapping[str, float]  # metrics in percent, as published
    measured: Mapping[str, float] | None  # by resdet; None: not measured here
    size: float | None  # of the file, in MiB; None: not published
    license: str
    file: str
    url: str
    checksum: str  # algorithm and first digits, in the name of the file


def entries(text: str = "", task: str | None = None) -> list[Entry]:
    """Returns all entries, or those of a task, whose name contains each word of the text."""
    known = [*torchvision_entries(), *detectron2_entries()]
    words = text.lower().split()
    return [
        entry for entry in known if task in (None, entry.task) and all(word in entry.name.lower() for word in words)
    ]


def torchvision_entries() -> Iterator[Entry]:
    for name in zoo.TORCHVISION:
        versions = zoo.torchvision_versions(name)
        default = next(iter(versions))
        for version, member in versions.items():
            if version == member.name:  # DEFAULT is another name of one of them
                yield torchvision_entry(f"torchvision/{name}{'' if version == default else '.' + version}", member)


def torchvision_entry(name: str, member: Any) -> Entry:
    ((data, metrics),) = member.meta["_metrics"].items()
    file = zoo.file_name(member.url)
    return Entry(
        name,
        "classification" if data == "ImageNet-1K" else "detection",
        DATA[data],
        {METRICS[metric]: value for metric, value in metrics.items()},
        None,
        member.meta["_file_size"],
        TORCHVISION_LICENSE,
        file,
        member.url,
        f"SHA-256 {zoo.digest_in(file)}",
    )


def detectron2_entries() -> Iterator[Entry]:
    for config, model in detectron2_zoo.MODELS.items():
        data = detectron2_zoo.VOC if config.startswith("PascalVOC") else detectron2_zoo.COCO
        url, checksum = zoo.detectron2_address(config), f"MD5 {model.md5}"
        yield Entry(
            f"detectron2/{config}",
            "detection",
            data,
            model.metrics,
            None,
            None,
            detectron2_zoo.LICENSE,
            model.file,
            url,
            checksum,
        )
