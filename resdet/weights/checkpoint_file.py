"""Reads checkpoint files as tensors and plain values; files that contain code are refused."""

import os
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from resdet.errors import WeightsError
from resdet.files import restricted_pickle
from resdet.weights import description, torch_files
from resdet.weights.renames import DESCRIPTION, current_description, current_names
from resdet.weights.torch_files import LEGACY

T = TypeVar("T")
OURS = "resdet"  # key of resdet's metadata in the metadata of a state dict, which other libraries ignore
WRAPPERS = ("model", "state_dict", "model_state_dict", "model_ema", "blobs")  # `blobs` is Detectron's
WRAPPED = re.compile(r"((module|_orig_mod)\.)*")  # prefixes of DistributedDataParallel and torch.compile
PICKLE = b"\x80"
OTHER_FILES = {  # first bytes of a file -> its type and the remedy
    b"\x89HDF\r\n\x1a\n": "a Keras file in HDF5; convert it to .safetensors as shown in docs/weights.md",
    b"\x08": "probably an ONNX file; rename it to .onnx",
    b"\x1f\x8b": "a gzip archive; unpack it first",
    b"\x93NUMPY": "a numpy array; give the checkpoint it was taken from",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"<?xml": "probably an OpenVINO file; rename it to .xml",
    b"<": "a web page; download the file itself",
    b"{": "a JSON file; give the weights file that belongs to it",
    b"version https://git-lfs": "a Git LFS pointer; download the file with `git lfs pull`",
}
MAX_HEADER = 1 << 23  # bytes of a safetensors header; resdet writes about 0.1 million
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
    """Tensors by name, metadata, and the name of the file for errors."""

    state: dict[str, Tensor]
    origin: str
    meta: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def description(self) -> description.Description:
        """`meta`, validated; empty for files of other libraries."""
        return description.read(self.meta, self.origin)


def read(path: str | Path) -> Checkpoint:
    """Reads a `.pth`, `.pt`, `.pkl` or `.safetensors` file; the format is recognized by content.

    Wrappers such as {"model": …} or {"state_dict": …} are removed; numpy arrays become tensors. Any unreadable or
    unsafe file raises a WeightsError.
    """
    path = Path(path)
    if path.is_dir():
        raise WeightsError(f"{path} is a folder: give the path of a checkpoint in it, such as best.pth.")
    if not path.is_file():
        raise WeightsError(f"{path}: no such file; give the path of a checkpoint, such as runs/NAME/best.pth.")
    start = first_bytes(path)
    if is_safetensors(start, path.stat().st_size):
        return read_safetensors(path, start)
    if kind := next((kind for mark, kind in OTHER_FILES.items() if start.startswith(mark)), None):
        raise WeightsError(f"{path} is not a checkpoint but {kind}.")
    if start.startswith(PICKLE) and start[: len(LEGACY)] != LEGACY[: len(start)]:
        return unwrap(restricted_pickle.load(path, error=WeightsError), path)
    return unwrap(torch_files.read(path), path)


def first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(64)
    except OSError as problem:
        raise WeightsError(f"{path} cannot be read ({problem.strerror}): check its permissions.") from None


def is_safetensors(start: bytes, size: int) -> bool:
    """Whether a file starts with the length of a JSON header and its opening brace."""
    return len(start) >= 9 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") < size


def read_safetensors(path: Path, start: bytes) -> Checkpoint:
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load

    if (length := int.from_bytes(start[:8], "little")) > MAX_HEADER:
        raise WeightsError(f"{path} has a header of {length:,} bytes; the limit is {MAX_HEADER:,}: save it again.")
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():
                if (dtype := file.get_slice(name).get_dtype()) not in SAFETENSORS_TYPES:
                    raise WeightsError(f"{path}: {shorten(name)} has the type {dtype}: save numbers of {NUMBERS}.")
            metadata = file.metadata() or {}
        # The tensors of `file` would be memory-mapped: if another program truncates the file, reading them kills the
        # process.
        state = load(path.read_bytes())
    except SafetensorError as error:
        raise WeightsError(
            f"{path} is damaged ({restricted_pickle.reason(error)}): download or copy it again."
        ) from None
    if not state:
        raise WeightsError(f"{path} contains no tensors: save model.state_dict() and give that file.")
    # Only files of resdet have JSON values.
    keys = (*description.KEYS, *DESCRIPTION) if metadata.get("experiment", "").startswith("{") else ()
    meta = current_description(metadata | description.from_json(metadata, str(path), keys))
    return checked(Checkpoint(current_names(without_wrappers(state)), str(path), meta), path.stat().st_size)


