"""Pickles of other people, read as data: numbers, text, plain containers and numpy arrays, and nothing that runs."""

import io
import math
import os
import pickle
import re
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from resdet.errors import DataError, Error


def load(source: str | os.PathLike | BinaryIO | bytes, encoding: str = "latin1", error: type[Error] = DataError) -> Any:
    """The object in a pickle of any protocol, such as CIFAR's batches and the .pkl files of detectron2's model zoo.

    `encoding` is for the byte strings of Python 2, as in `pickle.load`. A file that is damaged, or asks for anything
    but plain values and numpy arrays of numbers or text, raises `error`; nothing that it names is imported or called.
    """
    if isinstance(source, bytes):
        name, data = "The pickle", source
    elif hasattr(source, "read"):
        name, data = getattr(source, "name", "The pickle"), source.read()
    else:
        name, data = source, _read(Path(source), error)
    try:
        return _Reader(io.BytesIO(data), encoding=encoding).load()
    except _Refused as refusal:
        raise error(
            f"{name} asks for {refusal}, which is neither a plain value nor a numpy array of such: "
            "nothing of it was run; use a file from a source you trust"
        ) from None
    except Exception as problem:  # damage can make the machine of pickles fail in any way
        why = "it ends too early" if isinstance(problem, EOFError) else problem
        raise error(f"{name} is a damaged pickle, or none ({why}): fetch it again") from problem


def _read(path: Path, error: type[Error]) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise error(f"{path} cannot be read ({problem.strerror}): check the path") from problem


class _Refused(Exception):
    """The file asks for what is not data."""


# What stands for numpy.ndarray where a pickle names it. The real class would allocate whatever shape it is called with.
_NDARRAY = object()


def _text(value: str | bytes) -> str:
    """What Python 2 wrote as a byte string, under `encoding="bytes"` too."""
    return value.decode("latin1") if isinstance(value, bytes) else value


def _dtype(code: str | bytes, align: bool = False, copy: bool = False) -> np.dtype:
    if not re.fullmatch(r"b1|[iufc]\d\d?|[SU][1-9]\d{0,8}", _text(code)):
        raise _Refused(f"the numpy type {code!r}")
    return np.dtype(_text(code), copy=True)  # a copy, because its byte order may be set afterwards


def _set_byte_order(dtype: np.dtype, state: tuple) -> None:
    # numpy believes a state, even one that declares bytes to be objects: so it gets one of its own making.
    version, order, *fields = state
    if any(field is not None for field in fields[:3]):
        raise _Refused("a numpy type with fields")
    dtype.__setstate__(dtype.newbyteorder(_text(order)).__reduce__()[2])


def _checked_bytes(data: str | bytes | bytearray, dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """The bytes of an array, when they are as many as its shape says."""
    data = data.encode("latin1") if isinstance(data, str) else data
    if not (isinstance(data, (bytes, bytearray)) and isinstance(dtype, np.dtype)):
        raise ValueError("an array without bytes or type")
    if any(type(length) is not int or length < 0 for length in shape):
        raise ValueError("an array of no possible shape")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"{len(data)} bytes for an array of {dtype} and shape {shape}")
    return bytes(data)


def _empty_array(kind: object, shape: tuple[int, ...], code: str | bytes) -> np.ndarray:
    if kind is not _NDARRAY:
        raise _Refused(f"an array of the kind {kind!r}")
    return np.empty(0, np.uint8)  # its state follows, and brings shape and type


def _set_array(array: np.ndarray, state: tuple) -> None:
    version, shape, dtype, fortran_order, data = state
    array.__setstate__((1, shape, dtype, bool(fortran_order), _checked_bytes(data, dtype, shape)))


def _array_from_buffer(data: bytes | bytearray, dtype: np.dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    return np.frombuffer(bytearray(_checked_bytes(data, dtype, shape)), dtype).reshape(shape, order=order)


def _scalar(dtype: np.dtype, data: str | bytes) -> np.generic:
    return np.frombuffer(_checked_bytes(data, dtype, ()), dtype)[0]


def _bytes(text: str | bytes = "", encoding: str = "latin1") -> bytes:
    """Protocols 0 to 2 write bytes as text."""
    if isinstance(text, bytes):
        return text
    if _text(encoding) not in ("latin1", "latin-1"):
        raise _Refused(f"the codec {encoding!r}")
    return text.encode("latin1")


def _bytearray(*arguments: str | bytes) -> bytearray:
    return bytearray(_bytes(*arguments))


_GLOBALS = {
    ("builtins", "bytes"): _bytes,
    ("builtins", "bytearray"): _bytearray,
    ("builtins", "complex"): complex,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _bytes,
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _dtype,
    ("numpy._core.multiarray", "_reconstruct"): _empty_array,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy._core.numeric", "_frombuffer"): _array_from_buffer,
}
_FORMER_MODULES = {
    "__builtin__": "builtins",
    "numpy.core.multiarray": "numpy._core.multiarray",
    "numpy.core.numeric": "numpy._core.numeric",
}


class _Reader(pickle._Unpickler):
    # The standard library's machine as it is written in Python. Its twin in C sets aside whatever memory a file
    # declares and calls any `__setstate__`; neither can be overridden there.
    dispatch = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        # Whole names are looked up, never attributes: "a.b" of STACK_GLOBAL leads nowhere.
        if (entry := (_FORMER_MODULES.get(module, module), name)) not in _GLOBALS:
            raise _Refused(f"{module}.{name}")
        return _GLOBALS[entry]

    def load_build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, np.ndarray):
            _set_array(target, state)
        elif isinstance(target, np.dtype):
            _set_byte_order(target, state)
        else:
            raise _Refused(f"a state for a {type(target).__name__}")

    def load_bytearray8(self) -> None:
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(size)))  # the inherited one sets `size` bytes aside before it reads

    def refuse(self) -> None:
        raise _Refused("objects of classes")

    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8
    for opcode in (pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2, pickle.EXT4):
        dispatch[opcode[0]] = refuse
