"""Small detectors of each family, for images of 64 to 128 pixels."""

import torch

from resdet.backbones.config import ResNetConfig, VGGConfig
from resdet.config.experiment import to_dict
from resdet.detection.build import build_detector
from resdet.detection.config import DetectionExperiment, DetectorConfig, FPNConfig, InputConfig
from resdet.detection.heads.config import AnchorConfig, BoxConfig, MaskConfig, MNCConfig, RPNConfig
from resdet.detection.model import Detector
from resdet.necks import fpn
from resdet.structures import Images, Targets

CLASSES = ["disc", "square", "bar"]
FAMILIES = ["fpn", "c4", "dc5", "cascade"]
FEATURES = {"cascade": "fpn", "mnc": "c4"}  # features of the families that are not named after them


def make(family: str, masks: bool = True, *overrides: str, everything: bool = False) -> Detector:
    """Builds a narrow ResNet-18 or VGG-16 detector; `everything` samples all anchors and regions."""
    levels = [[2 * stride] for stride in (4, 8, 16, 32, 64) if stride >= fpn.FINEST_STRIDE]
    sizes = levels if family in ("fpn", "cascade") else [[16, 32, 64]]
    box = {
        "width": 32,
        "batch_per_image": 72 if everything else 24,
        "positive_fraction": 0.5 if everything else 0.25,
        "resolution": 4,
    }
    if family == "cascade":
        box |= {"ious": [0.5, 0.6, 0.7], "class_agnostic": True}
    if family == "mnc" and everything:
        box |= {
            "batch_per_image": 36,
            "positive_fraction": 1.0,
        }  # each goes through conv5_x four times: sample no more than exist
    if family == "vgg":
        box |= {"resolution": 7}
    anchors = AnchorConfig(sizes=sizes)
    model = DetectorConfig(
        backbone=VGGConfig("vgg16") if family == "vgg" else ResNetConfig("resnet18", norm="frozen"),
        num_classes=len(CLASSES),
        features=FEATURES.get(family, family),
        neck=FPNConfig(width=16),
        rpn=RPNConfig(anchors, batch_per_image=5000 if everything else 64, pre_nms=(100, 100), post_nms=(30, 30)),
        box=BoxConfig(**box),
        mask=MaskConfig(width=8, convs=1) if masks and family != "mnc" else None,
        mnc=MNCConfig(width=8) if family == "mnc" else None,
        input=InputConfig(min_size=64, max_size=128),
    )
    experiment = DetectionExperiment(model=model)
    if overrides:
        from resdet import config  # needs pydantic

        content = {"task": "detection", "model": to_dict(experiment)["model"]}
        experiment = config.from_dict(content, "this test", overrides)
    torch.manual_seed(0)
    return build_detector(experiment, CLASSES, range(1, len(CLASSES) + 1))


def images(*sizes: tuple[int, int], side: int = 64) -> Images:
    """Makes noise in squares of `side`, padded beyond `sizes`."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (len(sizes), 3, side, side), generator=generator, dtype=torch.uint8)
    return Images(pixels, torch.tensor(sizes, dtype=torch.float32))


def targets(*boxes: list[list[float]], crowd: bool = False, places: int = 4, masks: bool = True) -> Targets:
    """Makes the objects of each image, with full masks and consecutive classes."""
    shape = (len(boxes), places)
    found = Targets(
        torch.zeros(*shape, 4),
        torch.arange(places).expand(shape) % len(CLASSES),
        torch.arange(places) < torch.tensor([len(of_image) for of_image in boxes])[:, None],
        torch.full(shape, crowd),
        torch.full((*shape, 28, 28), 255, dtype=torch.uint8) if masks else None,
    )
    for i, of_image in enumerate(boxes):
        found.boxes[i, : len(of_image)] = torch.tensor(of_image).view(-1, 4)
    return found
