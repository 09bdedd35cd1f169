"""The kinds of models whose weights are read and written."""

from torch import nn

from resdet.model import Kind


def kind_of(model: nn.Module) -> Kind:
    """Returns the `kind` that a model's class declares; a net without one is a backbone."""
    return getattr(model, "kind", "backbone")


def has_heads(model: nn.Module) -> bool:
    """Whether the model has heads on a backbone: it then has `backbone_tensors` and `class_layers`."""
    return kind_of(model) in ("detector", "localizer")
