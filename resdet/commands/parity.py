"""`resdet parity`: compares the outputs of resdet with those of other libraries for the same weights.

Weights are random, scaled to the statistics of trained ones; nets have full depth, images are small. Each model is
written by `convert`, loaded in the other library by the code that `convert` prints, and read back. Both sides compute
in float64, so that rounding does not decide which of two boxes NMS keeps. A random net amplifies small differences, so
detectors must get bit-identical pixels: the image is resized by a factor of two, which is exact in float32.
"""

import contextlib
import io
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from resdet import config as configs
from resdet import hub
from resdet.backbones.layers import ConvNorm
from resdet.bench.detection import sample_image, spread_first_output, take_statistics, tensor_of
from resdet.classification.model import Classifier
from resdet.commands.convert import convert
from resdet.commands.parity_detections import PREDICT, differences
from resdet.detection.model import Detector
from resdet.errors import ConfigError
from resdet.files.atomic import write_json
from resdet.weights import save_weights
from resdet.weights.layouts import torchvision_detectors

SHORT, LONG, CLASSES = 160, 256, 20
MEAN, STD = (102.0, 114.75, 127.5), (51.0, 63.75, 76.5)  # 255 times 0.4, 0.45, …: exact in every library
CLASSIFIERS: dict[str, tuple[str, str | None]] = {  # case -> backbone and norm
    **{f"resnet{depth}": (f"resnet{depth}", "bn") for depth in (18, 34, 50, 101, 152)},
    "vgg16": ("vgg16", None),
    "vgg16_bn": ("vgg16", "bn"),
}
DETECTORS = [f"{kind}rcnn_resnet50_fpn{version}" for kind in ("faster", "mask") for version in ("", "_v2")]
ZOO = [f"COCO-Detection/faster_rcnn_R_50_{form}_1x" for form in ("C4", "DC5", "FPN")]
ZOO += [f"COCO-InstanceSegmentation/mask_rcnn_R_50_{form}_1x" for form in ("C4", "DC5", "FPN")]
ZOO += [
    "COCO-Detection/faster_rcnn_R_101_FPN_3x",
    "Misc/cascade_mask_rcnn_R_50_FPN_1x",
    "Misc/mask_rcnn_R_50_FPN_3x_gn",
]
SPREAD = {  # last layers -> target standard deviation of their outputs
    "rpn.objectness": 2.0,
    "rpn.deltas": 0.3,
    "scores": 1.5,
    "boxes": 1.0,
    "roi_heads.mask_head.masks": 3.0,
}


class Case(NamedTuple):
    """A model in a format."""

    format: str
    model: str
    run: Callable[[], dict[str, float]]  # {compared quantity: largest difference}


def parity(formats: Sequence[str] = (), json_path: str | None = None) -> list[dict[str, Any]]:
    """Prints a markdown table row by row; returns the rows."""
    rows = []
    cases = select_cases(formats)
    print("| format | model | compared | largest difference |\n|---|---|---|---|", flush=True)
    for case in cases:
        with torch.no_grad():
            result = case.run()
        for compared, difference in result.items():
            rows.append({"format": case.format, "model": case.model, "compared": compared, "difference": difference})
            print(f"| {case.format} | {case.model} | {compared} | {difference:.1g} |", flush=True)
    write_json(json_path, rows)
    return rows


def select_cases(formats: Sequence[str]) -> list[Case]:
    """Returns the cases of `formats`; if empty, of all formats with an installed library."""
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise ConfigError(f"There is no format {unknown[0]!r}: use one of {', '.join(FORMATS)}.")
    missing = [name for name in formats or FORMATS if not find_spec(name)]
    if formats and missing:
        raise ConfigError(f"{missing[0]} is not installed: docs/weights.md describes how to install it.")
    if missing:
        print(f"Skipped, not installed: {', '.join(missing)}.\n")
    return [case for name in formats or FORMATS if name not in missing for case in FORMATS[name]()]


def classifier_cases(library: str) -> list[Case]:
    return [Case(library, name, partial(compare_classifier, library, *net)) for name, net in CLASSIFIERS.items()]


def detector_cases(library: str, names: Sequence[str], section: Callable[[str], dict]) -> list[Case]:
    return [Case(library, name, partial(compare_detector, library, partial(section, name))) for name in names]


