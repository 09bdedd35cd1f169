"""Checks that benign pickles load as with the standard library, and that malicious ones execute nothing."""

import codecs
import collections
import copyreg
import io
import os
import pickle
import random
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from resdet.errors import DataError, WeightsError
from resdet.files import restricted_pickle

PLAIN = {
    "none": None,
    "numbers": [True, False, 0, -1, 1 << 40, 1 << 300, 2.5, 1 + 2j],
    "text": "résidu",
    "bytes": [b"", b"\x00\xff", bytearray(b"ab")],
    "containers": ((), (1,), {1, 2}, frozenset("ab"), {"a": {"b": []}}),
    "ordered": collections.OrderedDict(b=1, a=2),
}
ARRAYS = [
    np.arange(6, dtype=np.uint8).reshape(2, 3),
    np.asfortranarray(np.arange(6.0, dtype=np.float32).reshape(2, 3)),
    np.arange(24.0).reshape(2, 3, 4).transpose(2, 0, 1),
    np.arange(4, dtype=">i4"),
    np.array([True, False]),
    np.array([1 + 2j], np.complex64),
    np.zeros((0, 3), np.float16),
    np.array(7, np.int64),
    np.array(["a", "bcd"]),
    np.array([b"a", b"bcd"]),
    np.array(["a", "bcd"]).astype(">U3"),
]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_are_loaded(protocol):
    assert restricted_pickle.load(pickle.dumps(PLAIN, protocol)) == PLAIN


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_are_loaded(protocol):
    data = pickle.dumps(ARRAYS, protocol)
    for expected, found in zip(pickle.loads(data), restricted_pickle.load(data), strict=True):
        assert type(found) is np.ndarray and found.dtype == expected.dtype and found.flags.writeable
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_scalars_and_dtypes_are_loaded(protocol):
    values = [np.float32(0.1), np.int64(-3), np.bool_(True), np.str_("ab"), np.dtype("u1"), np.dtype(">f8")]
    found = restricted_pickle.load(pickle.dumps(values, protocol))
    assert found == values and [type(value) for value in found] == [type(value) for value in values]


def test_loading_does_not_change_numpy_dtypes():
    restricted_pickle.load(pickle.dumps(np.arange(4, dtype=">i4")))
    assert np.dtype("i4").isnative


def test_shared_objects_stay_shared():
    array = np.arange(3)
    first, second = restricted_pickle.load(pickle.dumps([array, array]))
    assert first is second


# Written by Python 2 with an old numpy: byte strings (U, T), numpy.core, align and copy as integers.
PYTHON2 = (
    b"\x80\x02}q\x01(U\x06labelsq\x02]q\x03(K\x06K\x09eU\x04dataq\x04cnumpy.core.multiarray\n_reconstruct\nq\x05"
    b"cnumpy\nndarray\nq\x06K\x00\x85U\x01b\x87R(K\x01K\x02K\x02\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
    b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T\x04\x00\x00\x00\x00\x7f\x80\xfftbu."
)


def test_python2_pickles_in_both_encodings():
    found = restricted_pickle.load(PYTHON2)
    assert found["labels"] == [6, 9]
    np.testing.assert_array_equal(found["data"], np.array([[0, 127], [128, 255]], np.uint8))
    as_bytes = restricted_pickle.load(PYTHON2, encoding="bytes")
    np.testing.assert_array_equal(as_bytes[b"data"], found["data"])


def test_loads_from_path_string_and_file(tmp_path):
    file = tmp_path / "a.pkl"
    file.write_bytes(pickle.dumps([1]))
    assert (
        restricted_pickle.load(file)
        == restricted_pickle.load(str(file))
        == restricted_pickle.load(io.BytesIO(file.read_bytes()))
        == [1]
    )


class Trap:
    """Creates a file when it is instantiated or receives a state."""

    def __new__(cls, path, **_):
        Path(path).touch()
        return super().__new__(cls)

    def __setstate__(self, path):
        Path(path).touch()


class Inert:
    __setstate__ = Trap.__setstate__


