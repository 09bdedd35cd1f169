"""Published weights by name, downloaded once from their publisher, verified and cached.

`torchvision/maskrcnn_resnet50_fpn_v2`, `torchvision/resnet50` or `torchvision/resnet50.IMAGENET1K_V2`, and
`detectron2/COCO-Detection/faster_rcnn_R_50_FPN_3x`.
"""

from collections.abc import Collection
from pathlib import Path
from urllib.parse import urlparse

from resdet.errors import WeightsError, hint
from resdet.files.download import cache_dir, fetch
from resdet.optional import torchvision

TORCHVISION = (
    *(f"resnet{depth}" for depth in (18, 34, 50, 101, 152)),
    *("vgg16", "vgg16_bn", "vgg19", "vgg19_bn"),
    *(f"{kind}rcnn_resnet50_fpn{version}" for kind in ("faster", "mask") for version in ("", "_v2")),
    "keypointrcnn_resnet50_fpn",
)
DETECTRON2_URL = "https://dl.fbaipublicfiles.com/detectron2"
DETECTRON2 = {  # config -> run id, first digits of the MD5 of the file
    "COCO-Detection/faster_rcnn_R_50_C4_1x": ("137257644", "721ade"),
    "COCO-Detection/faster_rcnn_R_50_DC5_1x": ("137847829", "51d356"),
    "COCO-Detection/faster_rcnn_R_50_FPN_1x": ("137257794", "b275ba"),
    "COCO-Detection/faster_rcnn_R_50_C4_3x": ("137849393", "f97cb7"),
    "COCO-Detection/faster_rcnn_R_50_DC5_3x": ("137849425", "68d202"),
    "COCO-Detection/faster_rcnn_R_50_FPN_3x": ("137849458", "280758"),
    "COCO-Detection/faster_rcnn_R_101_C4_3x": ("138204752", "298dad"),
    "COCO-Detection/faster_rcnn_R_101_DC5_3x": ("138204841", "3e0943"),
    "COCO-Detection/faster_rcnn_R_101_FPN_3x": ("137851257", "f6e8b1"),
    "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x": ("137259246", "9243eb"),
    "COCO-InstanceSegmentation/mask_rcnn_R_50_DC5_1x": ("137260150", "4f86c3"),
    "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x": ("137260431", "a54504"),
    "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_3x": ("137849525", "4ce675"),
    "COCO-InstanceSegmentation/mask_rcnn_R_50_DC5_3x": ("137849551", "84107b"),
    "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x": ("137849600", "f10217"),
    "COCO-InstanceSegmentation/mask_rcnn_R_101_C4_3x": ("138363239", "a2914c"),
    "COCO-InstanceSegmentation/mask_rcnn_R_101_DC5_3x": ("138363294", "0464b7"),
    "COCO-InstanceSegmentation/mask_rcnn_R_101_FPN_3x": ("138205316", "a3ec72"),
    "COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x": ("137261548", "04e291"),
    "COCO-Keypoints/keypoint_rcnn_R_50_FPN_3x": ("137849621", "a6e10b"),
    "COCO-Keypoints/keypoint_rcnn_R_101_FPN_3x": ("138363331", "997cc7"),
    "PascalVOC-Detection/faster_rcnn_R_50_C4": ("142202221", "b1acc2"),
    "Misc/cascade_mask_rcnn_R_50_FPN_1x": ("138602847", "e9d89b"),
    "Misc/cascade_mask_rcnn_R_50_FPN_3x": ("144998488", "480dd8"),
    "Misc/mask_rcnn_R_50_FPN_3x_gn": ("138602888", "dc5d9e"),
}


def is_known(source: str | Path) -> bool:
    """Whether `source` is a file or may be a published name."""
    return Path(source).exists() or str(source).partition("/")[0] in PUBLISHERS


def locate(source: str | Path) -> Path:
    """The path of `source`: a file, or a published name, which is downloaded."""
    path, name = Path(source), str(source)
    library, _, model = name.partition("/")
    if path.exists() or library not in PUBLISHERS:
        return path
    return PUBLISHERS[library](model.removesuffix(".yaml"))


def fetch_torchvision(model: str) -> Path:
    """Downloads the weights `NAME.VERSION`; without a version, the first that torchvision published for the net.

    Keypoint R-CNN's COCO_LEGACY, of an early epoch, is left out of these.
    """
    name, _, version = model.partition(".")
    check_name("torchvision", name, TORCHVISION)
    published = torchvision().models.get_model_weights(name).__members__
    version = version or next(name for name in published if not name.endswith("LEGACY"))
    check_name(f"torchvision/{name}", version, published)
    url = published[version].url
    file = urlparse(url).path.rpartition("/")[2]  # its stem ends with the first digits of its SHA-256
    return fetch(url, cache_dir() / "weights" / file, sha256=file.rpartition("-")[2].partition(".")[0])


def fetch_detectron2(config: str) -> Path:
    """Downloads a model of detectron2's zoo, by the name of its config."""
    check_name("detectron2", config, DETECTRON2)
    run, digest = DETECTRON2[config]
    file = f"model_final_{digest}.pkl"
    place = cache_dir() / "weights/detectron2" / config.replace("/", "_") / file
    return fetch(f"{DETECTRON2_URL}/{config}/{run}/{file}", place, md5=digest)


def check_name(owner: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        remedy = hint(name, known, f"choose from {', '.join(known)}.")
        raise WeightsError(f"{owner} has no supported weights {name!r}: {remedy}")


PUBLISHERS = {"torchvision": fetch_torchvision, "detectron2": fetch_detectron2}
