"""Reads untrusted pickles as data: numbers, text, plain containers and numpy arrays; executes no code.

Time and memory are bounded by the size of the file: opcodes are counted, calls may copy only a multiple of the file's
bytes, and keys are limited to values with cheap hashes that do not collide.
"""

import io
import math
import os
import pickle
import re
import struct
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from resdet.errors import DataError, Error

MAX_OPCODES = 4_000_000  # CIFAR-100 has 0.3 million; each takes about a microsecond and at most 0.2 kB
MAX_DIMENSIONS = 64  # of a numpy array
MAX_COPIES = 4  # times that calls may copy the file's bytes; Python 3 writes an array as text, bytes and array
HASH_MODULUS = (1 << 61) - 1  # smaller integers have distinct hashes
MAX_REASON = 160  # maximum length of an error in a message


def load(source: str | os.PathLike | BinaryIO | bytes, encoding: str = "latin1", error: type[Error] = DataError) -> Any:
    """Loads the object in a pickle of any protocol, such as CIFAR's batches and the .pkl files of detectron2's model
    zoo.

    `encoding` decodes the byte strings of Python 2, as in `pickle.load`. A damaged file, or one with anything but plain
    values and numpy arrays of numbers or text, raises `error`; nothing that it names is imported or called.
    """
    name: object
    if isinstance(source, bytes):
        name, data = "The pickle", source
    elif isinstance(source, (str, os.PathLike)):
        name, data = source, _read(Path(source), error)
    else:
        name, data = getattr(source, "name", "The pickle"), source.read()
    try:
        return Reader(io.BytesIO(data), len(data), encoding).load()
    except Refused as refusal:
        raise error(
            f"{name} contains {refusal}, which is neither a plain value nor a numpy array; nothing was executed: "
            "use a file from a source you trust."
        ) from None
    except Damaged as problem:
        raise error(f"{name} is damaged or not a pickle ({problem}): download or copy it again.") from problem.__cause__


def _read(path: Path, error: type[Error]) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise error(f"{path} cannot be read ({problem.strerror}): check the path.") from problem


class Refused(Exception):
    """A pickle with objects other than data, or one that needs more time or memory than data does."""


class Damaged(Exception):
    """An invalid or truncated pickle; the text is a short reason."""


# Placeholder for numpy.ndarray in a pickle; the class itself would allocate any shape it is called with.
_NDARRAY = object()


def _text(value: str | bytes) -> str:
    """Decodes byte strings of Python 2, which `encoding="bytes"` keeps."""
    return value.decode("latin1") if isinstance(value, bytes) else value


def _dtype(code: str | bytes, align: bool = False, copy: bool = False) -> np.dtype:
    if not re.fullmatch(r"b1|[iufc]\d\d?|[SU][1-9]\d{0,8}", _text(code)):
        raise Refused(f"the numpy type {_text(code)[:20]!r}")
    return np.dtype(_text(code), copy=True)  # a copy, because _set_byte_order changes it


def _set_byte_order(dtype: Any, state: tuple) -> None:
    # numpy accepts any state, even one that declares bytes to be objects, so numpy itself must compute the state.
    version, order, *fields = state
    if any(field is not None for field in fields[:3]):
        raise Refused("a numpy type with fields")
    dtype.__setstate__(dtype.newbyteorder(_text(order)).__reduce__()[2])


def _checked_bytes(data: str | bytes | bytearray, dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """Returns the bytes of an array; raises a ValueError if their number does not match dtype and shape."""
    data = data.encode("latin1") if isinstance(data, str) else data
    if not (isinstance(data, (bytes, bytearray)) and isinstance(dtype, np.dtype)):
        raise ValueError("an array without bytes or type")
    if len(shape) > MAX_DIMENSIONS or any(type(length) is not int or not 0 <= length < 1 << 63 for length in shape):
        raise ValueError("an array of an invalid shape")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"{len(data)} bytes for an array of {dtype} and shape {shape}")
    return bytes(data)


def _empty_array(kind: object, shape: tuple[int, ...], code: str | bytes) -> np.ndarray:
    if kind is not _NDARRAY:
        raise Refused(f"an array of the kind {type(kind).__name__}")  # `kind` itself may be text of any length
    return np.empty(0, np.uint8)  # shape and dtype follow in its state


def _set_array(array: Any, state: tuple) -> None:
    version, shape, dtype, fortran_order, data = state
    array.__setstate__((1, shape, dtype, bool(fortran_order), _checked_bytes(data, dtype, shape)))


def _array_from_buffer(
    data: bytes | bytearray, dtype: np.dtype, shape: tuple[int, ...], order: Any, axes: Any = None
) -> np.ndarray:
    """`axes`: since numpy 2.3, an array that is contiguous after a permutation is pickled with its axes."""
    array = np.frombuffer(bytearray(_checked_bytes(data, dtype, shape)), dtype)
    return array.reshape(shape, order=order) if axes is None else array.reshape(shape).transpose(axes)


def _scalar(dtype: np.dtype, data: str | bytes) -> np.generic:
    return np.frombuffer(_checked_bytes(data, dtype, ()), dtype)[0]


def _bytes(text: str | bytes = "", encoding: str = "latin1") -> bytes:
    """Encodes bytes, which protocols 0 to 2 write as text."""
    if isinstance(text, bytes):
        return text
    if _text(encoding) not in ("latin1", "latin-1"):
        raise Refused(f"the codec {_text(encoding)[:20]!r}")
    return text.encode("latin1")


def _bytearray(*arguments: Any) -> bytearray:
    return bytearray(_bytes(*arguments))


