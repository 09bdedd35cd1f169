"""Tests convolutions packed for oneDNN: outputs, blocks, layouts kept and dropped, copies, and what is not packed."""

import copy
import pickle

import pytest
import torch
from detection.heads import tiny
from narrow import shallow_nets
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from resdet import onednn
from resdet.backbones.registry import create
from resdet.backbones.surgery import fold_norms
from resdet.onednn import PackedBlock, PackedConv2d, pack_convolutions

pytestmark = pytest.mark.skipif(not onednn.packed_types(), reason="torch has no oneDNN for x86 here")


def folded(name: str) -> nn.Module:
    torch.manual_seed(0)
    net = create(name, 5).eval().requires_grad_(False)
    fold_norms(net)
    return net.to(memory_format=torch.channels_last)


def count(net: nn.Module, kind: type) -> int:
    return sum(type(module) is kind for module in net.modules())


@pytest.mark.parametrize(
    "name, convolutions, blocks",
    [("resnet18", 20, 8), ("resnet50", 53, 16), ("plain18", 17, 8), ("cifar_resnet20", 19, 9), ("vgg16", 13, 0)],
)
def test_packed_nets_have_the_outputs_of_the_others(name, convolutions, blocks):
    """Checks several batch sizes and shapes in turn, an empty batch included, and that inputs are not overwritten."""
    net = folded(name)
    packed = pack_convolutions(copy.deepcopy(net))
    assert count(packed, PackedConv2d) == convolutions and count(packed, PackedBlock) == blocks
    assert count(packed, nn.Conv2d) == 0 and packed.state_dict().keys() == net.state_dict().keys()
    generator = torch.Generator().manual_seed(1)
    for shape in ((2, 3, 64, 64), (1, 3, 64, 64), (1, 3, 64, 96), (0, 3, 64, 64), (2, 3, 64, 64)):
        images = torch.randn(shape, generator=generator)
        before = images.clone()
        with torch.inference_mode():
            for level, expected in net.features(images).items():
                differences = packed.features(images)[level] - expected
                assert differences.shape == expected.shape
                assert not (differences.abs() > 1e-4 * expected.abs().max() if len(images) else differences).any()
        assert torch.equal(images, before)


