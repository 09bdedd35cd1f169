"""Puts weights of any known layout into a model; what does not fit is listed by name and shape."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from resdet.errors import WeightsError
from resdet.weights import categories, zoo
from resdet.weights.description import checked_statistics
from resdet.weights.layouts.recognition import Categories, Layout, recognize
from resdet.weights.layouts.torchvision_classifiers import stride_in
from resdet.weights.reading import Checkpoint, read, shown

CLASSIFIERS = ("fc", "fc6", "fc7")  # the linear layers of our nets
STATISTICS = ("normalize.mean", "normalize.std")
UNSPOKEN = ("num_classes", "norm")  # settings that may differ between the weights' net and the model's


@dataclass
class Report:
    """What `load` did."""

    origin: str
    layout: str
    loaded: int
    missing: list[str] = field(default_factory=list)  # of the model, left as they were
    unexpected: list[str] = field(default_factory=list)  # of the file, not used
    mismatched: list[str] = field(default_factory=list)  # of both, of other shapes
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


def load(
    model: nn.Module, source: str | Path | Mapping[str, Tensor] | Checkpoint, new_classifier: bool = False
) -> Report:
    """Loads a file, a published model by name or a state dict into a backbone or a model, in any known layout.

    Everything must fit; with `new_classifier` what depends on the classes may be of another size or missing, and keeps
    its present values (fine-tuning on other classes), which the report lists. Of a detector whose classes are among
    the model's, or the other way round (COCO's 80 categories and torchvision's 90 ids), the rows that belong to the
    same category are taken over. The statistics that pixels are normalized with belong to the weights, and come along;
    a mean of each pixel as its average to a detector or a localizer, whose images are of no certain size.
    """
    checkpoint = as_checkpoint(source)
    layout = recognize(checkpoint)
    implied = settings_of(layout, checkpoint)
    check_stride(getattr(model, "backbone", model), implied, checkpoint.origin)
    state = layout.tensors(checkpoint)
    statistics = statistics_of(state, checkpoint)
    state = {name: tensor for name, tensor in state.items() if name not in STATISTICS}
    if not layout.detector:
        part = backbone_part(model, state) if is_detector(model) else net_part(model, state, new_classifier)
    elif is_detector(model):
        theirs = categories_of(layout, checkpoint) if new_classifier and hasattr(model, "category_ids") else None
        part = detector_part(model, state, theirs, model.class_layers() if new_classifier else [])
        if not checkpoint.description.experiment:
            part.notes += other_settings(implied, model.experiment.get("model", {}))
    else:
        kind = layout.name.split()[-1]
        raise WeightsError(f"{checkpoint.origin} holds a {kind} and this model is none: build one for it.")
    report = fit(part, checkpoint.origin, layout.name)
    refuse_what_does_not_fit(report, part.may_differ)
    copy_into(part.target, part.state)
    if statistics is not None and hasattr(model, "normalize"):
        model.normalize.set(*statistics)
        if is_detector(model):
            model.normalize.average()
    return report


@dataclass
class Part:
    """What of a model is to be filled, and with what."""

    target: dict[str, Tensor]
    state: dict[str, Tensor]
    may_differ: Sequence[str] = ()  # modules that may be missing, or of another size
    notes: list[str] = field(default_factory=list)


def is_detector(model: nn.Module) -> bool:
    return hasattr(model, "backbone_tensors")


def net_part(model: nn.Module, state: dict[str, Tensor], new_classifier: bool) -> Part:
    """A backbone, of a classifier or by itself."""
    net = getattr(model, "backbone", model)
    return Part(net.state_dict(), state, [net.classifier_name] if new_classifier else [])


def backbone_part(model: nn.Module, state: dict[str, Tensor]) -> Part:
    """A classifier's weights for a detector, which must find all that it shares; the classifier is left out."""
    target = model.backbone_tensors()
    kept = {name: t for name, t in state.items() if name in target or name.split(".")[0] not in CLASSIFIERS}
    return Part(target, kept)


