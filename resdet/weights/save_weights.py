"""Writes a model's weights in the layout of another library, atomically."""

import json
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from resdet.errors import WeightsError
from resdet.files.atomic import write_bytes, write_torch
from resdet.weights.checkpoint_file import OURS
from resdet.weights.description import MODEL_KEYS
from resdet.weights.kind import kind_of
from resdet.weights.layouts import detectron2, torchvision_classifiers, torchvision_detectors

LAYOUTS = ("torchvision", "timm", "detectron2", "safetensors")


def save(model: nn.Module, path: str | Path, layout: str = "torchvision") -> None:
    """Writes a file that `layout`'s library loads with strict=True and `resdet.load` restores as a whole model.

    `torchvision`: classifiers and detectors; `timm`: classifiers; `detectron2`: ResNet detectors and backbones, as
    `.pkl` for its own loader or `.pth`; `safetensors`: any model under resdet's names. The first two also write
    `.safetensors`, depending on the suffix of the path. Settings without a counterpart in the library raise a
    WeightsError.
    """
    path = Path(path)
    if layout not in LAYOUTS:
        raise WeightsError(f"Unknown layout {layout!r}: choose from {', '.join(LAYOUTS)}.")
    if getattr(model, "accelerated", False):
        raise WeightsError("A model in fast mode has no norms to save: load it with mode='exact', and save that one.")
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in state_in(model, layout).items()}
    metadata = description(model) | (statistics(model) if layout != "safetensors" else {})
    if layout == "detectron2":
        return save_detectron2(state, metadata, path)
    if layout == "safetensors" or path.suffix == ".safetensors":
        from safetensors.torch import save as encode

        return write_bytes(path, encode(state, {key: json.dumps(value) for key, value in metadata.items()}))
    ordered = OrderedDict(state)
    # torch stores module versions here, and other libraries ignore further keys.
    ordered._metadata = {OURS: metadata}  # type: ignore[attr-defined]  # an attribute that torch adds
    write_torch(path, ordered)


def state_in(model: Any, layout: str) -> dict[str, Tensor]:
    if layout == "safetensors":
        return model.state_dict()
    kind = kind_of(model)
    if kind == "localizer":
        raise WeightsError(f"{layout} has no localizers: use the layout safetensors.")
    if kind == "detector" and model.roi_heads.config.context:
        raise WeightsError(f"{layout}'s detectors have no global context: use the layout safetensors.")
    if kind == "detector" and model.experiment["model"]["mnc"]:
        raise WeightsError(f"{layout}'s detectors have no cascade of masks and classes: use the layout safetensors.")
    if layout == "detectron2":
        return detectron2.from_our_names(model)
    if kind != "detector":
        return torchvision_classifiers.from_our_names(model, layout)
    if layout == "timm":
        raise WeightsError(
            "timm has no detectors: save the model for torchvision or detectron2, or use the layout safetensors."
        )
    return torchvision_detectors.from_our_names(model)


def save_detectron2(state: dict[str, Tensor], metadata: dict[str, Any], path: Path) -> None:
    """Writes tensors to a `.pth` and arrays to a `.pkl`, as detectron2's checkpointer expects; it ignores metadata."""
    content = {"__author__": "resdet", **metadata}
    if path.suffix == ".pkl":
        content["model"] = {name: tensor.numpy() for name, tensor in state.items()}
        return write_bytes(path, pickle.dumps(content))
    content["model"] = state
    write_torch(path, content)


def description(model: nn.Module) -> dict[str, Any]:
    """Returns the metadata from which `resdet.load` rebuilds the model, as plain values; empty for a backbone."""
    return {key: getattr(model, key) for key in MODEL_KEYS if getattr(model, key, None)}


def statistics(model: Any) -> dict[str, Any]:
    """Returns pixel statistics as metadata, for layouts without tensors for them."""
    if kind_of(model) == "backbone":
        return {}
    return {"normalize": {"mean": model.normalize.mean.tolist(), "std": model.normalize.std.tolist()}}
