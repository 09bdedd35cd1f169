"""Puts weights of any known layout into a model; what does not fit is listed by name and shape."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Mapping, Optional, Sequence

import torch
from torch import Tensor, nn

from resdet.errors import WeightsError
from resdet.images.statistics import IMAGENET_MEAN, IMAGENET_STD
from resdet.peers import torchvision
from resdet.weights import keras, layouts, torchvision_detectors
from resdet.weights.reading import Checkpoint, read

BOTTLENECK_BLOCKS = {(3, 4, 6, 3): "resnet50", (3, 4, 23, 3): "resnet101", (3, 8, 36, 3): "resnet152"}
DETECTORS = ("resdet detector", "torchvision detector")
CLASSIFIERS = ("fc", "fc6", "fc7")  # the linear layers of our nets
BASIC_BLOCKS = {(2, 2, 2, 2): "resnet18", (3, 4, 6, 3): "resnet34"}


@dataclass
class Recognised:
    """What a file is: its layout, and the net it was made for, where that can be told from the shapes."""

    layout: str  # resdet · torchvision (timm's ResNets are the same) · keras
    backbone: Optional[dict] = None
    num_classes: int = 0
    classes: list[str] = field(default_factory=list)


@dataclass
class Report:
    """What `load` did."""

    origin: str
    layout: str
    loaded: int
    missing: list[str] = field(default_factory=list)  # of the model, left as they were
    unexpected: list[str] = field(default_factory=list)  # of the file, not used
    mismatched: list[str] = field(default_factory=list)  # of both, of other shapes

    def __str__(self) -> str:
        lines = [f"{self.origin}: {self.loaded} tensors loaded ({self.layout} layout)"]
        lines += [f"  {kind}: {', '.join(names)}" for kind, names in self.problems().items()]
        return "\n".join(lines)

    def problems(self) -> dict[str, list[str]]:
        lists = {
            "not in the file": self.missing,
            "not in the model": self.unexpected,
            "of another shape": self.mismatched,
        }
        return {kind: names for kind, names in lists.items() if names}


def load(
    model: nn.Module, source: str | Path | Mapping[str, Tensor] | Checkpoint, new_classifier: bool = False
) -> Report:
    """Loads a file or a state dict into a backbone or a model, in any known layout.

    Everything must fit; with `new_classifier` the last linear layer may be of another size or missing, and keeps its
    present values (fine-tuning on other classes), which the report lists. The statistics that pixels are normalised
    with belong to the weights, and come along.
    """
    checkpoint = as_checkpoint(source)
    found = recognise(checkpoint)
    if found.layout in DETECTORS:
        return load_detector(model, checkpoint, found, new_classifier)
    if hasattr(model, "backbone_tensors"):
        return load_backbone(model, checkpoint, found)
    net = getattr(model, "backbone", model)
    check_stride(net, found, checkpoint.origin)
    state = to_our_names(checkpoint.state, found.layout)
    statistics = [state.pop(f"normalise.{kind}", None) for kind in ("mean", "std")]

    target = net.state_dict()
    report = fit(target, state, checkpoint.origin, found.layout)
    refuse_what_does_not_fit(report, [net.classifier_name] if new_classifier else [])
    usable = {name: tensor for name, tensor in state.items() if name in target and tensor.shape == target[name].shape}
    net.load_state_dict(usable, strict=False)
    if net is not model and statistics[0] is not None:
        model.normalise.set(*statistics)
    return report


def stride_in(net: nn.Module) -> Optional[str]:
    """Which convolution of a net's bottlenecks strides, "1x1" or "3x3"; None where there are no bottlenecks."""
    block = getattr(net, "conv3_x", [None])[0]
    if not hasattr(block, "conv3"):
        return None
    return "1x1" if block.conv1.conv.stride == (2, 2) else "3x3"


