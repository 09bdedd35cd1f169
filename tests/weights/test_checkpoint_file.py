"""Checks that only tensors are read; code, damage and files that are not checkpoints are refused with a short error."""

import io
import json
import pickle
import random
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save as safetensors_bytes

from resdet.errors import WeightsError
from resdet.weights import read

STATE = {"fc.weight": torch.arange(12.0).reshape(3, 4), "fc.bias": torch.ones(3, dtype=torch.bfloat16)}


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, sentinel: Path):
        self.sentinel = sentinel

    def __reduce__(self):
        return Path.touch, (self.sentinel,)


def torch_bytes(content, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def write(folder: Path, data: bytes, name: str = "file.pth") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def assert_is_state(state: dict) -> None:
    assert state.keys() == STATE.keys()
    assert all(torch.equal(state[name], STATE[name]) and state[name].dtype == STATE[name].dtype for name in STATE)


def assert_refused(path: Path, *words: str) -> None:
    """Asserts that the error is one line that names the file."""
    with pytest.raises(WeightsError) as caught:
        read(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    assert all(word in message for word in words), message


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"model": state, "epoch": 3},
        lambda state: {"state_dict": state, "arch": "resnet50", "optimizer": {"state": {0: torch.ones(2)}}},
        lambda state: {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}},
        lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
        lambda state: {"model": {f"_orig_mod.{name}": tensor for name, tensor in state.items()}},
        lambda state: {f"_orig_mod.module.{name}": tensor for name, tensor in state.items()},
        lambda state: {"model": {"state_dict": state}},
    ],
)
def test_wrappers_are_removed(tmp_path, wrap, zipped):
    assert_is_state(read(write(tmp_path, torch_bytes(wrap(STATE), zipped))).state)


def test_a_model_beside_a_tensor_is_found(tmp_path):
    """Reads a checkpoint that stores the step as a tensor, as some trainers do."""
    assert_is_state(read(write(tmp_path, torch_bytes({"model": STATE, "step": torch.tensor(7)}))).state)


def test_other_values_are_kept_as_metadata(tmp_path):
    checkpoint = read(write(tmp_path, torch_bytes({"model": STATE, "classes": ["cat", "dog"], "epoch": 3})))
    assert checkpoint.meta == {"classes": ["cat", "dog"], "epoch": 3}


def test_module_is_a_prefix_only_if_every_name_has_it(tmp_path):
    state = {"module.a": torch.ones(1), "b": torch.ones(1)}
    assert read(write(tmp_path, torch_bytes(state))).state.keys() == state.keys()


def test_safetensors_of_a_compiled_net_have_no_prefix(tmp_path):
    state = {f"_orig_mod.{name}": tensor for name, tensor in STATE.items()}
    assert_is_state(read(write(tmp_path, safetensors_bytes(state), "weights.safetensors")).state)


def test_tensors_do_not_change_with_their_file(tmp_path):
    """Checks that tensors are not mapped: a process ends if another program cuts its mapped file short."""
    path = write(tmp_path, safetensors_bytes({"a": torch.ones(2**16)}))
    state = read(path).state
    path.write_bytes(safetensors_bytes({"a": torch.zeros(2**16)}))
    assert state["a"].sum() == 2**16


def test_safetensors_are_read_with_any_file_name(tmp_path):
    checkpoint = read(write(tmp_path, safetensors_bytes(STATE, {"from": "a test"}), "weights.bin"))
    assert_is_state(checkpoint.state)
    assert checkpoint.meta == {"from": "a test"}


@pytest.mark.parametrize("make", [torch_bytes, lambda trap: torch_bytes(trap, False), pickle.dumps])
@pytest.mark.parametrize("wrap", [lambda trap: trap, lambda trap: {"model": STATE, "args": trap}])
def test_code_is_refused_and_not_run(tmp_path, make, wrap):
    sentinel = tmp_path / "ran"
    path = write(tmp_path, make(wrap(Trap(sentinel))))
    assert_refused(path)
    assert not sentinel.exists()
    pickle.loads(pickle.dumps(Trap(sentinel)))
    assert sentinel.exists(), "the trap does not work, so that this test shows nothing"


