"""Reads checkpoint files as tensors and plain values alone; a file that carries code is refused."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resdet.errors import WeightsError
from resdet.files import restricted_pickle
from resdet.weights import description, torch_files
from resdet.weights.renames import DESCRIPTION, current_description, current_names
from resdet.weights.torch_files import LEGACY

OURS = "resdet"  # under which key of a state dict's own metadata our files tell what they are, for others to pass by
WRAPPERS = ("model", "state_dict", "model_state_dict", "model_ema", "blobs")  # the last is Detectron's
PICKLE = b"\x80"
OTHER_FILES = {  # how a file begins -> what it is
    b"\x89HDF\r\n\x1a\n": "a Keras file in HDF5; write it as .safetensors once, by the lines in docs/weights.md",
    b"\x08": "perhaps an ONNX file; name it .onnx",
    b"\x1f\x8b": "a gzip archive; unpack it first",
    b"\x93NUMPY": "an array of numpy; give the checkpoint it was taken from",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"<": "a web page; fetch the file itself",
    b"{": "JSON; give the file of weights that belongs to it",
    b"version https://git-lfs": "a pointer of Git LFS; fetch the file itself by `git lfs pull`",
}
MAX_HEADER = 1 << 23  # bytes of a safetensors file; those of ours have 0.1 million
MAX_TENSORS = 20_000  # cifar_resnet1202 has 7,000
MAX_NAME = 500
PLAIN_TYPES = (
    *(torch.float32, torch.float16, torch.bfloat16, torch.float64),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
)
SAFETENSORS_TYPES = ("F32", "F16", "BF16", "F64", "I64", "I32", "I16", "I8", "U8", "BOOL")
NUMBERS = "16, 32 or 64 bits, as by tensor.float()"


@dataclass
class Checkpoint:
    """Tensors by name, what else the file says, and what to call it in an error."""

    state: dict[str, Tensor]
    origin: str
    meta: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def description(self) -> description.Description:
        """What `meta` says, where the file is ours."""
        return description.read(self.meta, self.origin)


def read(path: str | Path) -> Checkpoint:
    """A `.pth`, `.pt`, `.pkl` or `.safetensors` file, told apart by content.

    Wrappers such as {"model": …} or {"state_dict": …} are taken off; arrays of numpy become tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such file; give the path of a checkpoint, such as runs/NAME/best.pth.")
    start = first_bytes(path)
    if is_safetensors(start, path.stat().st_size):
        return read_safetensors(path, start)
    if kind := next((kind for mark, kind in OTHER_FILES.items() if start.startswith(mark)), None):
        raise WeightsError(f"{path} is no checkpoint: it is {kind}.")
    if start.startswith(PICKLE) and start[: len(LEGACY)] != LEGACY[: len(start)]:
        return unwrap(restricted_pickle.load(path, error=WeightsError), path)
    return unwrap(read_torch(path), path)


def first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(64)
    except OSError as problem:
        raise WeightsError(f"{path} cannot be read ({problem.strerror}): check the path and its rights.") from None


def is_safetensors(start: bytes, size: int) -> bool:
    """A safetensors file begins with the length of its JSON header, whose first byte is a brace."""
    return len(start) >= 9 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") < size


def read_safetensors(path: Path, start: bytes) -> Checkpoint:
    from safetensors import SafetensorError, safe_open

    if (length := int.from_bytes(start[:8], "little")) > MAX_HEADER:
        raise WeightsError(f"{path} has a header of {length:,} bytes, and at most {MAX_HEADER:,} are read.")
    try:
        with safe_open(path, framework="pt") as file:
            for name in (names := file.keys()):
                if (dtype := file.get_slice(name).get_dtype()) not in SAFETENSORS_TYPES:
                    raise WeightsError(f"{path}: {shown(name)} is of type {dtype}: save numbers of {NUMBERS}.")
            state = {name: file.get_tensor(name) for name in names}
            written = file.metadata() or {}
    except SafetensorError as error:
        raise WeightsError(f"{path} is damaged ({restricted_pickle.reason(error)}): fetch or copy it again.") from None
    if not state:
        raise WeightsError(f"{path} holds no tensors: save model.state_dict() and give that file.")
    # Our own files carry the experiment and the class names as text; others carry whatever they like.
    ours = (*description.KEYS, *DESCRIPTION) if written.get("experiment", "").startswith("{") else ()
    meta = current_description(written | description.from_json(written, str(path), ours))
    return checked(Checkpoint(current_names(state), str(path), meta), path.stat().st_size)