def check_stride(net: nn.Module, found: Recognised, origin: str) -> None:
    """Weights fit a net that strides in the other convolution as well, and would compute something else there."""
    wanted, present = (found.backbone or {}).get("stride_in"), stride_in(net)
    if wanted and present and present != wanted:
        raise WeightsError(
            f"{origin}: these weights are of a net that strides in the {wanted} convolution of its blocks, and this "
            f"one strides in the {present}: set model.backbone.stride_in={wanted}."
        )


def load_detector(model: nn.Module, checkpoint: Checkpoint, found: Recognised, new_classifier: bool) -> Report:
    """A whole detector; with `new_classifier` what depends on the classes may be of another size and starts anew."""
    if not hasattr(model, "backbone_tensors"):
        raise WeightsError(f"{checkpoint.origin} holds a detector and this model is none: build one for it.")
    state = checkpoint.state
    if found.layout == "torchvision detector":
        state = torchvision_detectors.to_our_names(state)
    statistics = [state.get(f"normalise.{kind}") for kind in ("mean", "std")]
    state = {name: tensor for name, tensor in state.items() if not name.startswith("normalise.")}
    target = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("normalise.")}
    report = fit(target, state, checkpoint.origin, found.layout)
    refuse_what_does_not_fit(report, model.class_layers() if new_classifier else [])
    copy_into(target, state)
    model.normalise.set(*statistics)
    return report


def load_backbone(model: nn.Module, checkpoint: Checkpoint, found: Recognised) -> Report:
    """A classifier's weights into a detector, which must find all that it shares; the classifier is left out."""
    check_stride(model.backbone, found, checkpoint.origin)
    state = to_our_names(checkpoint.state, found.layout)
    statistics = [state.pop(f"normalise.{kind}", None) for kind in ("mean", "std")]
    target = model.backbone_tensors()
    state = {n: tensor for n, tensor in state.items() if n in target or n.split(".")[0] not in CLASSIFIERS}
    report = fit(target, state, checkpoint.origin, found.layout)
    refuse_what_does_not_fit(report)
    copy_into(target, state)
    if statistics[0] is not None:
        model.normalise.set(*statistics)
    return report


