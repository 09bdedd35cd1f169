"""Loads weights of any known layout into a model, and lists mismatches by name and shape."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from resdet.errors import WeightsError, spelled
from resdet.weights import categories, zoo
from resdet.weights.checkpoint_file import Checkpoint, read, shorten, without_wrappers
from resdet.weights.description import checked_statistics
from resdet.weights.kind import has_heads, kind_of
from resdet.weights.layouts.recognition import Layout, recognize
from resdet.weights.layouts.torchvision_classifiers import stride_in

CLASSIFIERS = ("fc", "fc6", "fc7")  # linear layers of the classifiers
STATISTICS = ("normalize.mean", "normalize.std")
ROI_HEAD = re.compile(r"roi_heads\.\w+_head(?=\.)")
GEOMETRY = {"input": ("resize",), "rpn": ("anchors",), "box": ("aligned", "sampling")}  # keys by section of `model`
OTHER_CLASSES = (
    "the file has as many classes, but different ones: class-dependent layers keep its weights and their order"
)
# Settings that may differ between file and model without a note; either may lack a mask or keypoint head, and null may
# stand for the channels of the RPN.
IGNORED_SETTINGS = ("num_classes", "norm", "names", "mask", "keypoint", "channels")


@dataclass
class Report:
    """Result of `load`: tensors with their shapes, as text."""

    origin: str
    layout: str
    loaded: int
    missing: list[str] = field(default_factory=list)  # in the model only, left unchanged
    unexpected: list[str] = field(default_factory=list)  # in the file only, not used
    mismatched: list[str] = field(default_factory=list)  # in both, with different shapes
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{self.origin}: {self.loaded} tensors loaded ({self.layout} layout)"]
        lines += [f"  {kind}: {', '.join(names)}" for kind, names in self.problems().items()]
        return "\n".join(lines + [f"  {note}" for note in self.notes])

    def problems(self) -> dict[str, list[str]]:
        lists = {
            "not in the file": self.missing,
            "not in the model": self.unexpected,
            "of another shape": self.mismatched,
        }
        return {kind: names for kind, names in lists.items() if names}


def load(model: Any, source: str | Path | Mapping[str, Tensor] | Checkpoint, new_classifier: bool = False) -> Report:
    """Loads a file, a published model by name or a state dict of any known layout into a backbone or a model.

    Raises a `Mismatch` unless names and shapes match. With `new_classifier` (fine-tuning on other classes), layers that
    depend on the classes may differ or be missing, and the mask and keypoint heads of a detector may be missing from
    the file or the model: these layers keep their values and are listed in the report. When the categories of one
    detector contain those of the other (COCO's 80 and torchvision's 90 ids), rows of shared categories are copied.
    Pixel statistics are loaded with the weights; detectors and localizers, whose images may have any size, average a
    per-pixel mean.
    """
    checkpoint = as_checkpoint(source)
    layout = recognize(checkpoint)
    implied = settings_of(layout, checkpoint)
    check_stride(getattr(model, "backbone", model), implied, checkpoint.origin)
    state = layout.tensors(checkpoint)
    statistics = statistics_of(state, checkpoint)
    state = {name: tensor for name, tensor in state.items() if name not in STATISTICS}
    classes = checkpoint.description.classes or []
    if not layout.detector:
        part = backbone_part(model, state) if has_heads(model) else net_part(model, state, classes, new_classifier)
    elif has_heads(model):
        named = new_classifier or classes
        given = categories_of(layout, checkpoint) if named and kind_of(model) == "detector" else None
        may_differ = [*model.class_layers(), *heads_of_one(model.state_dict(), state)] if new_classifier else []
        part = detector_part(model, state, given, may_differ, new_classifier)
        if kind_of(model) == "localizer" and classes != model.classes and len(classes) == len(model.classes):
            part.notes.append(OTHER_CLASSES)
        needed = geometry_of(implied) if checkpoint.description.experiment else implied
        part.notes += different_settings(needed, model.experiment.get("model", {}))
    else:
        kind = layout.name.split()[-1]
        raise WeightsError(
            f"{checkpoint.origin} contains a {kind}, but the model is not a {kind}: give the weights of a classifier, "
            f"or take the config of a {kind}."
        )
    report = compare(part, checkpoint.origin, layout.name)
    refuse_mismatches(report, part.may_differ)
    copy_into(part.target, part.state)
    if statistics is not None and kind_of(model) != "backbone":
        model.normalize.set(*statistics)
        if has_heads(model):
            model.normalize.average()
    return report


@dataclass
class Part:
    """Target tensors of a model, and the tensors to load into them."""

    target: dict[str, Tensor]
    state: dict[str, Tensor]
    may_differ: Sequence[str] = ()  # modules that may be missing or differ in shape
    notes: list[str] = field(default_factory=list)


def net_part(model: Any, state: dict[str, Tensor], given: Sequence[str], new_classifier: bool) -> Part:
    """Returns the part for a classifier's backbone, or for a plain backbone. If the file has the model's classes in
    another order, `given`, reorders the rows of its last layer."""
    net, classes, notes = getattr(model, "backbone", model), getattr(model, "classes", []), []
    if given != classes and sorted(given) == sorted(classes) and len(set(given)) == len(given):
        order = [given.index(name) for name in classes]
        last = {f"{net.classifier_name}.{name}" for name in ("weight", "bias")}
        state = {name: tensor[order] if name in last else tensor for name, tensor in state.items()}
        notes = [f"the {len(order)} classes of the file have another order: their rows are copied by name"]
    return Part(net.state_dict(), state, [net.classifier_name] if new_classifier else [], notes)


def backbone_part(model: Any, state: dict[str, Tensor]) -> Part:
    """Returns the part for a detector's backbone, to be loaded from a classifier without its linear layers."""
    target = model.backbone_tensors()
    kept = {name: t for name, t in state.items() if name in target or name.split(".")[0] not in CLASSIFIERS}
    return Part(target, kept)


