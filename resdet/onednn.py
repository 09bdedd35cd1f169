"""oneDNN convolutions for inference on x86 CPUs: prepacked weights, with ReLU and addition fused into the convolution.

torch converts the weights of a convolution to oneDNN's layout in each call, which takes half as long as the arithmetic
of ResNet-50 on one image of 224 x 224. The operators used here are those that inductor emits.
"""

import platform
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resdet.backbones.resnet import BasicBlock, Bottleneck, PlainBlock

X86 = ("x86_64", "AMD64")
KEPT = 4  # input heights and widths, such as those of portrait and landscape photographs


class PackedConv2d(nn.Conv2d):
    """A convolution that keeps its weight in oneDNN's layout, which depends on the input shape.

    It keeps the layouts of the last few heights and widths. Batch sizes commonly share a layout, as do the input sizes
    of a 1×1 convolution. A weight that is replaced or changed in place is converted again; changes through
    `weight.data` are not detected.
    """

    def __init__(self, conv: nn.Conv2d):
        """Shares the parameters of `conv`."""
        self.packed: dict[torch.Size, Tensor] = {}
        self.source: tuple[Tensor | None, int] = None, 0  # the converted weight and its version
        sizes = conv.in_channels, conv.out_channels, cast("tuple[int, int]", conv.kernel_size)
        geometry = conv.stride, conv.padding, conv.dilation, conv.groups
        super().__init__(*sizes, *cast(Any, geometry), bias=conv.bias is not None, device="meta")
        self.weight, self.bias = conv.weight, conv.bias

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if needs_torch(x) else self.pointwise(x, "none")

    def relu(self, x: Tensor) -> Tensor:
        """Computes ReLU(convolution(x))."""
        return F.relu(super().forward(x)) if needs_torch(x) else self.pointwise(x, "relu")

    def pointwise(self, x: Tensor, function: str) -> Tensor:
        operator = torch.ops.mkldnn._convolution_pointwise
        return operator(x, self.packed_for(x), self.bias, *self.geometry(), function, [], "")

    def add_relu_(self, total: Tensor, x: Tensor) -> Tensor:
        """Computes ReLU(total + convolution(x)); overwrites `total`, except in graphs and on other devices."""
        if needs_torch(x):
            return F.relu(total + super().forward(x))
        operator = torch.ops.mkldnn._convolution_pointwise_.binary
        return operator(total, x, self.packed_for(x), self.bias, *self.geometry(), "add", None, "relu", [], None)

    def geometry(self) -> tuple[list[int], list[int], list[int], int]:
        return [*cast("tuple[int, int]", self.padding)], [*self.stride], [*self.dilation], self.groups

    def packed_for(self, x: Tensor) -> Tensor:
        weight, number = self.source
        if weight is not self.weight or number != version(self.weight):
            self.packed, self.source = {}, (self.weight, version(self.weight))
        packed = self.packed.get(x.shape)
        return self.pack(x.shape) if packed is None else packed

    def pack(self, shape: torch.Size) -> Tensor:
        reorder = torch.ops.mkldnn._reorder_convolution_weight
        new = reorder(self.weight, *self.geometry(), [*shape])
        sizes = [*dict.fromkeys(other[1:] for other in [*self.packed, shape])][-KEPT:]
        kept = {other: weight for other, weight in self.packed.items() if other[1:] in sizes}
        expected = layout(new)
        packed = next((weight for weight in kept.values() if layout(weight) == expected), new)
        self.packed = {**kept, shape: packed}  # a new dict, since other threads may read the old one
        return packed

    def _apply(self, *args: Any, **kwargs: Any) -> "PackedConv2d":  # .to(…) does not increment the version
        self.packed = {}
        return super()._apply(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        """Drops the packed weights: tensors in oneDNN's layout cannot be copied."""
        return {**self.__dict__, "packed": {}, "source": (None, 0)}


def needs_torch(x: Tensor) -> bool:
    """Whether torch's convolution is required: for other devices and dtypes, and in graphs, for other machines."""
    return torch.compiler.is_compiling() or not x.is_cpu or x.numel() == 0 or x.dtype not in packed_types()


def version(weight: Tensor) -> int:
    """Returns the version counter of the weight; inference tensors have none."""
    return 0 if weight.is_inference() else weight._version


def layout(weight: Tensor) -> bytes:
    return torch.ops.mkldnn._get_mkldnn_serialized_md(weight).numpy().tobytes()


class PackedBlock(nn.Module):
    """A block of a residual or plain net whose packed convolutions include its ReLUs and its addition.

    Overwrites its input if the shortcut is the identity. Hooks of its layers do not run.
    """

    shortcut: nn.Module

    def __init__(self, block: nn.Module):
        super().__init__()
        for name, child in block.named_children():
            setattr(self, name, child)
        self.layers = layers(block)

    def forward(self, x: Tensor) -> Tensor:
        *first, last = (cast(PackedConv2d, getattr(self, name).conv) for name in self.layers)
        y = x
        for conv in first:
            y = conv.relu(y)
        return last.add_relu_(self.shortcut(x), y) if hasattr(self, "shortcut") else last.relu(y)


def pack_convolutions(net: nn.Module) -> nn.Module:
    """Replaces the convolutions of a net without batch norms, and its blocks; returns the net."""
    for name, child in net.named_children():
        pack_convolutions(child)
        if can_pack(child):
            setattr(net, name, PackedConv2d(cast(nn.Conv2d, child)))
        elif isinstance(child, (BasicBlock, Bottleneck, PlainBlock)) and is_packed(child):
            setattr(net, name, PackedBlock(child))
    return net


def can_pack(module: nn.Module) -> bool:
    if type(module) is not nn.Conv2d or module.padding_mode != "zeros" or isinstance(module.padding, str):
        return False
    return module.weight.is_cpu and module.weight.dtype in packed_types()


@cache
def packed_types() -> list[torch.dtype]:
    if not torch.backends.mkldnn.is_available() or platform.machine() not in X86:
        return []
    bfloat16 = [torch.bfloat16] if torch.ops.mkldnn._is_mkldnn_bf16_supported() else []
    return [torch.float32, *bfloat16]


def layers(block: nn.Module) -> list[str]:
    """Returns the names of the convolutions with norm, in order."""
    return [name for name, _ in block.named_children() if name != "shortcut"]


def is_packed(block: nn.Module) -> bool:
    units = [getattr(block, name) for name in layers(block)]
    return all(isinstance(unit.conv, PackedConv2d) and isinstance(unit.norm, nn.Identity) for unit in units)
