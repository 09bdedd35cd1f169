"""Checks that malicious files are refused with a one-line error before they use much time or memory."""

import io
import json
import pickle
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from weights import hostile
from weights.hostile import ONE_AND_TOWER, TOWER, archive, safetensors_bytes, state_opcodes, tensor_opcodes, torch_bytes

import resdet
from resdet.errors import DataError, Error
from resdet.files import restricted_pickle
from resdet.weights import checkpoint_file, read, torch_files

STATE = {"fc.weight": torch.arange(12.0).reshape(3, 4), "fc.bias": torch.ones(3)}


def write(folder: Path, data: bytes, name: str = "file.pth") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def assert_refused(path: Path, *words: str, by=read) -> None:
    with pytest.raises(Error) as caught:
        by(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message and len(message.replace(str(path), "")) < 400
    assert all(word in message for word in words), message


# Pickles.


@pytest.mark.parametrize("way", ONE_AND_TOWER)
def test_tuples_as_keys_are_refused(way):
    with pytest.raises(DataError, match="contains a tuple as a key"):
        restricted_pickle.load(ONE_AND_TOWER[way])


@pytest.mark.parametrize(
    "key",
    [
        b"cbuiltins\ncomplex\nG" + bytes(8) + b"K\x01\x86R",
        b"\x8a\x08" + bytes(7) + b"\x20",  # 2**61: one of many integers with the hash of a small one
        b"cbuiltins\nfrozenset\n]\x85R",
    ],
    ids=["complex", "large", "frozenset"],
)
def test_keys_whose_hashes_collide_are_refused(key):
    with pytest.raises(DataError, match="contains a.* as a key"):
        restricted_pickle.load(b"\x80\x02}" + key + b"Ns.")


def test_plain_keys_are_read():
    content = {"a": 1, b"b": 2, 3: 4, 5.5: 6, None: 7, True: 8, np.int64(9): 10}
    assert restricted_pickle.load(pickle.dumps(content)) == content


def test_an_error_does_not_print_nested_tuples():
    data = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n" + TOWER + b")C\x01b\x87R."
    with pytest.raises(DataError, match="an array of the kind tuple"):
        restricted_pickle.load(data)


def test_memo_indices_are_bounded():
    with pytest.raises(DataError, match="an invalid memo index"):
        restricted_pickle.load(b"Np2305843009213693951\n.")


def test_the_number_of_steps_is_bounded(monkeypatch):
    monkeypatch.setattr(restricted_pickle._Counted, "left", 1000)
    assert restricted_pickle.load(b"N0" * 400 + b"N.") is None
    with pytest.raises(DataError, match="steps"):
        restricted_pickle.load(b"N0" * 600 + b"N.")


@pytest.mark.parametrize(
    "once",
    [
        b"cbuiltins\nbytearray\nh\x00\x85R0",
        b"c_codecs\nencode\nh\x01X\x06\0\0\0latin1\x86R0",
        b"cbuiltins\nset\nh\x02\x85R0",
    ],
    ids=["bytes", "text", "list"],
)
def test_repeated_copies_are_refused(once):
    """Copies a value of 100 kB a thousand times."""
    many = 100_000
    values = b"C" if many < 256 else b"B" + many.to_bytes(4, "little") + bytes(many)
    words = b"X" + many.to_bytes(4, "little") + b"a" * many
    data = b"\x80\x03" + values + b"q\x000" + words + b"q\x010](" + b"N" * many + b"eq\x020" + once * 1000 + b"N."
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="copies larger than the file"):
            restricted_pickle.load(data)
        assert tracemalloc.get_traced_memory()[1] < 10 * len(data)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("opcode", [b"\x97", b"\x98"])
def test_buffers_outside_the_pickle_are_refused(opcode):
    with pytest.raises(DataError, match="contains"):
        restricted_pickle.load(b"\x80\x05\x96" + bytes(8) + opcode + b".")


def test_an_array_of_a_thousand_dimensions_is_refused(tmp_path):
    from files.test_restricted_pickle import BYTE_ORDER, array_pickle, dtype_pickle

    shape = b"(" + b"\x8a\x07" + b"\x7f" * 7 + b"K\x00" + b"\x8a\x07" + b"\x7f" * 7 + b"K\x01" * 997 + b"t"
    with pytest.raises(DataError, match="an invalid shape"):
        restricted_pickle.load(array_pickle(shape, dtype_pickle("f4", BYTE_ORDER), b"C\x00"))


