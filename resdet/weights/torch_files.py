"""Reads both formats of torch.save as tensors and plain values.

The current format is an uncompressed zip archive of a pickle and the bytes of each storage. The legacy format is five
pickles followed by the storages. Pickles are read by `resdet.files.restricted_pickle`: nothing that a file names is
imported or called, and declared sizes are compared with the size of the file before memory is allocated.
"""

import io
import math
import mmap
import os
import struct
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from resdet.errors import WeightsError
from resdet.files import restricted_pickle
from resdet.files.restricted_pickle import Damaged, Refused

ZIP = b"PK"
LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # the first pickle: a magic number
MAX_DIRECTORY = 1 << 24  # bytes of an archive's central directory; torch writes 60 per tensor
LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, length of the name, length of the extra field
DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
}
OTHER_DTYPES = (torch.uint16, torch.uint32, torch.uint64, torch.float8_e4m3fn, torch.float8_e5m2, torch.complex32)
OTHER_TENSORS = {  # torch's functions for tensors other than plain arrays -> kind of tensor
    ("torch._utils", "_rebuild_sparse_tensor"): "sparse",
    ("torch._utils", "_rebuild_qtensor"): "quantized",
    ("torch._utils", "_rebuild_nested_tensor"): "nested",
    ("torch._utils", "_rebuild_meta_tensor_no_storage"): "without values",
    ("torch._utils", "_rebuild_wrapper_subclass"): "of a custom class",
    ("torch._utils", "_rebuild_device_tensor_from_numpy"): "on another device",
}
PROGRAM = (
    "a torch.export program, not a checkpoint: load it with torch.export.load after `import resdet.export`, or give "
    "the checkpoint that it was exported from"
)
OTHER_ARCHIVES = {  # suffix of a part's name -> kind of file and remedy
    "/models/model.json": PROGRAM,
    "serialized_exported_program.json": PROGRAM,  # by torch 2.6
    "/constants.pkl": "a TorchScript program, not a checkpoint: load it with torch.jit.load, save its state_dict() and "
    "give that file",
}


class OtherTensor(Refused):
    """A tensor other than a plain array of numbers; the text names its kind."""


class Storage(NamedTuple):
    """Memory shared by tensors, and the element type of this reference to it."""

    data: torch.UntypedStorage
    dtype: torch.dtype


def read(path: Path) -> Any:
    """Reads a file of torch.save; files that contain code, damaged files and other files raise a WeightsError."""
    try:
        with Archive(path.open("rb", buffering=0)) as file:
            size = path.stat().st_size
            return read_archive(file, size, path) if file.peek(2).startswith(ZIP) else read_legacy(file, size)
    except OtherTensor as kind:
        raise WeightsError(
            f"{path} contains a tensor that is {kind}: save plain tensors, for example with tensor.to_dense()."
        ) from None
    except Refused as refusal:
        raise WeightsError(
            f"{path} contains Python objects ({refusal}), and loading them could run code: save its state_dict() and "
            "give that file."
        ) from None
    except Damaged as problem:
        raise WeightsError(f"{path} is damaged or not a checkpoint ({problem}): download or copy it again.") from None
    except OSError as problem:
        raise WeightsError(f"{path} cannot be read ({problem.strerror}): check its permissions.") from None


# The unpickler

Find = Callable[[str, int, torch.dtype], torch.UntypedStorage]  # key, number of elements, type -> storage


def counter(counts: dict | None = None) -> Counter:
    if not isinstance(counts, (dict, type(None))):
        raise ValueError("a Counter without counts")
    return Counter(counts)


PLAIN_NAMES = {
    **restricted_pickle.GLOBALS,
    ("collections", "Counter"): counter,
    ("torch", "Size"): tuple,
    ("torch", "device"): torch.device,
    ("torch", "Tensor"): "torch.Tensor",  # a string, since the class itself could be called
    ("torch.nn.parameter", "Parameter"): "torch.nn.Parameter",
    **{("torch", str(dtype).removeprefix("torch.")): dtype for dtype in (*DTYPES.values(), *OTHER_DTYPES)},
    **{(module, name): dtype for name, dtype in DTYPES.items() for module in ("torch", "torch.cuda", "torch.storage")},
}


