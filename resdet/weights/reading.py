"""Reads checkpoint files as tensors and plain values alone; a file that carries code is refused."""

import json
import pickle
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import torch
from torch import Tensor

from resdet.errors import WeightsError


@dataclass
class Checkpoint:
    """Tensors by name, what else the file says, and what to call it in an error."""

    state: dict[str, Tensor]
    origin: str
    meta: dict[str, Any] = field(default_factory=dict)


def read(path: str | Path) -> Checkpoint:
    """A `.pth`, `.pt` or `.safetensors` file; wrappers such as {"model": …} or {"state_dict": …} are taken off."""
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such file; give the path of a checkpoint, such as runs/NAME/best.pth.")
    if is_safetensors(path):
        return read_safetensors(path)
    return unwrap(read_torch(path), str(path))


def is_safetensors(path: Path) -> bool:
    """A safetensors file begins with the length of its JSON header, whose first byte is a brace."""
    with path.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


def read_safetensors(path: Path) -> Checkpoint:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}
            written = file.metadata() or {}
    except SafetensorError as error:
        raise WeightsError(f"{path} is damaged ({error}): fetch or copy it again.") from None
    # Our own files carry the experiment and the class names as text; others carry whatever they like.
    ours = (
        [key for key in ("experiment", "classes", "category_ids") if key in written] if "experiment" in written else []
    )
    return Checkpoint(state, str(path), {**written, **{key: json.loads(written[key]) for key in ours}})


def read_torch(path: Path) -> Any:
    """What torch saved, through its loader that admits no code."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")  # of files that are refused in a moment
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes torch raise almost anything
        if isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error):
            raise WeightsError(
                f"{path} carries Python objects and not tensors alone ({first_reason(error)}); "
                "it is refused because loading it could run code: save its state_dict() and give that file."
            ) from None
        reason = first_reason(error)
        raise WeightsError(f"{path} is damaged or no checkpoint ({reason}): fetch or copy it again.") from None


def first_reason(error: Exception) -> str:
    """The one line of torch's long messages that names the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = next(
        (line for line in lines if "GLOBAL" in line or "Unsupported" in line),
        lines[0] if lines else type(error).__name__,
    )
    return telling.split(". Please")[0].removeprefix("WeightsUnpickler error: ")[:160]


def wrapper(content: Any) -> Optional[str]:
    """The key under which a training script put the state dict, if it is not the content itself."""
    keys = ("model", "state_dict", "model_state_dict", "model_ema")
    return next((k for k in keys if isinstance(content, dict) and isinstance(content.get(k), dict)), None)


def unwrap(content: Any, origin: str) -> Checkpoint:
    """The state dict inside what was saved."""
    meta = {}
    while inner := wrapper(content):
        meta |= {key: value for key, value in content.items() if key != inner}
        content = content[inner]
    if not isinstance(content, dict) or not content or not all(isinstance(key, str) for key in content):
        raise WeightsError(
            f"{origin} holds no state dict (names and tensors): save model.state_dict() and give that file."
        )
    prefix = "module." if all(key.startswith("module.") for key in content) else ""
    state = {key.removeprefix(prefix): value for key, value in content.items() if isinstance(value, Tensor)}
    if not state:
        raise WeightsError(f"{origin} holds no tensors: save model.state_dict() and give that file.")
    return Checkpoint(state, origin, meta)