class Calls:
    """An object that is pickled as a call of the given function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


HERE = __name__.encode()
HOSTILE = {
    "reduce": lambda path: b"cos\nmkdir\n(" + text(path) + b"tR.",
    "system": lambda path: b"cposix\nsystem\n(" + text(f"touch '{path}'") + b"tR.",
    "inst": lambda path: b"(" + text(path) + b"ios\nmkdir\n.",
    "obj": lambda path: b"(cos\nmkdir\n" + text(path) + b"o.",
    "newobj": lambda path: b"c%s\nTrap\n" % HERE + text(path) + b"\x85\x81.",
    "newobj_ex": lambda path: b"\x80\x04c%s\nTrap\n" % HERE + text(path) + b"\x85}\x92.",
    "build": lambda path: b"c%s\nInert\n)\x81" % HERE + text(path) + b"b.",
    "stack_global": lambda path: b"\x80\x04" + text("os") + text("mkdir") + b"\x93" + text(path) + b"\x85R.",
    "dotted": lambda path: b"\x80\x04" + text("shutil") + text("os.mkdir") + b"\x93" + text(path) + b"\x85R.",
    "through numpy": lambda path: (
        b"\x80\x04" + text("numpy.lib._npyio_impl") + text("os.mkdir") + b"\x93" + text(path) + b"\x85R."
    ),
    "from the memo": lambda path: b"cos\nmkdir\nq\x000(h\x00" + text(path) + b"o.",
    "eval": lambda path: b"cbuiltins\neval\n" + text(f"__import__('os').mkdir({path!r})") + b"\x85R.",
    "python 2's exec": lambda path: b"c__builtin__\nexec\n" + text(f"import os; os.mkdir({path!r})") + b"\x85R.",
    "nested": lambda path: pickle.dumps(Calls(pickle.loads, pickle.dumps(Calls(os.mkdir, path)))),
    "in an object array": lambda path: pickle.dumps(np.array([Calls(os.mkdir, path)], dtype=object)),
    "in a dictionary's key": lambda path: pickle.dumps({Calls(os.mkdir, path): 1}),
    "extension": lambda path: b"\x80\x02\x82\xf0" + text(path) + b"\x85R.",
    "codec": lambda path: b"c_codecs\nencode\n" + text(path) + text("resdet_trap") + b"\x86R.",
}


@pytest.fixture
def registries():
    """Registers an extension code and a codec that run code, as a library could."""

    def encode(path, errors="strict"):
        return os.mkdir(path), 0

    def trap(name):
        return codecs.CodecInfo(encode, None) if name == "resdet_trap" else None

    codecs.register(trap)
    copyreg.add_extension("os", "mkdir", 0xF0)
    yield
    copyreg.remove_extension("os", "mkdir", 0xF0)
    codecs.unregister(trap)


@pytest.mark.parametrize("way", HOSTILE)
def test_malicious_pickles_execute_nothing(way, tmp_path, registries):
    sentinel = tmp_path / "executed"
    file = tmp_path / "evil.pkl"
    file.write_bytes(HOSTILE[way](str(sentinel)))
    with pytest.raises(DataError, match="evil.pkl contains"):
        restricted_pickle.load(file)
    assert not sentinel.exists()
    try:
        pickle.loads(file.read_bytes())
    except Exception:  # some pickles fail after they have created the file
        pass
    assert sentinel.exists()  # the attack works with the standard library


@pytest.mark.parametrize(
    "data, asked",
    [
        (b"cos\nsystem\n.", "os.system"),
        (b"(ios\nsystem\n.", "os.system"),
        (b"\x80\x04" + text("numpy.core.multiarray") + text("os.system") + b"\x93.", "numpy.core.multiarray.os.system"),
        (b"\x80\x04" + text("numpy") + text("dtype.type") + b"\x93.", "numpy.dtype.type"),
        (b"cnumpy\nload\n.", "numpy.load"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n.", "torch._utils._rebuild_tensor_v2"),
        (b"cbuiltins\ngetattr\n.", "builtins.getattr"),
        (b"\x80\x04" + text("builtins") + text("set.__class__") + b"\x93.", "builtins.set.__class__"),
    ],
)
def test_the_error_names_file_and_global(data, asked, tmp_path):
    file = tmp_path / "model.pkl"
    file.write_bytes(data)
    with pytest.raises(WeightsError) as caught:
        restricted_pickle.load(file, error=WeightsError)
    assert str(file) in str(caught.value) and f"contains {asked}," in str(caught.value)


def array_pickle(shape: bytes, dtype: bytes, data: bytes) -> bytes:
    """Returns opcodes of an array; the arguments are opcodes that push the values of its state."""
    reconstruct = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + text("b") + b"tR"
    return b"\x80\x02" + reconstruct + b"(K\x01" + shape + dtype + b"\x89" + data + b"tb."


def dtype_pickle(code: str, state: bytes) -> bytes:
    return b"cnumpy\ndtype\n(" + text(code) + b"\x89\x88tR(" + state + b"tb"


BYTE_ORDER = b"K\x03" + text("<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00"
DECLARES_OBJECTS = b"K\x03" + text("|") + b"NNNK\x08K\x08K\x3f"
FIELDS = b"K\x03" + text("|") + b"N(" + text("a") + b"t}K\x08K\x08K\x3f"
EIGHT = b"C\x08\x01\x02\x03\x04\x05\x06\x07\x08"


def test_a_dtype_that_declares_objects_gives_numbers():
    """Reads eight bytes as a number, which numpy would take for the address of an object."""
    found = restricted_pickle.load(array_pickle(b"K\x01\x85", dtype_pickle("u8", DECLARES_OBJECTS), EIGHT))
    assert not found.dtype.hasobject
    np.testing.assert_array_equal(found, np.frombuffer(EIGHT[2:], np.uint64))


@pytest.mark.parametrize(
    "dtype", [dtype_pickle("O8", BYTE_ORDER), dtype_pickle("V8", FIELDS), dtype_pickle("u8", FIELDS)]
)
def test_dtypes_that_hold_objects_are_refused(dtype):
    with pytest.raises(DataError, match="contains"):
        restricted_pickle.load(array_pickle(b"K\x01\x85", dtype, EIGHT))


@pytest.mark.parametrize("opcode", [b")\x81", b")}\x92"], ids=["NEWOBJ", "NEWOBJ_EX"])
def test_instantiation_opcodes_are_refused(opcode):
    with pytest.raises(DataError, match="contains objects of classes"):
        restricted_pickle.load(b"\x80\x04ccollections\nOrderedDict\n" + opcode + b".")


@pytest.mark.parametrize("state", [b"}" + text("a") + b"K\x01s", b"N}" + text("a") + b"K\x01s\x86"])
def test_a_state_for_a_function_is_refused(state):
    with pytest.raises(DataError, match="a state for a function"):
        restricted_pickle.load(b"\x80\x02cnumpy\ndtype\n" + state + b"b.")
    assert not hasattr(restricted_pickle._dtype, "a")


U64 = struct.Struct("<Q").pack
ABSURD = {
    "bytes": b"\x80\x04\x8e" + U64(1 << 60) + b"ab.",
    "bytes, believable": b"\x80\x04\x8e" + U64(1 << 33) + b"ab.",
    "text": b"\x80\x04\x8d" + U64(1 << 60) + b"ab.",
    "bytearray": b"\x80\x05\x96" + U64(1 << 60) + b"ab.",
    "bytearray, believable": b"\x80\x05\x96" + U64(1 << 31) + b"ab.",
    "python 2 string": b"T\xff\xff\xff\x7fab.",
    "integer": b"\x8b\xff\xff\xff\x7fab.",
    "array": array_pickle(b"\x8a\x08" + U64(1 << 60) + b"\x85", dtype_pickle("f4", BYTE_ORDER), EIGHT),
    "array of overflowing size": array_pickle(
        b"\x8a\x08" + U64(1 << 62) + b"K\x08\x86", dtype_pickle("f4", BYTE_ORDER), b"C\x00"
    ),
    "array of negative size": array_pickle(b"J\xff\xff\xff\xff\x85", dtype_pickle("f4", BYTE_ORDER), EIGHT),
    "array whose bytes are a number": array_pickle(b"K\x01\x85", dtype_pickle("f4", BYTE_ORDER), b"J\0\0\0\x7f"),
    "ndarray called": b"cnumpy\nndarray\n\x8a\x08" + U64(1 << 31) + b"\x85\x85R.",
    "bytearray called": b"cbuiltins\nbytearray\nJ\x00\x00\x00\x7f\x85R.",
    "bytes called": b"cbuiltins\nbytes\nJ\x00\x00\x00\x7f\x85R.",
}


@pytest.mark.parametrize("what", ABSURD)
def test_huge_sizes_allocate_nothing(what):
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="damaged"):
            restricted_pickle.load(ABSURD[what])
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "data", [b"K\x07r\xff\xff\xff\x7f.", b"\x80\x04\x95" + U64(1 << 60) + b"K\x07."], ids=["memo", "frame"]
)
def test_unused_huge_declarations_allocate_nothing(data):
    tracemalloc.start()
    try:
        assert restricted_pickle.load(data) == 7
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_every_truncation_is_an_error(protocol):
    whole = pickle.dumps([PLAIN, ARRAYS], protocol)
    for length in range(0, len(whole), 7):
        with pytest.raises(DataError, match="The pickle"):
            restricted_pickle.load(whole[:length])


def test_damage_gives_data_or_an_error():
    rng = random.Random(0)
    whole = pickle.dumps([PLAIN, ARRAYS], 2)
    for _ in range(1500):
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(len(whole))] = rng.randrange(256)
        try:
            restricted_pickle.load(bytes(damaged))
        except DataError:
            pass


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(DataError, match="nowhere.pkl cannot be read"):
        restricted_pickle.load(tmp_path / "nowhere.pkl")