def wrapper(content: Any) -> str | None:
    """Returns the key of the state dict in a training script's checkpoint; None for a bare state dict."""
    return next((k for k in WRAPPERS if isinstance(content, dict) and isinstance(content.get(k), dict)), None)


def unwrap(content: Any, path: Path) -> Checkpoint:
    """Extracts the state dict from a checkpoint; the entries around it become metadata."""
    meta: dict[str, Any] = {}
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
            f"{path} contains no state dict (names and tensors): save model.state_dict() and give that file."
        )
    state = {key: as_tensor(value) for key, value in without_wrappers(content).items() if is_numbers(value)}
    if not state:
        raise WeightsError(f"{path} contains no tensors: save model.state_dict() and give that file.")
    meta |= attached_metadata(content)
    return checked(Checkpoint(current_names(state), str(path), current_description(meta)), path.stat().st_size)


def without_wrappers(state: Mapping[str, T]) -> dict[str, T]:
    """Returns the state dict without the prefixes of wrapper modules."""
    prefix = cast(re.Match, WRAPPED.match(os.path.commonprefix(list(state))))[0]
    return {name.removeprefix(prefix): value for name, value in state.items()}


def is_numbers(value: Any) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, np.ndarray) and value.dtype.kind in "bifuc")


def as_tensor(value: Tensor | np.ndarray) -> Tensor:
    if isinstance(value, Tensor):
        return value
    if value.dtype.itemsize > 8:  # long double, or a complex type, which `checked` refuses by name
        value = value.astype(np.complex128 if value.dtype.kind == "c" else np.float64)
    return torch.from_numpy(np.ascontiguousarray(value, value.dtype.newbyteorder("=")).reshape(value.shape))


def attached_metadata(content: Mapping) -> dict[str, Any]:
    """Returns resdet's metadata within the metadata of a state dict."""
    attached = getattr(content, "_metadata", None) if isinstance(content, OrderedDict) else None
    metadata = attached.get(OURS) if isinstance(attached, dict) else None
    return metadata if isinstance(metadata, dict) else {}


def checked(checkpoint: Checkpoint, size: int) -> Checkpoint:
    """Refuses unprintable names, unusual types, non-finite numbers, and tensors larger than the file (`size` bytes)."""
    origin, state = checkpoint.origin, checkpoint.state
    if len(state) > MAX_TENSORS:
        raise WeightsError(f"{origin} has {len(state):,} tensors; the limit is {MAX_TENSORS:,}: save fewer.")
    for name, tensor in state.items():
        if len(name) > MAX_NAME or not name.isprintable():
            raise WeightsError(
                f"{origin}: the tensor name {shorten(name)!a} is too long or not printable: save model.state_dict()."
            )
        if tensor.dtype not in PLAIN_TYPES:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise WeightsError(f"{origin}: {shorten(name)} has the type {kind}: save numbers of {NUMBERS}.")
    total = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    if total > 2 * size:  # twice, since two layers may share weights
        raise WeightsError(
            f"{origin} declares {total:,} bytes of tensors but has {size:,}: save model.state_dict() again, or use a "
            "file from a source you trust."
        )
    if broken := next((name for name, tensor in state.items() if not is_finite(tensor)), None):
        raise WeightsError(
            f"{origin}: {shorten(broken)} contains NaN or infinity; the training may have diverged: give an earlier "
            "checkpoint."
        )
    return checkpoint


def is_finite(tensor: Tensor) -> bool:
    """Checks the sum first, which is faster; since a sum may overflow, a non-finite one is checked value by value."""
    return not tensor.is_floating_point() or bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())


def shorten(name: str) -> str:
    """Shortens a name to at most 80 characters by omitting its middle."""
    return name if len(name) <= 80 else f"{name[:38]}…{name[-38:]}"