def test_a_pickled_module_is_refused_with_advice(tmp_path):
    assert_refused(write(tmp_path, torch_bytes(torch.nn.Linear(2, 2))), "Python objects", "save its state_dict()")


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_truncated_files_are_refused(tmp_path, kind):
    whole = {"zip": torch_bytes(STATE), "legacy": torch_bytes(STATE, False), "safetensors": safetensors_bytes(STATE)}[
        kind
    ]
    for length in range(0, len(whole), max(1, len(whole) // 60)):
        # A truncated name in the legacy format is refused as code.
        assert_refused(write(tmp_path, whole[:length]), *([] if kind == "legacy" else ["damaged"]))


def test_random_bytes_are_refused(tmp_path):
    generator = random.Random(0)
    for length in [1, 2, 8, 9, 64, 1000]:
        for _ in range(60):
            assert_refused(write(tmp_path, generator.randbytes(length)))


@pytest.mark.parametrize("zipped", [True, False])
def test_flipped_bytes_give_tensors_or_an_error(tmp_path, zipped):
    """Reads files with random bytes replaced: any exception must be a WeightsError of one line."""
    whole, generator = torch_bytes(STATE, zipped), random.Random(1)
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(4):
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        try:
            read(write(tmp_path, bytes(damaged)))
        except WeightsError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(
    "content", [3, "text", [torch.ones(2)], {}, {"epoch": 3}, {"model": {"lr": 0.1}}, {0: torch.ones(2)}]
)
def test_torch_files_without_a_state_dict_are_refused(tmp_path, content):
    assert_refused(write(tmp_path, torch_bytes(content)), "contains no")


def test_a_torch_export_program_is_named(tmp_path):
    path = tmp_path / "program.pt2"
    torch.export.save(torch.export.export(torch.nn.ReLU(), (torch.ones(2),)), path)
    assert_refused(path, "is a torch.export program")
    with zipfile.ZipFile(path, "w") as archive:  # as written by torch 2.6
        archive.writestr("serialized_exported_program.json", "{}")
    assert_refused(path, "is a torch.export program")


def test_a_missing_file_is_an_error(tmp_path):
    assert_refused(tmp_path / "nowhere.pth", "no such file")
    assert_refused(tmp_path, "is a folder: give the path of a checkpoint in it, such as best.pth")


# Pickles of arrays: files of detectron2's zoo, Detectron and MSRA.

ARRAYS = {name: tensor.float().numpy() for name, tensor in STATE.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"model": state, "__author__": "a test", "matching_heuristics": True},
        lambda state: {"blobs": state, "cfg": "MODEL: {}"},
    ],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_pickled_arrays_become_tensors(tmp_path, wrap, protocol):
    state = read(write(tmp_path, pickle.dumps(wrap(ARRAYS), protocol), "model.pkl")).state
    assert state.keys() == ARRAYS.keys()
    assert all(np.array_equal(state[name].numpy(), ARRAYS[name]) for name in ARRAYS)


def test_arrays_of_any_byte_order_shape_and_type(tmp_path):
    arrays = {
        "big": np.arange(6, dtype=">f4").reshape(2, 3),
        "single": np.array(7, np.int64),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "half": np.ones((2, 0), np.float16),
        "text": np.array(["no", "numbers"]),
    }
    state = read(write(tmp_path, pickle.dumps(arrays), "model.pkl")).state
    assert state.keys() == arrays.keys() - {"text"}
    for name, tensor in state.items():
        assert tensor.shape == arrays[name].shape and np.array_equal(tensor.numpy(), arrays[name])


def test_other_values_of_a_pickle_are_kept_as_metadata(tmp_path):
    content = {"model": ARRAYS, "__author__": "a test", "classes": ["cat"]}
    assert read(write(tmp_path, pickle.dumps(content), "m.pkl")).meta == {"__author__": "a test", "classes": ["cat"]}


def test_truncated_and_damaged_pickles_are_refused(tmp_path):
    whole = pickle.dumps({"model": ARRAYS}, 2)
    for length in range(1, len(whole), 7):
        assert_refused(write(tmp_path, whole[:length], "model.pkl"))


@pytest.mark.parametrize("content", [{}, {"model": {}}, {"model": {"lr": 0.1}}, [ARRAYS], {0: ARRAYS["fc.bias"]}])
def test_pickles_without_a_state_dict_are_refused(tmp_path, content):
    assert_refused(write(tmp_path, pickle.dumps(content), "model.pkl"), "contains no")


def test_keras_in_hdf5_is_refused_with_advice(tmp_path):
    assert_refused(write(tmp_path, b"\x89HDF\r\n\x1a\n" + bytes(64), "resnet50.h5"), "docs/weights.md")


# Files that declare more data than they hold.


def rezipped(data: bytes, compression: int = zipfile.ZIP_STORED, change=lambda name, part: part) -> bytes:
    """Rewrites a torch archive with its parts changed or compressed."""
    source, target = zipfile.ZipFile(io.BytesIO(data)), io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as archive:
        for name in source.namelist():
            archive.writestr(name, change(name, source.read(name)))
    return target.getvalue()


def replaced(old: bytes, new: bytes):
    def change(name: str, part: bytes) -> bytes:
        assert not name.endswith("data.pkl") or old in part
        return part.replace(old, new) if name.endswith("data.pkl") else part

    return change


def test_a_rewritten_archive_is_read(tmp_path):
    assert_is_state(read(write(tmp_path, rezipped(torch_bytes(STATE)))).state)


def test_a_compressed_archive_is_refused(tmp_path):
    """Refuses 2 MB of zeros compressed to less than 20 kB, which torch itself would unpack."""
    bomb = rezipped(torch_bytes({"a": torch.zeros(500_000)}), zipfile.ZIP_DEFLATED)
    assert len(bomb) < 20_000 and torch.load(io.BytesIO(bomb), weights_only=True)["a"].shape == (500_000,)
    assert_refused(write(tmp_path, bomb), "unpacks to 2,0")


def test_overlapping_parts_are_refused(tmp_path):
    """Refuses an archive whose directory lists the same bytes under a hundred names."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("archive/data/0", bytes(10_000))
        info = archive.infolist()[0]
        for n in range(1, 100):
            copy = zipfile.ZipInfo(f"archive/data/{n}")
            copy.header_offset, copy.file_size, copy.compress_size, copy.CRC = (
                0,
                info.file_size,
                info.file_size,
                info.CRC,
            )
            archive.filelist.append(copy)
        archive._didModify = True
    assert len(target.getvalue()) < 30_000
    assert_refused(write(tmp_path, target.getvalue()), "unpacks to 1,000,000")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_storage_shorter_than_declared_is_refused(tmp_path, zipped):
    """Declares a million or two billion values where the storage holds twelve."""
    whole = torch_bytes({"a": torch.arange(12.0)}, zipped)
    for declared in (b"J\x00\x00\x10\x00", b"J\x00\x00\x00\x7f"):
        damaged = rezipped(whole, change=replaced(b"K\x0ct", declared + b"t")) if zipped else None
        damaged = damaged or whole.replace(b"K\x0c", declared, 1)
        assert_refused(write(tmp_path, damaged), "damaged")


def test_a_tensor_larger_than_its_storage_is_refused(tmp_path):
    """Enlarges the declared shape of a tensor beyond its storage, in both formats."""
    for zipped in (True, False):
        whole, old, new = torch_bytes({"a": torch.ones(3, 4)}, zipped), b"K\x03K\x04\x86", b"M\xe8\x03M\xe8\x03\x86"
        damaged = rezipped(whole, change=replaced(old, new)) if zipped else whole.replace(old, new)
        assert_refused(write(tmp_path, damaged))


def test_an_unlisted_storage_is_refused(tmp_path):
    """Empties the list of storages of a legacy file, which would leave the tensor's memory uninitialized."""
    whole = torch_bytes({"a": torch.ones(1000, 1000)}, False)
    start = whole.rindex(b"\x80\x02]q\x00")  # start of the list of storages
    assert_refused(write(tmp_path, whole[:start] + pickle.dumps([], 2)), "declares 4,000,000 bytes")


def test_a_tensor_repeated_by_strides_is_refused(tmp_path):
    """Refuses four bytes expanded by zero strides, which a copy would turn into four gigabytes."""
    content = {"fc.weight": torch.ones(1).expand(1_000_000, 1000)}
    assert_refused(write(tmp_path, torch_bytes(content)), "declares 4,000,000,000 bytes of tensors")


def test_weights_shared_by_two_layers_are_read(tmp_path):
    shared = torch.ones(100, 100)
    assert read(write(tmp_path, torch_bytes({"a": shared, "b": shared}))).state.keys() == {"a", "b"}


def test_a_slice_of_a_larger_tensor_is_read(tmp_path):
    state = read(write(tmp_path, torch_bytes({"a": torch.arange(1000.0)[10:20]}))).state
    assert state["a"].tolist() == list(range(10, 20))


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 48]}},
        {"a": {"dtype": "F32", "shape": [12], "data_offsets": [0, 1 << 50]}},
        {name: {"dtype": "F32", "shape": [12], "data_offsets": [0, 48]} for name in "ab"},
        {},
    ],
    ids=["shape", "length", "overlap", "nothing"],
)
def test_safetensors_with_invalid_declarations_are_refused(tmp_path, header):
    text = json.dumps(header).encode()
    assert_refused(write(tmp_path, len(text).to_bytes(8, "little") + text + bytes(48), "a.safetensors"))


def test_safetensors_without_tensors_are_refused(tmp_path):
    assert_refused(write(tmp_path, safetensors_bytes({}), "a.safetensors"), "contains no tensors")


# Metadata of resdet's checkpoints.


def attached(metadata) -> bytes:
    state = OrderedDict(STATE)
    state._metadata = metadata
    return torch_bytes(state)


def test_metadata_attached_to_a_state_dict_is_read(tmp_path):
    told = {"classes": ["cat"], "experiment": {"task": "detection"}}
    checkpoint = read(write(tmp_path, attached({"": {"version": 1}, "resdet": told})))
    assert checkpoint.meta == told
    assert_is_state(checkpoint.state)


@pytest.mark.parametrize("metadata", [{}, {"": {"version": 1}}, {"resdet": 3}, 7, None])
def test_other_attached_metadata_is_ignored(tmp_path, metadata):
    assert read(write(tmp_path, attached(metadata))).meta == {}
