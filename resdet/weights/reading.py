"""Reads checkpoint files as tensors and plain values alone; a file that carries code is refused."""

import json
import pickle
import warnings
import zipfile
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Mapping, Optional

import numpy as np
import torch
from torch import Tensor

from resdet import unpickle
from resdet.errors import WeightsError

DESCRIPTION = ("experiment", "classes", "category_ids", "normalise")  # what our own files say beside the tensors
OURS = "resdet"  # under which key of a state dict's own metadata they say it where another library reads the file too
WRAPPERS = ("model", "state_dict", "model_state_dict", "model_ema", "blobs")  # the last is Detectron's
HDF5, PICKLE = b"\x89HDF\r\n\x1a\n", b"\x80"
PROGRAM = "/models/model.json"  # ends the name of a part that only torch.export writes
OLD_TORCH = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # a pickle of one number, before the others


@dataclass
class Checkpoint:
    """Tensors by name, what else the file says, and what to call it in an error."""

    state: dict[str, Tensor]
    origin: str
    meta: dict[str, Any] = field(default_factory=dict)


def read(path: str | Path) -> Checkpoint:
    """A `.pth`, `.pt`, `.pkl` or `.safetensors` file, told apart by content.

    Wrappers such as {"model": …} or {"state_dict": …} are taken off; arrays of numpy become tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such file; give the path of a checkpoint, such as runs/NAME/best.pth.")
    if is_safetensors(path):
        return read_safetensors(path)
    with path.open("rb") as file:
        start = file.read(len(OLD_TORCH))
    if start.startswith(HDF5):
        raise WeightsError(
            f"{path} is a Keras file in HDF5: write it as .safetensors once, with the lines that docs/weights.md gives."
        )
    if start.startswith(PICKLE) and start != OLD_TORCH[: len(start)]:
        return unwrap(unpickle.load(path, error=WeightsError), path)
    return unwrap(read_torch(path), path)


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
    if not state:
        raise WeightsError(f"{path} holds no tensors: save model.state_dict() and give that file.")
    # Our own files carry the experiment and the class names as text; others carry whatever they like.
    ours = [key for key in DESCRIPTION if key in written] if "experiment" in written else []
    return Checkpoint(state, str(path), {**written, **{key: json.loads(written[key]) for key in ours}})


def read_torch(path: Path) -> Any:
    """What torch saved, through its loader that admits no code."""
    refuse_other_archives(path)
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


def refuse_other_archives(path: Path) -> None:
    """torch stores the parts of its archives as they are: those that swell, or lie over each other, are not its."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return  # no archive, or a damaged one: torch says which
    unpacked = sum(part.file_size for part in parts)
    if unpacked > path.stat().st_size:
        raise WeightsError(
            f"{path} would unpack to {unpacked:,} bytes, more than it has, which no checkpoint of torch's does: "
            "it is refused; fetch it from a source you trust."
        )
    if any(part.filename.endswith(PROGRAM) for part in parts):
        raise WeightsError(
            f"{path} is a program of torch.export and no checkpoint: torch.export.load runs it, after "
            "`import resdet.export`; give the checkpoint that it was made of."
        )


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
    return next((k for k in WRAPPERS if isinstance(content, dict) and isinstance(content.get(k), dict)), None)


def unwrap(content: Any, path: Path) -> Checkpoint:
    """The state dict inside what was saved."""
    meta = {}
    while inner := wrapper(content):
        meta |= {key: value for key, value in content.items() if key != inner}
        content = content[inner]
    if not isinstance(content, dict) or not content or not all(isinstance(key, str) for key in content):
        raise WeightsError(
            f"{path} holds no state dict (names and tensors): save model.state_dict() and give that file."
        )
    prefix = "module." if all(key.startswith("module.") for key in content) else ""
    state = {key.removeprefix(prefix): as_tensor(value) for key, value in content.items() if is_numbers(value)}
    if not state:
        raise WeightsError(f"{path} holds no tensors: save model.state_dict() and give that file.")
    refuse_absurd_sizes(state, path)
    return Checkpoint(state, str(path), meta | own_metadata(content))


def is_numbers(value: Any) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, np.ndarray) and value.dtype.kind in "bifu")


def as_tensor(value: Tensor | np.ndarray) -> Tensor:
    if isinstance(value, Tensor):
        return value
    return torch.from_numpy(np.ascontiguousarray(value, value.dtype.newbyteorder("=")).reshape(value.shape))


def own_metadata(content: Mapping) -> dict[str, Any]:
    """What we add to the metadata that torch's state dicts have, and that other libraries pass over."""
    attached = getattr(content, "_metadata", None) if isinstance(content, OrderedDict) else None
    found = attached.get(OURS) if isinstance(attached, dict) else None
    return found if isinstance(found, dict) else {}


def refuse_absurd_sizes(state: Mapping[str, Tensor], path: Path) -> None:
    """A tensor may declare more values than the file has bytes for: by strides of zero, or by a missing storage."""
    odd = [name for name, t in state.items() if t.layout != torch.strided or t.is_meta or t.is_quantized]
    if odd:
        raise WeightsError(f"{path}: {odd[0]} is no plain tensor (sparse, quantised or empty): save it as one.")
    size = path.stat().st_size
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in state.values()}
    total = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    if sum(storages.values()) > size or total > 2 * size:  # twice: weights that two layers share
        raise WeightsError(
            f"{path} declares {total:,} bytes of tensors and has {size:,}: it is refused; fetch it from a source "
            "you trust, or save model.state_dict() anew."
        )