class TensorReader(restricted_pickle.Reader):
    """Reads a pickle of `length` bytes in a file of `size` bytes; `find` returns the storages of its tensors."""

    def __init__(self, file: Any, length: int, size: int, find: Find):
        tensors = {
            "_rebuild_tensor": self.tensor,
            "_rebuild_tensor_v2": self.tensor,
            "_rebuild_tensor_v3": self.tensor_of_type,
            "_rebuild_parameter": self.parameter,
            "_rebuild_parameter_with_state": self.parameter,
        }
        named = {("torch._utils", name): make for name, make in tensors.items()}
        named["torch._tensor", "_rebuild_from_type_v2"] = self.with_attributes
        super().__init__(file, length, names=PLAIN_NAMES | named)
        self.find, self.size, self.declared = find, size, 0

    def find_class(self, module: str, name: str) -> Any:
        if kind := OTHER_TENSORS.get((module, name)):
            raise OtherTensor(kind)
        return super().find_class(module, name)

    def persistent_load(self, reference: tuple) -> Storage:
        """`reference`: ("storage", type, key, device, count), followed in the legacy format by an optional view."""
        kind, dtype, key, _, count, *view = reference
        typed = isinstance(dtype, torch.dtype) and type(key) is str and type(count) is int
        if kind != "storage" or not typed or not 0 <= count < 1 << 40:
            raise ValueError("an invalid reference to a storage")
        data = self.find(key, count, dtype)
        if view and view[0] is not None:
            _, offset, length = view[0]
            data = data[offset * dtype.itemsize : (offset + length) * dtype.itemsize]
        return Storage(data, dtype)

    def tensor(self, storage: Storage, offset: int, size: tuple, stride: tuple, *_: Any) -> Tensor:
        return self.tensor_of_type(storage, offset, size, stride, False, None, storage.dtype)

    def tensor_of_type(
        self, storage: Storage, offset: int, size: tuple, stride: tuple, grad: bool, hooks: Any, dtype: torch.dtype, *_
    ) -> Tensor:
        numbers = (offset, *size, *stride)
        if len(size) != len(stride) or len(size) > restricted_pickle.MAX_DIMENSIONS:
            raise ValueError("a tensor of an invalid shape")
        if any(type(number) is not int or not 0 <= number < 1 << 40 for number in numbers):
            raise ValueError("a tensor of an invalid shape")
        count = math.prod(size)
        last = offset + sum((length - 1) * step for length, step in zip(size, stride)) + 1 if count else 0
        if last * dtype.itemsize > storage.data.nbytes():
            raise ValueError("a tensor larger than its storage")
        self.declared += count * dtype.itemsize
        if self.declared > 2 * self.size:  # twice, since two layers may share weights
            raise ValueError(f"it declares {self.declared:,} bytes of tensors but has {self.size:,}")
        return torch.empty(0, dtype=dtype).set_(storage.data, offset, size, stride)

    def parameter(self, tensor: Tensor, *_: Any) -> Tensor:
        return tensor

    def with_attributes(self, make: Callable, kind: Any, arguments: tuple, state: Any) -> Tensor:
        """Builds a tensor without attributes that were added to it."""
        if make not in (self.tensor, self.tensor_of_type, self.parameter):
            raise OtherTensor("of a custom class")
        return make(*arguments)

    def set_state(self, target: Any, state: Any) -> None:
        if not isinstance(target, OrderedDict):
            return super().set_state(target, state)
        if isinstance(state, dict) and "_metadata" in state:  # of a state dict
            target._metadata = state["_metadata"]  # type: ignore[attr-defined]  # an attribute that torch adds


# The current format


