"""Compiles Triton kernels for GPUs that need not be present."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas
from triton.compiler import ASTSource

TYPES = {
    torch.float32: "*fp32",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.int64: "*i64",
    torch.bool: "*i1",
}


class Launch(NamedTuple):
    kernel: Any
    arguments: tuple
    keywords: dict[str, Any]


class Recorder:
    """Replaces a kernel and records its launches."""

    def __init__(self, kernel: Any, launches: list[Launch]):
        self.kernel, self.launches = kernel, launches

    def __getitem__(self, grid: tuple) -> Callable[..., None]:
        return lambda *arguments, **keywords: self.launches.append(Launch(self.kernel, arguments, keywords))


def launches(monkeypatch: pytest.MonkeyPatch, module: Any, names: list[str], call: Callable[[], Any]) -> list[Launch]:
    """Returns the launches of the kernels `names` of a module during `call`, which may use CPU tensors."""
    made: list[Launch] = []
    with monkeypatch.context() as patch:
        for name in names:
            patch.setattr(module, name, Recorder(getattr(module, name), made))
        call()
    return made


class Compiled(NamedTuple):
    ptx: str
    registers: int
    spills: int  # bytes


def compiled(launch: Launch, capability: int, folder: Path) -> Compiled:
    """Compiles a launch with the specializations that Triton derives from its arguments."""
    kernel, signature, constants, attributes = launch.kernel, {}, {}, {}
    options = {key: value for key, value in launch.keywords.items() if key not in kernel.arg_names}
    values = dict(zip(kernel.arg_names, launch.arguments)) | launch.keywords
    for number, parameter in enumerate(kernel.params):
        name, value = parameter.name, values[parameter.name]
        specialized = not parameter.do_not_specialize
        if parameter.is_constexpr or (specialized and type(value) is int and value == 1):
            signature[name], constants[name] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[name] = TYPES[value.dtype]
        else:
            signature[name] = "fp32" if isinstance(value, float) else "i32"
        aligned = isinstance(value, torch.Tensor) or (type(value) is int and value % 16 == 0)
        if signature[name] not in ("constexpr", "fp32") and specialized and aligned:
            attributes[number,] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature, constants, attributes)
    ptx = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options).asm["ptx"]
    return Compiled(ptx, *resources(ptx, capability, folder))


def resources(ptx: str, capability: int, folder: Path) -> tuple[int, int]:
    """Returns the registers and the spilled bytes per thread, as reported by NVIDIA's assembler."""
    assembler = get_ptxas(capability).path
    architecture = f"sm_{capability}a" if capability >= 90 else f"sm_{capability}"
    (folder / "kernel.ptx").write_text(ptx)
    command = [assembler, "-v", f"--gpu-name={architecture}", folder / "kernel.ptx", "-o", folder / "kernel.cubin"]
    words = subprocess.run(command, capture_output=True, text=True, check=True).stderr.replace(",", "").split()
    number_before = lambda unit: int(words[words.index(unit) - 1])
    return number_before("registers"), int(words[words.index("spill") - 2]) + int(words[words.index("loads") - 3])
