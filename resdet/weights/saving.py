"""Writes a model's weights in the layout of another library, whole or not at all."""

import json
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from resdet.errors import WeightsError
from resdet.files.atomic import write_bytes, write_torch
from resdet.weights.layouts import detectron2, torchvision_classifiers, torchvision_detectors
from resdet.weights.reading import OURS

LAYOUTS = ("torchvision", "timm", "detectron2", "safetensors")


def save(model: nn.Module, path: str | Path, layout: str = "torchvision") -> None:
    """Writes what `layout`'s library loads with strict=True, and what `resdet.load` makes the whole model of again.

    `torchvision`: classifiers and detectors; `timm`: classifiers; `detectron2`: ResNet detectors and backbones, as
    `.pkl` for its own loader or `.pth`; `safetensors`: any model under our names. The first two write `.safetensors`
    as well, where the path ends so. What the library has no counterpart of is a WeightsError that names it.
    """
    path = Path(path)
    if layout not in LAYOUTS:
        raise WeightsError(f"There is no layout {layout!r} to save in; there are {', '.join(LAYOUTS)}.")
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in state_in(model, layout).items()}
    told = description(model) | (statistics(model) if layout != "safetensors" else {})
    if layout == "detectron2":
        return save_detectron2(state, told, path)
    if layout == "safetensors" or path.suffix == ".safetensors":
        from safetensors.torch import save as encode

        return write_bytes(path, encode(state, {key: json.dumps(value) for key, value in told.items()}))
    state = OrderedDict(state)
    state._metadata = {OURS: told}  # beside the tensors, where torch keeps the versions of modules: others pass it by
    write_torch(path, state)


def state_in(model: nn.Module, layout: str) -> dict[str, Tensor]:
    if layout == "safetensors":
        return model.state_dict()
    if hasattr(model, "backbone_tensors") and not hasattr(model, "roi_heads"):
        raise WeightsError(f"{layout} has no localizers: save it as safetensors.")
    if hasattr(model, "roi_heads") and model.roi_heads.config.context:
        raise WeightsError(f"{layout}'s detectors have no global context: save it as safetensors.")
    if hasattr(model, "roi_heads") and hasattr(model.roi_heads, "mnc"):
        raise WeightsError(f"{layout}'s detectors have no cascade of masks and classes: save it as safetensors.")
    if layout == "detectron2":
        return detectron2.from_our_names(model)
    if not hasattr(model, "backbone_tensors"):
        return torchvision_classifiers.from_our_names(model, layout)
    if layout == "timm":
        raise WeightsError("timm has no detectors: save it for torchvision or detectron2, or as safetensors.")
    return torchvision_detectors.from_our_names(model)


def save_detectron2(state: dict[str, Tensor], told: dict[str, Any], path: Path) -> None:
    """For their checkpointer, which takes tensors from a `.pth` and arrays from a `.pkl`, and passes the rest by."""
    content = {"__author__": "resdet", **told}
    if path.suffix == ".pkl":
        content["model"] = {name: tensor.numpy() for name, tensor in state.items()}
        return write_bytes(path, pickle.dumps(content))
    content["model"] = state
    write_torch(path, content)


def description(model: nn.Module) -> dict[str, Any]:
    """What `resdet.load` rebuilds a whole model from, in plain values; nothing for a backbone."""
    keys = ("experiment", "classes", "category_ids")
    return {key: getattr(model, key) for key in keys if getattr(model, key, None)}


def statistics(model: nn.Module) -> dict[str, Any]:
    """The statistics of pixels, for layouts that have no place for them among the tensors."""
    if not hasattr(model, "normalize"):
        return {}
    return {"normalize": {"mean": model.normalize.mean.tolist(), "std": model.normalize.std.tolist()}}
