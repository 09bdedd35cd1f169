"""Files of torch.save, in both of its formats, read as tensors and plain values alone.

The format of today is a zip archive whose parts are stored as they are: a pickle, and the bytes of each storage. The
older one is a row of five pickles with the storages behind them. The pickles go through `resdet.files.restricted_pickle`, so that
nothing which a file names is imported or called, and every size that it declares is compared with its own before
memory is taken.
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
LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # a pickle of one number, before the others
MAX_DIRECTORY = 1 << 24  # bytes of an archive's list of parts: 60 for each tensor of torch's
LOCAL_HEADER = struct.Struct("<4s22xHH")  # of a part: signature, and the lengths of its name and of what follows that
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
OTHER_TENSORS = {  # how torch writes those that are more, or less, than an array of numbers
    ("torch._utils", "_rebuild_sparse_tensor"): "sparse",
    ("torch._utils", "_rebuild_qtensor"): "quantized",
    ("torch._utils", "_rebuild_nested_tensor"): "nested",
    ("torch._utils", "_rebuild_meta_tensor_no_storage"): "without values",
    ("torch._utils", "_rebuild_wrapper_subclass"): "of a class of its own",
    ("torch._utils", "_rebuild_device_tensor_from_numpy"): "of another device",
}
OTHER_ARCHIVES = {  # end of a part's name -> what has such a part, and what to do
    "/models/model.json": "a program of torch.export and no checkpoint: torch.export.load runs it, after "
    "`import resdet.export`; give the checkpoint that it was made of",
    "/constants.pkl": "a program of TorchScript and no checkpoint: torch.jit.load runs it; save its state_dict() and "
    "give that file",
}


class OtherTensor(Refused):
    """A tensor that is no plain array of numbers; the text says what it is instead."""


class Storage(NamedTuple):
    """The memory of one or more tensors, and the type that those of this reference have."""

    data: torch.UntypedStorage
    dtype: torch.dtype


def read(path: Path) -> Any:
    """What torch saved. A file that carries code, is damaged or is of another kind is a WeightsError."""
    try:
        with Directory(path.open("rb", buffering=0)) as file:
            size = path.stat().st_size
            return read_archive(file, size, path) if file.peek(2).startswith(ZIP) else read_legacy(file, size)
    except OtherTensor as kind:
        raise WeightsError(f"{path} holds a tensor that is {kind}: save plain ones, as by tensor.to_dense().") from None
    except Refused as refusal:
        raise WeightsError(
            f"{path} carries Python objects and not tensors alone ({refusal}); it is refused because loading it could "
            "run code: save its state_dict() and give that file."
        ) from None
    except Damaged as problem:
        raise WeightsError(f"{path} is damaged or no checkpoint ({problem}): fetch or copy it again.") from None
    except OSError as problem:
        raise WeightsError(f"{path} cannot be read ({problem.strerror}): check the path and its rights.") from None


# The machine

Find = Callable[[str, int, torch.dtype], torch.UntypedStorage]  # by key, count and type


def counter(counts: dict | None = None) -> Counter:
    if not isinstance(counts, (dict, type(None))):
        raise ValueError("a counter of no numbers")
    return Counter(counts)


PLAIN_NAMES = {
    **restricted_pickle.GLOBALS,
    ("collections", "Counter"): counter,
    ("torch", "Size"): tuple,
    ("torch", "device"): torch.device,
    ("torch", "Tensor"): "torch.Tensor",  # names alone: the classes would make whatever they are called with
    ("torch.nn.parameter", "Parameter"): "torch.nn.Parameter",
    **{("torch", str(dtype).removeprefix("torch.")): dtype for dtype in (*DTYPES.values(), *OTHER_DTYPES)},
    **{(module, name): dtype for name, dtype in DTYPES.items() for module in ("torch", "torch.cuda", "torch.storage")},
}


class TensorReader(restricted_pickle.Reader):
    """Reads a pickle of `length` bytes, in a file of `size`, whose tensors refer to storages: `find` gives them."""

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
        """("storage", type, key, device, count) and in the older format what part of another one it is."""
        kind, dtype, key, _, count, *view = reference
        typed = isinstance(dtype, torch.dtype) and type(key) is str and type(count) is int
        if kind != "storage" or not typed or not 0 <= count < 1 << 40:
            raise ValueError("a reference to no storage")
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
            raise ValueError("a tensor of no possible shape")
        if any(type(number) is not int or not 0 <= number < 1 << 40 for number in numbers):
            raise ValueError("a tensor of no possible shape")
        count = math.prod(size)
        last = offset + sum((length - 1) * step for length, step in zip(size, stride)) + 1 if count else 0
        if last * dtype.itemsize > storage.data.nbytes():
            raise ValueError("a tensor that is larger than its storage")
        self.declared += count * dtype.itemsize
        if self.declared > 2 * self.size:  # twice: weights that two layers share
            raise ValueError(f"declares {self.declared:,} bytes of tensors and has {self.size:,}")
        return torch.empty(0, dtype=dtype).set_(storage.data, offset, size, stride)

    def parameter(self, tensor: Tensor, *_: Any) -> Tensor:
        return tensor

    def with_attributes(self, make: Callable, kind: Any, arguments: tuple, state: Any) -> Tensor:
        """A tensor to which somebody added attributes, which are left out."""
        if make not in (self.tensor, self.tensor_of_type, self.parameter):
            raise OtherTensor("of a class of its own")
        return make(*arguments)

    def set_state(self, target: Any, state: Any) -> None:
        if not isinstance(target, OrderedDict):
            return super().set_state(target, state)
        if isinstance(state, dict) and "_metadata" in state:  # a state dict's
            target._metadata = state["_metadata"]


# The format of today


class Directory(io.BufferedReader):
    """An archive, of which zipfile reads what it says that its list of parts is long."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > MAX_DIRECTORY:
            raise zipfile.BadZipFile(f"a list of parts of {size:,} bytes")
        return super().read(size)