# Checkpoints: pickles of arrays and torch's two formats.


def holds_itself(key: bytes) -> bytes:
    return b"\x80\x02}q\x00" + key + b"h\x00s."


@pytest.mark.parametrize("wrap", [lambda data: data, archive], ids=["pkl", "pth"])
def test_a_wrapper_that_contains_itself_is_refused(tmp_path, wrap):
    assert_refused(write(tmp_path, wrap(holds_itself(hostile.text("model")))), "contains no state dict")


@pytest.mark.parametrize("way", ONE_AND_TOWER)
def test_tuples_as_keys_in_torch_files_are_refused(tmp_path, way):
    if way == "frozenset":
        pytest.skip("torch knows no frozenset")
    assert_refused(write(tmp_path, archive(b"\x80\x02" + ONE_AND_TOWER[way].removeprefix(b"\x80\x02"))), "a tuple")


EIGHT = {"data/0": bytes(8)}


@pytest.mark.parametrize(
    "tensor",
    [
        tensor_opcodes(b"K\x03\x85", b"K\x01\x85", b"K\x02"),
        tensor_opcodes(b"K\x02\x85", b"K\x02\x85", b"K\x02"),
        tensor_opcodes(b"K\x02\x85", b")", b"K\x02"),
        tensor_opcodes(b"J\xff\xff\xff\xff\x85", b"K\x01\x85", b"K\x02"),
        tensor_opcodes(b"K\x02\x85", b"J\xff\xff\xff\xff\x85", b"K\x02"),
        tensor_opcodes(b"K\x02\x85", b"K\x01\x85", b"J\xff\xff\xff\x7f"),
        tensor_opcodes(b"K\x02\x85", b"K\x01\x85", b"J\xff\xff\xff\xff"),
        tensor_opcodes(b"K\x02\x85", b"K\x01\x85", b"\x8a\x09" + bytes(8) + b"\x7f"),
        tensor_opcodes(b"(" + b"\x8a\x08" + bytes(7) + b"\x40" + b"K\x04t", b"K\x00K\x00\x86", b"K\x02"),
        tensor_opcodes(b"\x8a\x05\0\0\0\0\x01\x85", b"K\x00\x85", b"K\x02"),
        tensor_opcodes(b"(" + b"K\x01" * 200 + b"t", b"(" + b"K\x01" * 200 + b"t", b"K\x02"),
        tensor_opcodes(b"K\x02\x85", b"K\x01\x85", text := b"X\x01\0\0\0a"),
        tensor_opcodes(text, b"K\x01\x85", b"K\x02"),
        tensor_opcodes(TOWER, b"K\x01\x85", b"K\x02"),
    ],
)
def test_tensors_with_invalid_declarations_are_refused(tmp_path, tensor):
    assert_refused(write(tmp_path, archive(state_opcodes(tensor), **EIGHT)), "damaged")


def test_the_same_tensor_with_valid_declarations_is_read(tmp_path):
    whole = archive(state_opcodes(tensor_opcodes(b"K\x02\x85", b"K\x01\x85", b"K\x02")), **EIGHT)
    assert read(write(tmp_path, whole)).state["a"].tolist() == [0, 0]


def test_a_missing_storage_is_refused(tmp_path):
    assert_refused(
        write(tmp_path, archive(state_opcodes(tensor_opcodes(b")", b")", b"K\x01")))), "storage 0 is missing"
    )


def test_a_big_endian_archive_is_refused(tmp_path):
    whole = archive(state_opcodes(tensor_opcodes(b"K\x02\x85", b"K\x01\x85", b"K\x02")), byteorder=b"big", **EIGHT)
    assert_refused(write(tmp_path, whole), "big-endian")


@pytest.mark.parametrize(
    "call",
    [
        b"cbuiltins\nbytearray\nJ\0\0\0\x7f\x85R",
        b"ctorch\nFloatStorage\nJ\0\0\0\x7f\x85R",
        b"ctorch\nTensor\nJ\0\0\0\x7f\x85R",
        b"ctorch\nTensor\n" + TOWER + b"\x85R",
        b"ctorch.nn.parameter\nParameter\n" + TOWER + b"\x85R",
        b"ctorch\ndevice\n" + TOWER + b"\x85R",
    ],
)
def test_calls_that_allocate_memory_are_refused(tmp_path, call):
    assert_refused(write(tmp_path, archive(b"\x80\x02" + call + b".")))


