"""Puts weights of any known layout into a model; what does not fit is listed by name and shape."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Mapping, Optional

from torch import Tensor, nn

from resdet.errors import WeightsError
from resdet.weights import layouts
from resdet.weights.reading import Checkpoint, read

BOTTLENECK_BLOCKS = {(3, 4, 6, 3): "resnet50", (3, 4, 23, 3): "resnet101", (3, 8, 36, 3): "resnet152"}
BASIC_BLOCKS = {(2, 2, 2, 2): "resnet18", (3, 4, 6, 3): "resnet34"}


@dataclass
class Recognised:
    """What a file is: its layout, and the net it was made for, where that can be told from the shapes."""

    layout: str  # resdet · torchvision (timm's ResNets are the same)
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
    present values (fine-tuning on other classes), which the report lists.
    """
    checkpoint = as_checkpoint(source)
    layout = recognise(checkpoint).layout
    state = to_our_names(checkpoint.state, layout)
    target = model.state_dict()
    if not any(name.startswith("backbone.") for name in target):
        state = {
            name.removeprefix("backbone."): tensor
            for name, tensor in state.items()
            if not name.startswith("normalise.")
        }
    elif not any(name.startswith("backbone.") for name in state):
        state = {f"backbone.{name}": tensor for name, tensor in state.items()}
        state |= {name: target[name] for name in target if name.startswith("normalise.")}
    report = fit(target, state, checkpoint.origin, layout)
    refuse_what_does_not_fit(report, new_classifier)
    usable = {name: tensor for name, tensor in state.items() if name in target and tensor.shape == target[name].shape}
    model.load_state_dict(usable, strict=False)
    return report


def load_exactly(model: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Our own checkpoint into our own model: every name and shape as it is."""
    refuse_what_does_not_fit(fit(model.state_dict(), state, origin, "resdet"), new_classifier=False)
    model.load_state_dict(state)


def as_checkpoint(source: str | Path | Mapping[str, Tensor] | Checkpoint) -> Checkpoint:
    if isinstance(source, Checkpoint):
        return source
    return read(source) if isinstance(source, (str, Path)) else Checkpoint(dict(source), "the given state dict")


def recognise(checkpoint: Checkpoint) -> Recognised:
    """The layout of a state dict, by the names and shapes in it."""
    state = checkpoint.state
    names = [name.removeprefix("backbone.") for name in state]
    if any(name.startswith("conv2_x.") for name in names):
        return Recognised("resdet")
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
    norm = "bn" if "features.1.running_mean" in state else None
    count = len(state["classifier.6.bias"])
    return Recognised(
        "torchvision", {"name": f"vgg{depth}", "norm": norm} if depth else None, count, class_names(count)
    )


def class_names(count: int) -> list[str]:
    """ImageNet's, where there are a thousand and torchvision is installed to name them; else the numbers."""
    if count == 1000:
        from torchvision.models import ResNet50_Weights

        return list(ResNet50_Weights.IMAGENET1K_V1.meta["categories"])
    return [str(label) for label in range(count)]


def to_our_names(state: Mapping[str, Tensor], layout: str) -> dict[str, Tensor]:
    if layout == "resdet":
        return dict(state)
    if "features.0.weight" in state:
        found = recognise_vgg(state).backbone
        ours = layouts.vgg_names(int(found["name"][3:]), found["norm"] is not None)
        return layouts.rename_modules(state, {theirs: mine for mine, theirs in ours.items()})
    return {layouts.resnet_from_torchvision(name): tensor for name, tensor in state.items()}


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


def refuse_what_does_not_fit(report: Report, new_classifier: bool) -> None:
    problems = report.problems()
    if new_classifier:
        problems = {
            kind: [n for n in names if not n.removeprefix("backbone.").startswith("fc.")]
            for kind, names in problems.items()
        }
    problems = {kind: names for kind, names in problems.items() if names}
    if problems:
        listed = "; ".join(
            f"{kind}: {', '.join(names[:4])}{f' and {len(names) - 4} more' if len(names) > 4 else ''}"
            for kind, names in problems.items()
        )
        raise WeightsError(
            f"{report.origin} does not fit this model ({listed}): build the net it was made for, or give another file."
        )