@pytest.mark.parametrize("style", ["c4", "fpn"])
def test_packed_detectors_have_the_detections_of_the_others(style):
    with shallow_nets():
        model = tiny.make(style).eval().requires_grad_(False)
    fold_norms(model)
    packed = pack_convolutions(copy.deepcopy(model))
    assert count(packed, PackedConv2d) > 5 and count(packed, nn.Conv2d) == 0
    image = torch.randint(256, (80, 112, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8).numpy()
    one, other = packed.predict(image, score=0.0), model.predict(image, score=0.0)
    assert len(one) == len(other) > 0
    torch.testing.assert_close(torch.from_numpy(one.boxes), torch.from_numpy(other.boxes), rtol=0, atol=1e-2)
    torch.testing.assert_close(torch.from_numpy(one.scores), torch.from_numpy(other.scores), rtol=0, atol=1e-4)


class Relus(TorchDispatchMode):
    """Counts the ReLUs that run as separate operators."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        self.count += operator.overloadpacket in (torch.ops.aten.relu, torch.ops.aten.relu_)
        return operator(*args, **kwargs or {})


def relus(call) -> int:
    with torch.no_grad(), Relus() as mode:
        call()
    return mode.count


@pytest.mark.parametrize("name, count", [("resnet18", 17), ("resnet50", 49), ("cifar_resnet20", 19), ("vgg16", 13)])
def test_the_relus_of_packed_nets_are_parts_of_convolutions(name, count):
    net, images = folded(name), torch.randn(1, 3, 64, 64)
    assert relus(lambda: net.features(images)) == count
    assert relus(lambda: pack_convolutions(net).features(images)) == 0


def test_the_relus_of_a_packed_rpn_are_parts_of_convolutions():
    with shallow_nets():
        rpn = tiny.make("fpn").eval().requires_grad_(False).rpn
    x = torch.randn(1, rpn.convs[0].in_channels, 20, 24)
    assert relus(lambda: rpn.slide(x)) == len(rpn.convs) > 0
    assert relus(lambda: pack_convolutions(rpn).slide(x)) == 0


def convolution(**options) -> tuple[nn.Conv2d, PackedConv2d]:
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 32, 3, **options).requires_grad_(False)
    return conv, PackedConv2d(conv)


def test_relu_and_addition_are_parts_of_the_convolution():
    conv, packed = convolution(stride=2, padding=2, dilation=2, groups=4)
    x = torch.randn(2, 16, 20, 24)
    total = torch.randn_like(conv(x)).contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(packed.relu(x), conv(x).relu(), rtol=1e-4, atol=1e-4)
    expected = (total + conv(x)).relu()
    assert packed.add_relu_(total, x).data_ptr() == total.data_ptr()
    torch.testing.assert_close(total, expected, rtol=1e-4, atol=1e-4)


def test_the_layouts_of_the_last_sizes_are_kept():
    conv, packed = convolution()
    for batch, side in ((1, 20), (3, 20), (1, 22), (1, 24), (2, 26), (1, 20), (4, 20)):
        x = torch.randn(batch, 16, side, side)
        torch.testing.assert_close(packed(x), conv(x), rtol=1e-4, atol=1e-4)
    assert {shape[2] for shape in packed.packed} == {20, 22, 24, 26} and len(packed.packed) == 6
    packed(torch.randn(2, 16, 28, 28))
    assert {shape[2] for shape in packed.packed} == {22, 24, 26, 28}


def test_sizes_with_one_layout_share_its_weight():
    conv, packed = convolution()
    for batch, side in ((1, 20), (3, 20), (1, 28), (2, 28)):
        packed.pack(torch.Size((batch, 16, side, side)))
    weights = {id(weight): weight for weight in packed.packed.values()}
    assert len(weights) == len({onednn.layout(weight) for weight in weights.values()})


def test_sizes_with_other_layouts_have_their_own_weights(monkeypatch):
    """Gives each weight its own layout, as not every CPU has a convolution whose layout depends on the size."""
    monkeypatch.setattr(onednn, "layout", lambda weight: str(id(weight)).encode())
    _, packed = convolution()
    for side in (20, 22, 24):
        packed.pack(torch.Size((1, 16, side, side)))
    assert len({id(weight) for weight in packed.packed.values()}) == 3


def test_weights_are_converted_in_the_first_call_only(capfd):
    _, packed = convolution(bias=False)
    packed = packed.to(memory_format=torch.channels_last)
    x = torch.randn(1, 16, 20, 20).contiguous(memory_format=torch.channels_last)
    packed(x)
    with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
        packed(x)
    lines = [line for line in capfd.readouterr().out.splitlines() if "exec" in line]
    assert any("convolution" in line for line in lines)
    assert not any("reorder" in line and "32x16x3x3" in line for line in lines)


def test_other_weights_are_packed_again():
    conv, packed = convolution()
    x = torch.randn(1, 16, 20, 20)
    packed(x)
    other = {name: value + 1 for name, value in conv.state_dict().items()}
    packed.load_state_dict(other)
    copied = pickle.loads(pickle.dumps(copy.deepcopy(packed)))
    conv.load_state_dict(other)
    for candidate in (packed, copied):
        torch.testing.assert_close(candidate(x), conv(x), rtol=1e-4, atol=1e-4)
    packed._apply(lambda tensor: 2 * tensor)  # like `to` and similar methods; `conv` has the same parameters
    torch.testing.assert_close(packed(x), conv(x), rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        packed.weight.mul_(0.5)
    torch.testing.assert_close(packed(x), conv(x), rtol=1e-4, atol=1e-4)
    for _ in range(2):  # the second new parameter has the version of the first
        packed.weight = conv.weight = nn.Parameter(conv.weight.detach() - 1)
        torch.testing.assert_close(packed(x), conv(x), rtol=1e-4, atol=1e-4)


def test_double_precision_uses_the_convolution_of_torch():
    conv, packed = convolution()
    x = torch.randn(1, 16, 20, 20, dtype=torch.float64)
    expected = copy.deepcopy(conv).double()(x)
    torch.testing.assert_close(packed.double()(x), expected)
    torch.testing.assert_close(packed.relu(x), expected.relu())


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(3, 4, 3, padding="same"),
        nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(3, 4, 3).double(),
        nn.Conv2d(3, 4, 3, device="meta"),
        nn.ConvTranspose2d(3, 4, 2),
    ],
)
def test_other_convolutions_are_left_alone(module):
    assert pack_convolutions(nn.Sequential(module))[0] is module


def test_blocks_with_norms_are_left_alone():
    torch.manual_seed(0)
    net = create("resnet18", 5, norm="gn").eval().requires_grad_(False)
    packed = pack_convolutions(copy.deepcopy(net))
    assert count(packed, PackedConv2d) == 20 and count(packed, PackedBlock) == 0
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(packed(images), net(images), rtol=1e-4, atol=1e-4)


def test_graphs_have_convolutions_of_torch():
    """Exports a packed net, and traces it for torch.compile, both with the outputs of the packed one."""
    packed, images = pack_convolutions(folded("cifar_resnet20")), torch.randn(1, 3, 32, 32)
    program = torch.export.export(packed, (images,))
    graphs = []
    traced = torch.compile(packed, backend=lambda graph, inputs: graphs.append(graph) or graph.forward, fullgraph=True)
    with torch.no_grad():
        for candidate in (program.module(), traced):
            torch.testing.assert_close(candidate(images), packed(images), rtol=1e-3, atol=1e-3)
    for graph in (program.graph, graphs[0].graph):
        text = str(graph)
        assert "conv2d" in text and "mkldnn" not in text