FORMATS = {
    "torchvision": lambda: [
        *classifier_cases("torchvision"),
        *detector_cases("torchvision", DETECTORS, torchvision_section),
    ],
    "timm": lambda: classifier_cases("timm"),
    "detectron2": lambda: detector_cases("detectron2", ZOO, detectron2_section),
}


# Models with random weights


def torchvision_section(name: str) -> dict:
    """Returns the `model` section for a torchvision detector."""
    from torchvision.models import detection

    with torch.device("meta"):
        detector = getattr(detection, name)(weights=None, weights_backbone=None, num_classes=CLASSES + 1)
    return torchvision_detectors.settings(detector.state_dict(), name)


def detectron2_section(name: str) -> dict:
    """Returns the `model` section for a model of detectron2's zoo."""
    from detectron2.model_zoo import get_config_file

    from resdet.interop.detectron2_config import translate

    return translate(get_config_file(f"{name}.yaml")).settings["model"]


def build(task: str, data: str, section: dict) -> nn.Module:
    torch.manual_seed(0)
    experiment = configs.from_dict({"task": task, "data": data, "model": section | {"num_classes": CLASSES}})
    return hub.build_for(experiment, [str(n) for n in range(CLASSES)]).eval()


def calibrate(model: nn.Module, run: Callable[[], Any]) -> None:
    """Sets the statistics of norms and the scale of last layers to those of a trained net, during one `run()`."""
    units = [unit for unit in model.modules() if isinstance(unit, ConvNorm) and hasattr(unit.norm, "running_var")]
    hooks = [unit.register_forward_pre_hook(take_unit_statistics) for unit in units]
    for name, layer in model.named_modules():
        if deviation := SPREAD.get(name) or SPREAD.get(name.rpartition(".predictor.")[2]):
            spread_first_output(layer, deviation)
    run()
    for hook in hooks:
        hook.remove()


def take_unit_statistics(unit: ConvNorm, inputs: tuple[Tensor]) -> None:
    take_statistics(unit.norm, (unit.conv(*inputs),))


def round_trip(model: nn.Module, layout: str) -> tuple[nn.Module, nn.Module]:
    """Returns the converted model as loaded by the other library, and as read back by resdet."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()) as output:
        source = Path(folder, "model.safetensors")
        save_weights.save(model, source, "safetensors")
        written = convert(str(source), layout)
        names: dict[str, Any] = {}
        exec(output.getvalue().partition("\n\n")[2], names)
        return names["model"].eval(), hub.load(written)


def largest_difference(a: nn.Module, b: nn.Module) -> float:
    pairs = zip(a.state_dict().items(), b.state_dict().values())
    return max((x.double() - y.double()).abs().max().item() for (n, x), y in pairs if "num_batches" not in n)


# Comparisons


def compare_classifier(layout: str, name: str, norm: str | None) -> dict[str, float]:
    model = cast(Classifier, build("classification", "imagenet", {"backbone": {"name": name, "norm": norm}}))
    pixels = tensor_of(sample_image(224, 224))[None] * 255
    calibrate(model, lambda: model(pixels))
    peer, restored = round_trip(model, layout)
    logits = model.double()(pixels)
    expected = peer.double()(model.normalize(pixels))
    return {
        "logits, relative to the largest": ((logits - expected).abs().max() / expected.abs().max()).item(),
        "tensors after a round trip": largest_difference(model.float(), restored),
    }


def compare_detector(layout: str, section: Callable[[], dict]) -> dict[str, float]:
    settings = section()
    settings["input"] = settings.get("input", {}) | {"min_size": SHORT, "max_size": LONG}
    model, image = cast(Detector, build("detection", "coco", settings)), sample_image(SHORT // 2, 125)
    model.normalize.set(torch.tensor(MEAN), torch.tensor(STD))
    calibrate(model, lambda: model.predict([image]))
    peer, restored = round_trip(model, layout)
    expected = PREDICT[layout](peer.double(), image, SHORT, LONG)
    result = model.double().predict([image])[0]
    return differences(result, *expected) | {"tensors after a round trip": largest_difference(model.float(), restored)}
