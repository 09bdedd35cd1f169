"""Reading checkpoints: tensors alone come in; code, damage and what is no checkpoint are refused in one sentence."""

import io
import pickle
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import save as safetensors_bytes

from resdet.errors import WeightsError
from resdet.weights import read

STATE = {"fc.weight": torch.arange(12.0).reshape(3, 4), "fc.bias": torch.ones(3, dtype=torch.bfloat16)}


class Trap:
    """Writes a file when it is unpickled."""

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
    """In one line that names the file."""
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
        lambda state: {"model": {"state_dict": state}},
    ],
)
def test_wrappers_are_taken_off(tmp_path, wrap, zipped):
    assert_is_state(read(write(tmp_path, torch_bytes(wrap(STATE), zipped))).state)


def test_a_tensor_beside_the_model_does_not_hide_it(tmp_path):
    """Some trainers keep their step as a tensor."""
    assert_is_state(read(write(tmp_path, torch_bytes({"model": STATE, "step": torch.tensor(7)}))).state)


def test_what_else_the_file_says_is_kept(tmp_path):
    checkpoint = read(write(tmp_path, torch_bytes({"model": STATE, "classes": ["cat", "dog"], "epoch": 3})))
    assert checkpoint.meta == {"classes": ["cat", "dog"], "epoch": 3}


def test_module_is_only_a_prefix_where_every_name_has_it(tmp_path):
    state = {"module.a": torch.ones(1), "b": torch.ones(1)}
    assert read(write(tmp_path, torch_bytes(state))).state.keys() == state.keys()


def test_safetensors_are_read_whatever_the_file_is_called(tmp_path):
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
        # A name cut short inside the older format looks like code, and is refused as such.
        assert_refused(write(tmp_path, whole[:length]), *([] if kind == "legacy" else ["damaged"]))


def test_random_bytes_are_refused(tmp_path):
    generator = random.Random(0)
    for length in [1, 2, 8, 9, 64, 1000]:
        for _ in range(60):
            assert_refused(write(tmp_path, generator.randbytes(length)))


@pytest.mark.parametrize("zipped", [True, False])
def test_flipped_bytes_give_tensors_or_a_refusal(tmp_path, zipped):
    """Bytes that rot on a disk must never show the user a traceback."""
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
    "content",
    [b"", b"<html>404: Not Found</html>", b"version https://git-lfs.github.com/spec/v1\n", b"PK\x05\x06" + bytes(18)],
)
def test_files_of_another_kind_are_refused(tmp_path, content):
    assert_refused(write(tmp_path, content), "damaged or no checkpoint")


@pytest.mark.parametrize(
    "content", [3, "text", [torch.ones(2)], {}, {"epoch": 3}, {"model": {"lr": 0.1}}, {0: torch.ones(2)}]
)
def test_torch_files_without_a_state_dict_are_refused(tmp_path, content):
    assert_refused(write(tmp_path, torch_bytes(content)), "holds no")


def test_a_file_that_is_not_there(tmp_path):
    assert_refused(tmp_path / "nowhere.pth", "no such file")
    assert_refused(tmp_path, "no such file")
