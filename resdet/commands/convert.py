"""`resdet convert`: writes the weights of a model in another library's format."""

from pathlib import Path
from typing import cast

import torch
import yaml
from torch import nn

from resdet import hub
from resdet.detection.model import Detector
from resdet.errors import FileError, WeightsError
from resdet.files.atomic import check_file, check_not_input, write_text
from resdet.weights import save_weights
from resdet.weights.snippets import RECIPES


def convert(source: str, layout: str, out: str | None = None) -> Path:
    """Writes the file, verifies it by loading it, and prints the code that loads it in the other library."""
    path = Path(out) if out else default_path(source, layout)
    check_file(path)
    model = hub.load(source)
    if model.exported:
        raise WeightsError(f"{source} is an exported graph: give the checkpoint that it was exported from.")
    check_not_input(path, source)
    save_weights.state_in(model, layout)  # before anything is written, raises for a model that the library lacks
    lines = RECIPES[layout](model, path)
    config = detectron2_config(cast(Detector, model)) if layout == "detectron2" and model.kind == "detector" else None
    if config:
        check_config(path)
    save_weights.save(model, path, layout)
    count = check(model, path)
    if config:
        write_text(path.with_suffix(".yaml"), config)
    print(f"{path}: {count} tensors, read back bit for bit. To load it:\n\n{lines}")
    return path


def default_path(source: str, layout: str) -> Path:
    """Returns best.torchvision.pth for best.pth; for a published model, its name and version in the current folder."""
    path = Path(source)
    base = path.with_suffix("") if path.is_file() else Path(path.name)
    return Path(f"{base}.safetensors" if layout == "safetensors" else f"{base}.{layout}.pth")


def check(model: nn.Module, path: Path) -> int:
    """Returns the number of tensors in the file; a missing or changed tensor is a bug and raises RuntimeError."""
    again = hub.load(path).state_dict()
    # Step counters matter only in training; other libraries omit them for frozen norms.
    expected = {n: tensor for n, tensor in model.state_dict().items() if not n.endswith("num_batches_tracked")}
    different = [name for name, tensor in expected.items() if not torch.equal(tensor, again[name])]
    if different:
        path.unlink()
        raise RuntimeError(f"{path} differs from the model after reading it back ({different[0]}); it was removed.")
    return len(expected)


def check_config(path: Path) -> None:
    """Refuses weights whose config, written beside them, would replace another file."""
    file = path.with_suffix(".yaml")
    if file == path:
        raise FileError(f"{path} is the name of detectron2's config of the weights: give a name with another ending.")
    if file.exists() and not file.read_bytes().startswith(b"VERSION:"):
        raise FileError(f"{file} exists and is not a config of an earlier conversion: give another name with --out.")


def detectron2_config(model: Detector) -> str:
    """Returns a YAML config from which detectron2 builds the model of these weights."""
    from resdet.interop.to_detectron2 import config_for

    return yaml.safe_dump(config_for(model), sort_keys=False)