def detector_part(
    model: Any,
    state: dict[str, Tensor],
    given: categories.Categories | None,
    may_differ: Sequence[str],
    new_classifier: bool,
) -> Part:
    """Returns the part for a whole detector or localizer. With the file's categories `given`, reorders rows to the
    model's classes; without `new_classifier`, only if both have the same classes."""
    target = {name: tensor for name, tensor in model.state_dict().items() if name not in STATISTICS}
    if given is None:
        return Part(target, state, may_differ)
    present = categories.Categories(model.classes, model.category_ids)
    rows = categories.rows(given, present) if given != present else None
    notes = []
    if rows and (new_classifier or len(rows) == len(given.ids) == len({*rows} - {None})):
        state = categories.select_rows(state, model, rows, len(given.ids))
        shared = sum(row is not None for row in rows)
        notes = [f"{shared} of the model's {len(rows)} classes are in the file, by name: their rows are copied"]
    elif given != present and len(given.ids) == len(present.ids):
        notes = [OTHER_CLASSES]
    return Part(target, state, may_differ, notes)


def heads_of_one(model: Iterable[str], file: Iterable[str]) -> list[str]:
    """Returns the heads of RoI branches, such as `roi_heads.mask_head`, in only the model or only the file."""
    first, second = ({match[0] for name in names if (match := ROI_HEAD.match(name))} for names in (model, file))
    return sorted(first ^ second)


def settings_of(layout: Layout, checkpoint: Checkpoint) -> dict:
    """Returns the `model` section that the weights imply; empty if they do not determine it."""
    experiment = checkpoint.description.experiment
    if layout.settings is None or experiment:
        model = (experiment or {}).get("model")
        return model if isinstance(model, dict) else {}
    try:
        return layout.section(checkpoint)
    except WeightsError:
        return {}