def _checked_keys(keys: Iterable) -> None:
    """Refuses tuples, which hash all their items at each lookup, and numbers with hashes that can collide."""
    for key in keys:
        plain = key is None or isinstance(key, (str, bytes, float, np.integer))
        if not plain and not (isinstance(key, int) and abs(key) < HASH_MODULUS):
            raise Refused(f"a {type(key).__name__} as a key" if type(key) is not int else "a large integer as a key")


def _set(values: Sequence = ()) -> set:
    _checked_keys(values)
    return set(values)


def _frozenset(values: Sequence = ()) -> frozenset:
    return frozenset(_set(values))


def _ordered(pairs: Sequence[Sequence] = ()) -> OrderedDict:
    """`pairs`: the items, which protocols below 2 write as an argument."""
    items = [(key, value) for key, value in pairs]
    _checked_keys(key for key, _ in items)
    return OrderedDict(items)


GLOBALS = {
    ("builtins", "bytes"): _bytes,
    ("builtins", "bytearray"): _bytearray,
    ("builtins", "complex"): complex,
    ("builtins", "set"): _set,
    ("builtins", "frozenset"): _frozenset,
    ("collections", "OrderedDict"): _ordered,
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


_SIZED = (str, bytes, bytearray, list, tuple, dict, set, frozenset)


class _Counted(dict):
    """The table of opcodes; counts lookups."""

    left = MAX_OPCODES

    def __getitem__(self, opcode: int) -> Any:
        self.left -= 1
        if self.left < 0:
            raise Refused(f"more than {MAX_OPCODES:,} steps")
        return super().__getitem__(opcode)


# The standard library's unpickler in Python, which typeshed does not describe. The C version allocates any size that a
# file declares and calls any `__setstate__`, and neither can be overridden.
_Unpickler: Any = pickle._Unpickler


class Reader(_Unpickler):
    """Reads one pickle at the position of `file`; `size`: bytes of the data, `names`: values of the allowed globals."""

    dispatch: Any = dict(_Unpickler.dispatch)

    def __init__(self, file: Any, size: int, encoding: str = "latin1", names: Mapping[tuple[str, str], Any] = GLOBALS):
        super().__init__(file, encoding=encoding)
        self.dispatch = _Counted(type(self).dispatch)
        self.names = names
        self.allowance = MAX_COPIES * size

    def load(self) -> Any:
        try:
            return super().load()
        except Refused:
            raise
        except Exception as problem:  # a damaged pickle can raise any error
            raise Damaged(reason(problem)) from problem

    def find_class(self, module: str, name: str) -> Any:
        # Looks up whole names, never attributes such as "a.b" of STACK_GLOBAL.
        if (entry := (_FORMER_MODULES.get(module, module), name)) not in self.names:
            raise Refused(f"{module}.{name}"[:MAX_REASON])
        return self.names[entry]

    def spend(self, arguments: tuple) -> None:
        """Counts the items that a call copies."""
        if type(arguments) is not tuple:
            raise ValueError("a call without arguments")
        self.allowance -= len(arguments) + sum(len(value) for value in arguments if isinstance(value, _SIZED))
        if self.allowance < 0:
            raise Refused("copies larger than the file")

    def load_reduce(self) -> None:
        self.spend(self.stack[-1])
        super().load_reduce()

    def load_build(self) -> None:
        state = self.stack.pop()
        self.set_state(self.stack[-1], state)

    def set_state(self, target: Any, state: Any) -> None:
        if isinstance(target, np.ndarray):
            self.spend(state)
            _set_array(target, state)
        elif isinstance(target, np.dtype):
            _set_byte_order(target, state)
        else:
            raise Refused(f"a state for a {type(target).__name__}")

    def load_bytearray8(self) -> None:
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(size)))  # the inherited method allocates `size` bytes before it reads

    def load_put(self) -> None:
        number = int(self.readline())
        if not 0 <= number < 1 << 32:  # the range of the other PUT opcodes
            raise ValueError("an invalid memo index")
        self.memo[number] = self.stack[-1]

    def load_setitem(self) -> None:
        _checked_keys(self.stack[-2:-1])
        super().load_setitem()

    def load_setitems(self) -> None:
        _checked_keys(self.stack[::2])
        super().load_setitems()

    def load_dict(self) -> None:
        _checked_keys(self.stack[::2])
        super().load_dict()

    def load_additems(self) -> None:
        _checked_keys(self.stack)
        super().load_additems()

    def load_frozenset(self) -> None:
        _checked_keys(self.stack)
        super().load_frozenset()

    def load_inst(self) -> None:
        self.find_class(self.readline()[:-1].decode("ascii"), self.readline()[:-1].decode("ascii"))
        self.refuse()

    def refuse(self) -> None:
        raise Refused("objects of classes")

    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8
    dispatch[pickle.PUT[0]] = load_put
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.DICT[0]] = load_dict
    dispatch[pickle.ADDITEMS[0]] = load_additems
    dispatch[pickle.FROZENSET[0]] = load_frozenset
    dispatch[pickle.INST[0]] = load_inst
    for opcode in (pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2, pickle.EXT4):
        dispatch[opcode[0]] = refuse
    for opcode in (pickle.NEXT_BUFFER, pickle.READONLY_BUFFER):  # views of arrays that a later state could free
        dispatch[opcode[0]] = refuse


def reason(problem: Exception) -> str:
    """Returns a short text for an error."""
    if isinstance(problem, EOFError):
        return "it is truncated"
    return " ".join(f"{problem}".split())[:MAX_REASON] or type(problem).__name__