def test_a_long_central_directory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(torch_files, "MAX_DIRECTORY", 500)
    assert_refused(write(tmp_path, archive(b"N.", **{f"data/{n}": b"" for n in range(20)})), "a central directory of")


def test_a_part_at_a_wrong_offset_is_refused(tmp_path):
    whole = archive(state_opcodes(tensor_opcodes(b"K\x02\x85", b"K\x01\x85", b"K\x02")), **EIGHT)
    with zipfile.ZipFile(io.BytesIO(whole)) as file:
        offset = file.getinfo("archive/data/0").header_offset
    assert_refused(write(tmp_path, whole[:offset] + b"xx" + whole[offset + 2 :]), "a part is not where")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "kind, make",
    [
        ("sparse", lambda: torch.eye(3).to_sparse()),
        ("without values", lambda: torch.empty(3, device="meta")),
        ("quantized", lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)),
    ],
)
def test_the_kind_of_an_unsupported_tensor_is_named(tmp_path, kind, make):
    assert_refused(write(tmp_path, torch_bytes({"a": make()})), f"a tensor that is {kind}")


@pytest.mark.parametrize("zipped", [True, False])
def test_both_formats_match_torch_load(tmp_path, zipped):
    base = torch.arange(24.0)
    content = {
        "model": {
            "view": base[2:8].reshape(2, 3).t(),
            "shared": base,
            "scalar": torch.tensor(3),
            "none": torch.zeros(0, 2),
        },
        "parameter": torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16)),
        "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"betas": (0.9, 0.99)}]},
        "plain": [None, True, "text", 2.5, {3: b"bytes"}],
        "random": torch.get_rng_state(),
    }
    path = write(tmp_path, torch_bytes(content, zipped))
    found, expected = torch_files.read(path), torch.load(path, weights_only=True)
    assert found["plain"] == expected["plain"] and found["optimizer"]["param_groups"] == [{"betas": (0.9, 0.99)}]
    for name, tensor in expected["model"].items():
        assert torch.equal(found["model"][name], tensor) and found["model"][name].stride() == tensor.stride()
    assert torch.equal(found["random"], expected["random"]) and torch.equal(found["parameter"], expected["parameter"])
    found["model"]["shared"][2] = 7
    assert found["model"]["view"][0, 0] == 7


def test_a_legacy_file_with_wrong_storage_sizes_is_refused(tmp_path):
    whole = torch_bytes({"a": torch.ones(3)}, False)
    assert_refused(write(tmp_path, whole[: -3 * 4]), "a storage is shorter than declared")
    count = whole.rindex((3).to_bytes(8, "little"))
    assert_refused(write(tmp_path, whole[:count] + b"\x04" + whole[count + 1 :]), "shorter than declared")


# safetensors