def anchors_of(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """Returns the keys of `model.rpn.anchors` that a detector's weights imply; None for the weights of a classifier."""
    layout = recognize(checkpoint)
    if not layout.detector:
        return None
    rpn = settings_of(layout, checkpoint).get("rpn")
    anchors = rpn.get("anchors") if isinstance(rpn, Mapping) else None
    return dict(anchors) if isinstance(anchors, Mapping) else {}


def check_stride(net: nn.Module, implied: Mapping[str, Any], origin: str) -> None:
    """Refuses weights of a net that strides in the other convolution: they fit by shape but compute other outputs."""
    backbone, present = implied.get("backbone"), stride_in(net)
    expected = backbone.get("stride_in") if isinstance(backbone, Mapping) else None
    if expected and present and present != expected:
        raise WeightsError(
            f"{origin}: the weights need blocks that stride in the {expected} convolution, but the model strides in "
            f"the {present}: set model.backbone.stride_in={expected}."
        )


def statistics_of(state: Mapping[str, Tensor], checkpoint: Checkpoint) -> tuple[Tensor, Tensor] | None:
    """Returns mean and standard deviation of pixels: from the metadata, else from the layout, else None."""
    if statistics := checkpoint.description.statistics:
        return statistics
    if not all(name in state for name in STATISTICS):
        return None
    mean, std = (state[name].float() for name in STATISTICS)
    return checked_statistics(mean, std, checkpoint.origin)


def categories_of(layout: Layout, checkpoint: Checkpoint) -> categories.Categories:
    """Returns the classes of a file, from its metadata or by its library."""
    description = checkpoint.description
    if description.classes and description.category_ids:
        return categories.Categories(description.classes, description.category_ids)
    if layout.settings is None:
        return categories.Categories([], [])
    return layout.classes_of(settings_of(layout, checkpoint))


def geometry_of(section: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the keys in a `model` section of resdet's detectors that their tensors do not determine."""
    parts = {name: section[name] for name in GEOMETRY if isinstance(section.get(name), Mapping)}
    return {name: {key: part[key] for key in GEOMETRY[name] if key in part} for name, part in parts.items()}


def different_settings(implied: Mapping[str, Any], present: Mapping[str, Any], prefix: str = "model.") -> list[str]:
    """Returns notes on settings of the model that differ from those the weights imply."""
    notes = []
    for key, value in implied.items():
        current = present.get(key, value)
        if isinstance(value, Mapping) and isinstance(current, Mapping):
            notes += different_settings(value, current, f"{prefix}{key}.")
        elif current != value and key not in IGNORED_SETTINGS:
            notes.append(f"the weights need {prefix}{key}={spelled(value)}, but the model has {spelled(current)}")
    return notes


def as_checkpoint(source: str | Path | Mapping[str, Tensor] | Checkpoint) -> Checkpoint:
    if isinstance(source, Checkpoint):
        return source
    if isinstance(source, (str, Path)):
        return read(zoo.locate(source))
    return Checkpoint(without_wrappers(source), "the given state dict")


@torch.no_grad()
def copy_into(target: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Copies tensors of equal name and shape; `target` shares memory with the model."""
    for name, tensor in target.items():
        if name in state and state[name].shape == tensor.shape:
            tensor.copy_(state[name])


def compare(part: Part, origin: str, layout: str) -> Report:
    """Compares names and shapes; step counters of batch norm may be missing, as in old and in frozen nets."""
    report = Report(origin, layout, loaded=0, notes=part.notes)
    counter = "num_batches_tracked"
    for name, tensor in part.target.items():
        if name not in part.state:
            if not name.endswith(counter):
                report.missing.append(f"{name} {list(tensor.shape)}")
        elif part.state[name].shape != tensor.shape:
            report.mismatched.append(f"{name} {list(part.state[name].shape)} for {list(tensor.shape)}")
        else:
            report.loaded += 1
    report.unexpected = [
        f"{name} {list(tensor.shape)}"
        for name, tensor in part.state.items()
        if name not in part.target and not name.endswith(counter)
    ]
    return report


class Mismatch(WeightsError):
    """Weights that do not fit the model; `differences` lists names and shapes."""

    def __init__(self, origin: str, differences: str):
        super().__init__(
            f"{origin} does not fit this model ({differences}): build the model of the file, or give another file."
        )
        self.differences = differences


def refuse_mismatches(report: Report, may_differ: Sequence[str] = ()) -> None:
    """Raises a `Mismatch` unless all differences lie in the modules `may_differ`."""
    prefixes = tuple(f"{module}." for module in may_differ)
    problems = {kind: [n for n in names if not n.startswith(prefixes)] for kind, names in report.problems().items()}
    problems = {kind: names for kind, names in problems.items() if names}
    if problems:
        listed = "; ".join(
            f"{kind}: {', '.join(map(shorten, names[:4]))}{f' and {len(names) - 4} more' if len(names) > 4 else ''}"
            for kind, names in problems.items()
        )
        raise Mismatch(report.origin, listed)