@torch.no_grad()
def copy_into(target: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Copies what fits; the target's tensors are the model's own memory."""
    for name, tensor in target.items():
        if name in state and state[name].shape == tensor.shape:
            tensor.copy_(state[name])


def as_checkpoint(source: str | Path | Mapping[str, Tensor] | Checkpoint) -> Checkpoint:
    if isinstance(source, Checkpoint):
        return source
    return read(source) if isinstance(source, (str, Path)) else Checkpoint(dict(source), "the given state dict")


def recognise(checkpoint: Checkpoint) -> Recognised:
    """The layout of a state dict, by the names and shapes in it."""
    state = checkpoint.state
    if "rpn.objectness.weight" in state:
        return Recognised("resdet detector")
    if torchvision_detectors.is_detector(state):
        return Recognised("torchvision detector")
    if any(name.startswith(("backbone.", "conv2_x.")) for name in state):
        return Recognised("resdet")
    if keras.is_keras(state):
        return recognise_keras(state)
    if "layer1.0.conv1.weight" in state:
        return recognise_resnet(state)
    if "features.0.weight" in state and "classifier.6.weight" in state:
        return recognise_vgg(state)
    shown = ", ".join(list(state)[:3])
    raise WeightsError(
        f"{checkpoint.origin}: these names ({shown}, …) are of no layout that is known; docs/weights.md lists those."
    )


def recognise_resnet(state: Mapping[str, Tensor]) -> Recognised:
    def blocks(layer: int) -> int:
        return len({name.split(".")[1] for name in state if name.startswith(f"layer{layer}.")})

    counts = tuple(blocks(layer) for layer in range(1, 5))
    bottleneck = "layer1.0.conv3.weight" in state
    name = (BOTTLENECK_BLOCKS if bottleneck else BASIC_BLOCKS).get(counts)
    count = len(state["fc.bias"]) if "fc.bias" in state else 0
    # A torchvision or timm ResNet strides in the 3×3.
    backbone = {"name": name, "shortcut": "B", "stride_in": "3x3"} if name else None
    return Recognised("torchvision", backbone, count, class_names(count))


def recognise_vgg(state: Mapping[str, Tensor]) -> Recognised:
    convolutions = sum(name.endswith(".weight") and tensor.dim() == 4 for name, tensor in state.items())
    depth = {13: 16, 16: 19}.get(convolutions)
    if depth is None:
        raise WeightsError(f"A VGG of {convolutions} convolutions is none of ours: VGG-16 has 13 and VGG-19 has 16.")
    norm = "bn" if "features.1.running_mean" in state else None
    count = len(state["classifier.6.bias"])
    return Recognised("torchvision", {"name": f"vgg{depth}", "norm": norm}, count, class_names(count))


def recognise_keras(state: Mapping[str, Tensor]) -> Recognised:
    def blocks(stage: int) -> int:
        units = {keras.unit_of(name.split("/")[0]) for name in state if name.startswith(f"res{stage}")}
        return len({unit.split(".")[1] for unit in units})

    name = BOTTLENECK_BLOCKS.get(tuple(blocks(stage) for stage in range(2, 6)))
    count = len(state["fc1000/bias"]) if "fc1000/bias" in state else 0
    backbone = {"name": name, "shortcut": "B", "stride_in": "1x1"} if name else None
    return Recognised("keras", backbone, count, class_names(count))


def class_names(count: int) -> list[str]:
    """ImageNet's, where there are a thousand and torchvision is installed to name them; else the numbers."""
    if count == 1000:
        return list(torchvision().models.ResNet50_Weights.IMAGENET1K_V1.meta["categories"])
    return [str(label) for label in range(count)]


def to_our_names(state: Mapping[str, Tensor], layout: str) -> dict[str, Tensor]:
    """The backbone's tensors, and `normalise.mean` and `normalise.std`, under our names."""
    if layout == "resdet":
        return {name.removeprefix("backbone."): tensor for name, tensor in state.items()}
    if layout == "keras":
        return keras.to_our_names(state)
    if "features.0.weight" in state:
        found = recognise_vgg(state).backbone
        ours = layouts.vgg_names(int(found["name"][3:]), found["norm"] is not None)
        renamed = layouts.rename_modules(state, {theirs: mine for mine, theirs in ours.items()})
    else:
        renamed = {layouts.resnet_from_torchvision(name): tensor for name, tensor in state.items()}
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return {**renamed, "normalise.mean": mean, "normalise.std": std}


def fit(target: Mapping[str, Tensor], state: Mapping[str, Tensor], origin: str, layout: str) -> Report:
    """Compares names and shapes; batch norm's step counters may be absent, as in old and in frozen nets."""
    report = Report(origin, layout, loaded=0)
    for name, tensor in target.items():
        if name not in state:
            if not name.endswith("num_batches_tracked"):
                report.missing.append(f"{name} {list(tensor.shape)}")
        elif state[name].shape != tensor.shape:
            report.mismatched.append(f"{name} {list(state[name].shape)} for {list(tensor.shape)}")
        else:
            report.loaded += 1
    counters = "num_batches_tracked"
    report.unexpected = [
        f"{n} {list(t.shape)}" for n, t in state.items() if n not in target and not n.endswith(counters)
    ]
    return report


def refuse_what_does_not_fit(report: Report, may_differ: Sequence[str] = ()) -> None:
    """Raises with the list, of which the modules in `may_differ` are left out."""
    prefixes = tuple(f"{module}." for module in may_differ)
    problems = {kind: [n for n in names if not n.startswith(prefixes)] for kind, names in report.problems().items()}
    problems = {kind: names for kind, names in problems.items() if names}
    if problems:
        listed = "; ".join(
            f"{kind}: {', '.join(names[:4])}{f' and {len(names) - 4} more' if len(names) > 4 else ''}"
            for kind, names in problems.items()
        )
        raise WeightsError(
            f"{report.origin} does not fit this model ({listed}): build the net it was made for, or give another file."
        )