def detector_part(
    model: nn.Module, state: dict[str, Tensor], theirs: Categories | None, may_differ: Sequence[str]
) -> Part:
    """A whole detector or localizer; of the file's categories, where they are given, the model's own are picked."""
    target = {name: tensor for name, tensor in model.state_dict().items() if name not in STATISTICS}
    if theirs is None:
        return Part(target, state, may_differ)
    ours = Categories(model.classes, model.category_ids)
    chosen = categories.rows(theirs, ours) if theirs != ours else None
    notes = []
    if chosen:
        state = categories.picked(state, model, chosen, len(theirs.ids))
        found = sum(row is not None for row in chosen)
        notes = [f"{found} of the model's {len(chosen)} classes are the file's, by category id: their rows are taken"]
    elif theirs != ours and len(theirs.ids) == len(ours.ids):
        notes = ["the file's classes are others, and as many: the layers that depend on them start from theirs"]
    return Part(target, state, may_differ, notes)


def settings_of(layout: Layout, checkpoint: Checkpoint) -> dict:
    """What the weights imply of their net; nothing where it takes a config to build it."""
    told = checkpoint.description.experiment
    if layout.settings is None or told:
        model = (told or {}).get("model")
        return model if isinstance(model, dict) else {}
    try:
        return layout.section(checkpoint)
    except WeightsError:
        return {}


def check_stride(net: nn.Module, implied: Mapping[str, Any], origin: str) -> None:
    """Weights fit a net that strides in the other convolution as well, and would compute something else there."""
    backbone, present = implied.get("backbone"), stride_in(net)
    wanted = backbone.get("stride_in") if isinstance(backbone, Mapping) else None
    if wanted and present and present != wanted:
        raise WeightsError(
            f"{origin}: these weights are of a net that strides in the {wanted} convolution of its blocks, and this "
            f"one strides in the {present}: set model.backbone.stride_in={wanted}."
        )


def statistics_of(state: Mapping[str, Tensor], checkpoint: Checkpoint) -> tuple[Tensor, Tensor] | None:
    """Mean and deviation of the pixels: those that our own files tell, or else the layout's."""
    if told := checkpoint.description.statistics:
        return told
    if not all(name in state for name in STATISTICS):
        return None
    return checked_statistics(*(state[name].float() for name in STATISTICS), checkpoint.origin)


def categories_of(layout: Layout, checkpoint: Checkpoint) -> Categories | None:
    """The classes of a file: told by itself, or known of its library."""
    told = checkpoint.description
    if told.classes and told.category_ids:
        return Categories(told.classes, told.category_ids)
    if layout.settings is None:
        return Categories([], [])
    return layout.categories(settings_of(layout, checkpoint).get("num_classes", 0))


def other_settings(implied: Mapping[str, Any], present: Mapping[str, Any], prefix: str = "model.") -> list[str]:
    """Notes of what the model does otherwise than the net that the weights were made for."""
    notes = []
    for key, value in implied.items():
        here = present.get(key, value)
        if isinstance(value, Mapping) and isinstance(here, Mapping):
            notes += other_settings(value, here, f"{prefix}{key}.")
        elif here != value and key not in UNSPOKEN:
            notes.append(f"made for a net with {prefix}{key}={value}, and this one has {here}")
    return notes


def as_checkpoint(source: str | Path | Mapping[str, Tensor] | Checkpoint) -> Checkpoint:
    if isinstance(source, Checkpoint):
        return source
    if isinstance(source, (str, Path)):
        return read(zoo.locate(source))
    return Checkpoint(dict(source), "the given state dict")


@torch.no_grad()
def copy_into(target: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Copies what fits; the target's tensors are the model's own memory."""
    for name, tensor in target.items():
        if name in state and state[name].shape == tensor.shape:
            tensor.copy_(state[name])


def fit(part: Part, origin: str, layout: str) -> Report:
    """Compares names and shapes; batch norm's step counters may be absent, as in old and in frozen nets."""
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


class Misfit(WeightsError):
    """Weights that are of another net; `what` lists the differences."""

    def __init__(self, origin: str, what: str):
        super().__init__(
            f"{origin} does not fit this model ({what}): build the net it was made for, or give another file."
        )
        self.what = what


def refuse_what_does_not_fit(report: Report, may_differ: Sequence[str] = ()) -> None:
    """Raises with the list, of which the modules in `may_differ` are left out."""
    prefixes = tuple(f"{module}." for module in may_differ)
    problems = {kind: [n for n in names if not n.startswith(prefixes)] for kind, names in report.problems().items()}
    problems = {kind: names for kind, names in problems.items() if names}
    if problems:
        listed = "; ".join(
            f"{kind}: {', '.join(map(shown, names[:4]))}{f' and {len(names) - 4} more' if len(names) > 4 else ''}"
            for kind, names in problems.items()
        )
        raise Misfit(report.origin, listed)
