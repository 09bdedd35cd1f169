"""Published weights by name, downloaded once from their publisher, verified and cached.

Names are `torchvision/maskrcnn_resnet50_fpn_v2`, `torchvision/resnet50` or `torchvision/resnet50.IMAGENET1K_V2`, and
`detectron2/COCO-Detection/faster_rcnn_R_50_FPN_3x`. The environment variable RESDET_ZOO selects a mirror: a folder, or
the address of one, with the publishers' files under their own names.
"""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from resdet.errors import DownloadError, WeightsError, hint
from resdet.files.download import cache_dir, difference, fetch
from resdet.optional import torchvision
from resdet.weights import detectron2_zoo

TORCHVISION = (
    *(f"resnet{depth}" for depth in (18, 34, 50, 101, 152)),
    *("vgg16", "vgg16_bn", "vgg19", "vgg19_bn"),
    *(f"{kind}rcnn_resnet50_fpn{version}" for kind in ("faster", "mask") for version in ("", "_v2")),
    "keypointrcnn_resnet50_fpn",
)


def is_known(source: str | Path) -> bool:
    """Whether `source` is a file or may be a published name."""
    return Path(source).exists() or str(source).partition("/")[0] in PUBLISHERS


def locate(source: str | Path) -> Path:
    """Returns the path of `source`: a file, or a published name, which is downloaded."""
    path, name = Path(source), str(source)
    library, _, model = name.partition("/")
    if path.exists():
        return path
    if library in PUBLISHERS:
        return PUBLISHERS[library](model.removesuffix(".yaml"))
    if full := next((known for known in names() if known.endswith(f"/{name}")), None):
        raise WeightsError(f"{name}: no such file; to use the published model, write {full}.")
    return path


def names() -> list[str]:
    """Returns all names, those of torchvision without versions."""
    return [f"torchvision/{name}" for name in TORCHVISION] + [f"detectron2/{name}" for name in detectron2_zoo.MODELS]


def torchvision_versions(name: str) -> Mapping[str, Any]:
    """Returns the weights of a torchvision net, by version, except those that contain only some layers.

    The default comes first: the first that torchvision published, except for Keypoint R-CNN, whose first weights are
    from an early epoch.
    """
    members = torchvision().models.get_model_weights(name).__members__
    whole = {version: member for version, member in members.items() if not version.endswith("FEATURES")}
    return dict(sorted(whole.items(), key=lambda item: item[0].endswith("LEGACY")))


def fetch_torchvision(model: str) -> Path:
    """Downloads the weights `NAME.VERSION`; without a version, the default."""
    name, _, version = model.partition(".")
    check_name("torchvision", name, TORCHVISION)
    published = torchvision_versions(name)
    version = version or next(iter(published))
    check_name(f"torchvision/{name}", version, published)
    url = published[version].url
    file = file_name(url)
    return fetch_published(url, cache_dir() / "weights" / file, sha256=digest_in(file))


def fetch_detectron2(config: str) -> Path:
    """Downloads a model of detectron2's zoo, by the name of its config."""
    check_name("detectron2", config, detectron2_zoo.MODELS)
    model = detectron2_zoo.MODELS[config]
    place = cache_dir() / "weights/detectron2" / config.replace("/", "_") / model.file
    return fetch_published(detectron2_address(config), place, md5=model.md5)


def detectron2_address(config: str) -> str:
    model = detectron2_zoo.MODELS[config]
    return f"{detectron2_zoo.URL}/{config}/{model.run}/{model.file}"


def file_name(url: str) -> str:
    return urlparse(url).path.rpartition("/")[2]


def digest_in(file: str) -> str:
    """Returns the first digits of the SHA-256 of a torchvision file, which end its name."""
    return file.rpartition("-")[2].partition(".")[0]


def fetch_published(url: str, place: Path, sha256: str | None = None, md5: str | None = None) -> Path:
    """Returns the verified file: at `place`, in the mirror RESDET_ZOO, or downloaded from its publisher to `place`."""
    mirror = os.environ.get("RESDET_ZOO")
    if not mirror or (place.is_file() and not difference(place, sha256, md5)):
        return fetch(url, place, sha256=sha256, md5=md5)
    if "://" in mirror:
        try:
            return fetch(f"{mirror.rstrip('/')}/{place.name}", place, sha256=sha256, md5=md5)
        except DownloadError as error:
            reason = str(error).rpartition(": ")[0]
            raise DownloadError(f"{reason}: put the file of {url} in the mirror RESDET_ZOO, or at {place}.") from error
    path = Path(mirror) / place.name
    problem = difference(path, sha256, md5) if path.is_file() else "no such file"
    if problem:
        raise DownloadError(f"{path}: {problem}; RESDET_ZOO is {mirror}: put the file of {url} there.")
    return path


def check_name(owner: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        remedy = hint(name, known, f"choose from {', '.join(known)}.")
        raise WeightsError(f"{owner} has no supported weights {name!r}: {remedy}")


PUBLISHERS = {"torchvision": fetch_torchvision, "detectron2": fetch_detectron2}