def read_archive(file: Directory, size: int, path: Path) -> Any:
    parts = parts_of(file, size, path)
    root = next((name.removesuffix("data.pkl") for name in parts if name.endswith("/data.pkl")), None)
    if root is None:
        raise Damaged("an archive without the data.pkl that torch writes")
    if f"{root}byteorder" in parts and filled(file, parts[f"{root}byteorder"], size).numpy().tobytes() == b"big":
        raise Damaged("of a machine whose numbers have their bytes the other way round")
    storages: dict[str, torch.UntypedStorage] = {}

    def find(key: str, count: int, dtype: torch.dtype) -> torch.UntypedStorage:
        part = parts.get(f"{root}data/{key}")
        if part is None or part.file_size < count * dtype.itemsize:
            raise ValueError(f"storage {key[:20]} is missing or shorter than declared")
        if key not in storages:
            storages[key] = filled(file, part, size).untyped_storage()
        return storages[key]

    data = filled(file, parts[f"{root}data.pkl"], size).numpy().tobytes()
    return TensorReader(io.BytesIO(data), len(data), size, find).load()


def parts_of(file: Directory, size: int, path: Path) -> dict[str, zipfile.ZipInfo]:
    """The parts by name. torch stores them as they are: those that swell, or lie over each other, are not its."""
    try:
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, struct.error) as problem:
        raise Damaged(restricted_pickle.reason(problem)) from None
    unpacked = sum(part.file_size for part in parts)
    if unpacked > size:
        raise WeightsError(
            f"{path} would unpack to {unpacked:,} bytes, more than it has, which no checkpoint of torch's does: "
            "it is refused; fetch it from a source you trust."
        )
    for part in parts:
        for ending, kind in OTHER_ARCHIVES.items():
            if part.filename.endswith(ending):
                raise WeightsError(f"{path} is {kind}.")
    return {part.filename: part for part in parts if part.compress_type == zipfile.ZIP_STORED}


def filled(file: Directory, part: zipfile.ZipInfo, size: int) -> Tensor:
    """A part's bytes. Its checksum is passed by: torch can be told to leave it out."""
    file.seek(part.header_offset)
    header = file.read(LOCAL_HEADER.size)
    if len(header) < LOCAL_HEADER.size:
        raise Damaged("a part beyond its end")
    signature, name, extra = LOCAL_HEADER.unpack(header)
    start = part.header_offset + LOCAL_HEADER.size + name + extra
    if signature != b"PK\x03\x04" or start + part.file_size > size:
        raise Damaged("a part that is not where its list of parts has it")
    memory = torch.empty(part.file_size, dtype=torch.uint8)
    file.seek(start)
    file.readinto(memory.numpy())
    return memory


# The older format


def read_legacy(file: BinaryIO, size: int) -> Any:
    if not size:
        raise Damaged("it is empty")
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[: len(LEGACY)] != LEGACY:
            raise Damaged("not of torch.save")
        for _ in range(3):  # a magic number, the version, and the sizes of types on the machine
            restricted_pickle.Reader(data, size).load()
        storages = LaterStorages(size)
        content = TensorReader(data, size, size, storages.find).load()
        storages.fill(restricted_pickle.Reader(data, size).load(), data)
    return content


class LaterStorages:
    """Those that tensors refer to before their bytes come."""

    def __init__(self, size: int):
        self.size, self.declared = size, 0
        self.found: dict[str, tuple[Tensor, int]] = {}  # bytes and count by key

    def find(self, key: str, count: int, dtype: torch.dtype) -> torch.UntypedStorage:
        if key not in self.found:
            self.declared += count * dtype.itemsize
            if self.declared > self.size:
                raise ValueError(f"declares {self.declared:,} bytes of tensors and has {self.size:,}")
            self.found[key] = torch.empty(count * dtype.itemsize, dtype=torch.uint8), count
        return self.found[key][0].untyped_storage()

    def fill(self, keys: Any, data: mmap.mmap) -> None:
        """With what follows the list of their keys: the count and the bytes of each."""
        listed = isinstance(keys, list) and all(type(key) is str for key in keys)
        if not listed or set(keys) != self.found.keys():
            raise Damaged(f"declares {self.declared:,} bytes of tensors and has others")
        for key in keys:
            memory, count = self.found[key]
            if int.from_bytes(data.read(8), "little") != count or data.tell() + len(memory) > self.size:
                raise Damaged("a storage that is shorter than declared")
            memory.numpy()[:] = np.frombuffer(data, np.uint8, len(memory), data.tell())
            data.seek(len(memory), os.SEEK_CUR)
