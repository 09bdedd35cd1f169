"""`resdet convert`: a model's weights as another library's file."""

from pathlib import Path

import torch
import yaml
from torch import nn

from resdet import hub
from resdet.detection.model import Detector
from resdet.errors import WeightsError
from resdet.files.atomic import check_file, write_text
from resdet.weights import saving
from resdet.weights.snippets import RECIPES


def convert(source: str, layout: str, out: str | None = None) -> Path:
    """Writes the file, reads it back as a whole model, and prints how it is loaded there."""
    path = Path(out) if out else beside(source, layout)
    check_file(path)
    model = hub.load(source)
    if not isinstance(model, nn.Module):
        raise WeightsError(f"{source} is an exported graph: give the checkpoint that it was exported from.")
    if Path(source).exists() and path.exists() and path.samefile(source):  # a published name is no file
        raise WeightsError(f"{path} is the file to be converted: name another one by --out.")
    saving.state_in(model, layout)  # which says what the library lacks, before anything is written
    lines = RECIPES[layout](model, path)
    config = detectron2_config(model) if layout == "detectron2" and isinstance(model, Detector) else None
    saving.save(model, path, layout)
    count = check(model, path)
    if config:
        write_text(path.with_suffix(".yaml"), config)
    print(f"{path}: {count} tensors, read back and the same bit by bit. To load it there:\n\n{lines}")
    return path


def beside(source: str, layout: str) -> Path:
    """best.pth -> best.torchvision.pth; what was fetched by name is written into this folder."""
    path = Path(source)
    folder = path.parent if path.is_file() else Path()
    return folder / (f"{path.stem}.safetensors" if layout == "safetensors" else f"{path.stem}.{layout}.pth")


def check(model: nn.Module, path: Path) -> int:
    """How many tensors came back; that one did not, or came back different, would be our mistake."""
    again = hub.load(path).state_dict()
    # Counters of steps belong to training; other libraries leave them out where norms are frozen.
    expected = {n: tensor for n, tensor in model.state_dict().items() if not n.endswith("num_batches_tracked")}
    different = [name for name, tensor in expected.items() if not torch.equal(tensor, again[name])]
    if different:
        path.unlink()
        raise RuntimeError(f"{path} did not come back as it was written ({different[0]}), and was removed")
    return len(expected)


def detectron2_config(model: Detector) -> str:
    """YAML, from which detectron2 builds the model that the weights are for."""
    from resdet.interop.to_detectron2 import config_for

    return yaml.safe_dump(config_for(model), sort_keys=False)
