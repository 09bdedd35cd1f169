"""Writes a model's weights in the layout of another library, whole or not at all."""

import json
import os
from pathlib import Path
from typing import Any, Callable

import torch
from torch import Tensor, nn

from resdet.errors import WeightsError
from resdet.weights import layouts
from resdet.weights.loading import stride_in


def save(model: nn.Module, path: str | Path, layout: str = "torchvision") -> None:
    """`torchvision` and `timm` (`.pth`, the backbone under that library's names), or `safetensors` (our names)."""
    if layout not in ("torchvision", "timm", "safetensors"):
        raise WeightsError(f"There is no layout {layout!r} to save in; there are torchvision, timm and safetensors.")
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if layout == "safetensors":
        from safetensors.torch import save_file

        write_atomically(Path(path), lambda temporary: save_file(state, temporary, description(model)))
        return
    if stride_in(getattr(model, "backbone", model)) == "1x1":
        raise WeightsError(f"{layout}'s ResNets stride in the 3×3 and this one in the 1×1: save it as safetensors.")
    renamed = to_torchvision(state)
    write_atomically(Path(path), lambda temporary: torch.save(renamed, temporary))


def description(model: nn.Module) -> dict[str, str]:
    """What `resdet.load` rebuilds a whole model from, as text, which safetensors carry; nothing for a backbone."""
    keys = ("experiment", "classes", "category_ids")
    return {key: json.dumps(getattr(model, key)) for key in keys if getattr(model, key, None)}


def to_torchvision(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The backbone's tensors under torchvision's names; their ResNets have the shortcuts of option B."""
    own = {n.removeprefix("backbone."): t for n, t in state.items() if not n.startswith("normalise.")}
    # Frozen norms have no counter of steps, and torchvision asks for one.
    means = [name for name in own if name.endswith("running_mean")]
    own = {name.replace("running_mean", "num_batches_tracked"): torch.tensor(0) for name in means} | own
    if "fc6.weight" in own:
        depth = 16 if "conv3_x.4.conv.weight" not in own else 19
        return layouts.rename_modules(own, layouts.vgg_names(depth, "conv1_x.0.norm.weight" in own))
    option_b = "conv5_x.0.shortcut.conv.weight" in own and "conv5_x.1.shortcut.conv.weight" not in own
    if not option_b:
        raise WeightsError(
            "torchvision and timm have no such net (plain, for CIFAR, or of shortcuts A or C): save it as safetensors."
        )
    return {layouts.resnet_to_torchvision(name): tensor for name, tensor in own.items()}


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Writes beside `path`, flushes to the disk and renames: a reader sees the old file or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