def read_torch(path: str | Path) -> Any:
    """What torch saved, as tensors and plain values."""
    return torch_files.read(Path(path))


def wrapper(content: Any) -> str | None:
    """The key under which a training script put the state dict, if it is not the content itself."""
    return next((k for k in WRAPPERS if isinstance(content, dict) and isinstance(content.get(k), dict)), None)


def unwrap(content: Any, path: Path) -> Checkpoint:
    """The state dict inside what was saved."""
    meta = {}
    for _ in WRAPPERS:
        if inner := wrapper(content):
            meta |= {key: value for key, value in content.items() if key != inner}
            content = content[inner]
    if (
        not isinstance(content, dict)
        or not content
        or wrapper(content)
        or not all(isinstance(key, str) for key in content)
    ):
        raise WeightsError(
            f"{path} holds no state dict (names and tensors): save model.state_dict() and give that file."
        )
    prefix = "module." if all(key.startswith("module.") for key in content) else ""
    state = {key.removeprefix(prefix): as_tensor(value) for key, value in content.items() if is_numbers(value)}
    if not state:
        raise WeightsError(f"{path} holds no tensors: save model.state_dict() and give that file.")
    meta |= own_metadata(content)
    return checked(Checkpoint(current_names(state), str(path), current_description(meta)), path.stat().st_size)


def is_numbers(value: Any) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, np.ndarray) and value.dtype.kind in "bifuc")


def as_tensor(value: Tensor | np.ndarray) -> Tensor:
    if isinstance(value, Tensor):
        return value
    if value.dtype.itemsize > 8:  # numpy's long double, and complex numbers, which are refused by their name
        value = value.astype(np.complex128 if value.dtype.kind == "c" else np.float64)
    return torch.from_numpy(np.ascontiguousarray(value, value.dtype.newbyteorder("=")).reshape(value.shape))


def own_metadata(content: Mapping) -> dict[str, Any]:
    """What we add to the metadata that torch's state dicts have, and that other libraries pass over."""
    attached = getattr(content, "_metadata", None) if isinstance(content, OrderedDict) else None
    found = attached.get(OURS) if isinstance(attached, dict) else None
    return found if isinstance(found, dict) else {}


def checked(checkpoint: Checkpoint, size: int) -> Checkpoint:
    """A checkpoint of plain finite numbers under readable names, as large as its file."""
    origin, state = checkpoint.origin, checkpoint.state
    if len(state) > MAX_TENSORS:
        raise WeightsError(f"{origin} has {len(state):,} tensors, and at most {MAX_TENSORS:,} are read.")
    for name, tensor in state.items():
        if len(name) > MAX_NAME or not name.isprintable():
            raise WeightsError(f"{origin}: the name {shown(name)!a} of a tensor is too long, or no text.")
        if tensor.dtype not in PLAIN_TYPES:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise WeightsError(f"{origin}: {shown(name)} is of type {kind}: save numbers of {NUMBERS}.")
    total = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    if total > 2 * size:  # twice: weights that two layers share
        raise WeightsError(
            f"{origin} declares {total:,} bytes of tensors and has {size:,}: it is refused; fetch it from a source "
            "you trust, or save model.state_dict() anew."
        )
    if broken := next((name for name, tensor in state.items() if not is_finite(tensor)), None):
        raise WeightsError(
            f"{origin}: {shown(broken)} holds NaN or infinity, as after a training that diverged: give an earlier file."
        )
    return checkpoint


def is_finite(tensor: Tensor) -> bool:
    """A sum is the quicker check; one that overflows says nothing."""
    return not tensor.is_floating_point() or bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())


def shown(name: str) -> str:
    """A name of any length, shortened in the middle."""
    return name if len(name) <= 80 else f"{name[:38]}…{name[-38:]}"