def test_a_long_safetensors_header_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_file, "MAX_HEADER", 100)
    header = {f"tensor{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(5)}
    assert_refused(write(tmp_path, safetensors_bytes(header)), "has a header of")


@pytest.mark.parametrize("dtype, size", [("C64", 8), ("F8_E4M3", 1), ("F4", 1), ("U16", 2)])
def test_unsupported_dtypes_are_refused(tmp_path, dtype, size):
    header = {"a": {"dtype": dtype, "shape": [2 if dtype == "F4" else 1], "data_offsets": [0, size]}}
    assert_refused(write(tmp_path, safetensors_bytes(header, bytes(size))), "a has the type", "float()")


# Tensors.


@pytest.mark.parametrize("kind", ["pth", "pkl", "safetensors"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_with_nan_or_infinity_are_refused(tmp_path, kind, value):
    broken = STATE | {"fc.scale": torch.tensor([1.0, value])}
    data = {
        "pth": lambda: torch_bytes(broken),
        "pkl": lambda: pickle.dumps({name: tensor.numpy() for name, tensor in broken.items()}),
        "safetensors": lambda: safetensors.torch.save(broken),
    }[kind]()
    assert_refused(write(tmp_path, data), "fc.scale contains NaN or infinity")


def test_large_values_are_read(tmp_path):
    """Reads finite values whose sum overflows."""
    path = write(tmp_path, torch_bytes({"a": torch.full((4,), 3e38), "b": torch.full((99,), 6e4, dtype=torch.float16)}))
    assert read(path).state["a"].tolist() == [pytest.approx(3e38)] * 4


def test_complex_tensors_are_refused(tmp_path):
    assert_refused(
        write(tmp_path, torch_bytes({"a": torch.ones(2, dtype=torch.complex64)})), "a has the type complex64"
    )
    assert_refused(write(tmp_path, pickle.dumps({"a": np.ones(2, np.complex64)})), "a has the type complex64")


def test_long_doubles_of_numpy_are_read(tmp_path):
    assert read(write(tmp_path, pickle.dumps({"a": np.ones(2, np.longdouble)}))).state["a"].dtype == torch.float64


@pytest.mark.parametrize("name", ["a\nb", "a" * 1000, "\x1b[31m", "\ud800"])
def test_unprintable_names_are_refused(tmp_path, name):
    assert_refused(write(tmp_path, pickle.dumps({name: np.ones(2)})), "is too long or not printable")


def test_too_many_tensors_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_file, "MAX_TENSORS", 3)
    assert_refused(write(tmp_path, torch_bytes({str(n): torch.ones(1) for n in range(4)})), "has 4 tensors")


# Files of other kinds; test_hostile_models.py tests whole models.


@pytest.mark.parametrize("kind", ["empty", "zeros", "ones", "text", "html", "lfs", "gzip", "zip", "npz", "script"])
@pytest.mark.filterwarnings("ignore:.torch.jit.script:FutureWarning")
def test_files_that_are_not_checkpoints_are_refused(tmp_path, kind):
    if kind == "script":
        path = tmp_path / "file.pth"
        torch.jit.script(torch.nn.ReLU()).save(path)
        return assert_refused(path, "TorchScript")
    buffer = io.BytesIO()
    np.savez(buffer, a=np.ones(3))
    content = {
        "empty": b"",
        "zeros": bytes(100),
        "ones": b"\xff" * 100,
        "text": b"weights\n",
        "html": b"<html>404: Not Found</html>",
        "lfs": b"version https://git-lfs.github.com/spec/v1\n",
        "gzip": b"\x1f\x8b" + bytes(9),
        "zip": b"PK\x05\x06" + bytes(18),
    }
    assert_refused(write(tmp_path, content.get(kind, buffer.getvalue())), "not a checkpoint", by=resdet.load)


def test_a_file_without_permission_is_an_error(tmp_path, monkeypatch):
    path = write(tmp_path, torch_bytes(STATE))

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert_refused(path, "Permission denied")


def test_text_metadata_of_other_programs_is_kept(tmp_path):
    """Keeps plain text of other programs under resdet's keys, and refuses invalid JSON of a list or dict."""
    header = {"__metadata__": {"experiment": "run 5", "classes": "80"}, **header_of_one()}
    assert read(write(tmp_path, safetensors_bytes(header, bytes(4)))).meta == {"experiment": "run 5", "classes": "80"}
    header["__metadata__"] = {"experiment": "{" * 9}
    assert_refused(
        write(tmp_path, safetensors_bytes(header, bytes(4))), "the metadata key experiment is not valid JSON"
    )
    header["__metadata__"] = {"experiment": json.dumps({}), "classes": "[" * 100_000}
    assert_refused(write(tmp_path, safetensors_bytes(header, bytes(4))), "the metadata key classes is not valid JSON")


def header_of_one() -> dict:
    return {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}


@pytest.mark.parametrize("keys", [0, [], ["0", 0], [{}], ["0", "1"], [True]], ids=str)
def test_a_legacy_file_with_a_wrong_list_of_storages_is_refused(tmp_path, keys):
    whole = torch_bytes({"a": torch.ones(3)}, False)
    start = whole.rindex(b"\x80\x02]q\x00")  # start of the list of storages
    assert_refused(write(tmp_path, whole[:start] + pickle.dumps(keys, 2) + bytes(99)), "damaged or not a checkpoint")