class Archive(io.BufferedReader):
    """Limits the size of the central directory, which zipfile reads as a whole."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > MAX_DIRECTORY:
            raise zipfile.BadZipFile(f"a central directory of {size:,} bytes")
        return super().read(size)


def read_archive(file: Archive, size: int, path: Path) -> Any:
    parts = parts_of(file, size, path)
    root = next((name.removesuffix("data.pkl") for name in parts if name.endswith("/data.pkl")), None)
    if root is None:
        raise Damaged("the archive has no data.pkl")
    if f"{root}byteorder" in parts and read_part(file, parts[f"{root}byteorder"], size).numpy().tobytes() == b"big":
        raise Damaged("its numbers are big-endian")
    storages: dict[str, torch.UntypedStorage] = {}

    def find(key: str, count: int, dtype: torch.dtype) -> torch.UntypedStorage:
        part = parts.get(f"{root}data/{key}")
        if part is None or part.file_size < count * dtype.itemsize:
            raise ValueError(f"storage {key[:20]} is missing or shorter than declared")
        if key not in storages:
            storages[key] = read_part(file, part, size).untyped_storage()
        return storages[key]

    data = read_part(file, parts[f"{root}data.pkl"], size).numpy().tobytes()
    return TensorReader(io.BytesIO(data), len(data), size, find).load()


def parts_of(file: Archive, size: int, path: Path) -> dict[str, zipfile.ZipInfo]:
    """Returns uncompressed parts by name; refuses or drops compressed and overlapping parts; torch writes neither."""
    try:
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, struct.error) as problem:
        raise Damaged(restricted_pickle.reason(problem)) from None
    unpacked = sum(part.file_size for part in parts)
    if unpacked > size:
        raise WeightsError(
            f"{path} unpacks to {unpacked:,} bytes but has {size:,}, which torch never writes: use a file from a "
            "source you trust."
        )
    for part in parts:
        for ending, kind in OTHER_ARCHIVES.items():
            if part.filename.endswith(ending):
                raise WeightsError(f"{path} is {kind}.")
    return {part.filename: part for part in parts if part.compress_type == zipfile.ZIP_STORED}


def read_part(file: Archive, part: zipfile.ZipInfo, size: int) -> Tensor:
    """Reads the bytes of a part. Ignores the checksum, which torch may omit."""
    file.seek(part.header_offset)
    header = file.read(LOCAL_HEADER.size)
    if len(header) < LOCAL_HEADER.size:
        raise Damaged("a part lies beyond the end of the file")
    signature, name, extra = LOCAL_HEADER.unpack(header)
    start = part.header_offset + LOCAL_HEADER.size + name + extra
    if signature != b"PK\x03\x04" or start + part.file_size > size:
        raise Damaged("a part is not where the central directory says")
    memory = torch.empty(part.file_size, dtype=torch.uint8)
    file.seek(start)
    file.readinto(memory.numpy().data)
    return memory


# The legacy format


def read_legacy(file: BinaryIO, size: int) -> Any:
    if not size:
        raise Damaged("it is empty")
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[: len(LEGACY)] != LEGACY:
            raise Damaged("it was not written by torch.save")
        for _ in range(3):  # magic number, version, sizes of types
            restricted_pickle.Reader(data, size).load()
        storages = DeferredStorages(size)
        content = TensorReader(data, size, size, storages.find).load()
        storages.fill(restricted_pickle.Reader(data, size).load(), data)
    return content


class DeferredStorages:
    """Storages that tensors refer to before their bytes are read."""

    def __init__(self, size: int):
        self.size, self.declared = size, 0
        self.storages: dict[str, tuple[Tensor, int]] = {}  # key -> bytes, number of elements

    def find(self, key: str, count: int, dtype: torch.dtype) -> torch.UntypedStorage:
        if key not in self.storages:
            self.declared += count * dtype.itemsize
            if self.declared > self.size:
                raise ValueError(f"it declares {self.declared:,} bytes of tensors but has {self.size:,}")
            self.storages[key] = torch.empty(count * dtype.itemsize, dtype=torch.uint8), count
        return self.storages[key][0].untyped_storage()

    def fill(self, keys: Any, data: mmap.mmap) -> None:
        """Reads the number of elements and the bytes of each storage, which follow the list of keys."""
        listed = isinstance(keys, list) and all(type(key) is str for key in keys)
        if not listed or set(keys) != self.storages.keys():
            raise Damaged("its list of storages differs from those its tensors use")
        for key in keys:
            memory, count = self.storages[key]
            if int.from_bytes(data.read(8), "little") != count or data.tell() + len(memory) > self.size:
                raise Damaged("a storage is shorter than declared")
            memory.numpy()[:] = np.frombuffer(data, np.uint8, len(memory), data.tell())
            data.seek(len(memory), os.SEEK_CUR)
