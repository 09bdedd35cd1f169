"""Tests changes of nets with random norm statistics: folding, freezing, exact statistics, deepening."""

import copy

import pytest
import torch
from narrow import narrow_resnets
from norms import randomise_norms
from torch import nn
from torch.nn import functional as F

from resdet.backbones import create, surgery
from resdet.backbones.layers import ConvNorm, FrozenBatchNorm2d
from resdet.errors import ConfigError
from resdet.necks.fpn import FPN

FAMILIES = [
    ("resnet18", {"shortcut": "A"}),
    ("resnet18", {"shortcut": "B"}),
    ("resnet18", {"shortcut": "C"}),
    ("resnet50", {"stride_in": "1x1"}),
    ("resnet18", {"norm": "frozen"}),
    ("plain18", {}),
    ("vgg16", {"norm": "bn"}),
    ("cifar_resnet20", {}),
    ("cifar_plain20", {"norm": "sync"}),
]


@pytest.fixture(scope="module", autouse=True)
def narrower():
    """Builds ResNets with half the widths or less, but 32 channels for group norm."""
    with narrow_resnets((32, 64, 64, 64)):
        yield


def net_of(name: str, num_classes: int = 5, **options) -> nn.Module:
    """Returns a net with randomized norms; VGG without its large linear layers."""
    torch.manual_seed(0)
    net = create(name, 0 if name.startswith("vgg") else num_classes, **options).eval()
    return randomise_norms(net)


def images(count: int = 2, side: int = 64) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def snapshot(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("name, options", FAMILIES)
@torch.no_grad()
def test_folding_changes_no_output(name, options):
    net = net_of(name, **options)
    expected = net.features(images())
    convolutions = sum(isinstance(module, nn.Conv2d) for module in net.modules())
    assert surgery.fold_norms(net) == convolutions
    assert not any(isinstance(module, (nn.BatchNorm2d, FrozenBatchNorm2d)) for module in net.modules())
    for level, feature in net.features(images()).items():
        assert (feature - expected[level]).abs().max() < 1e-5 * expected[level].abs().max(), level


@torch.no_grad()
def test_folding_keeps_the_bias_of_a_convolution():
    unit = randomise_norms(ConvNorm(3, 4, 3, bias=True)).eval()
    unit.conv.bias.copy_(torch.tensor([3.0, -5.0, 7.0, 0.5]))
    expected = unit(images())
    assert surgery.fold_norms(unit) == 1
    assert torch.allclose(unit(images()), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_folded_filters_equal_torch():
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    net = net_of("resnet18")
    expected = fuse_conv_bn_eval(net.conv3_x[0].conv1.conv, net.conv3_x[0].conv1.norm)
    surgery.fold_norms(net)
    assert torch.allclose(net.conv3_x[0].conv1.conv.weight, expected.weight, rtol=1e-5, atol=1e-7)
    assert torch.allclose(net.conv3_x[0].conv1.conv.bias, expected.bias, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_folding_an_fpn_and_keeping_group_norms():
    net = net_of("cifar_resnet20")
    fpn = randomise_norms(FPN(net, 32, norm="bn")).eval()
    features = net.features(images())
    expected = fpn(features)
    assert surgery.fold_norms(fpn) == 6
    for level, feature in fpn(features).items():
        assert torch.allclose(feature, expected[level], rtol=1e-4, atol=1e-4)
    assert surgery.fold_norms(create("cifar_resnet20", 5, norm="gn")) == 0


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@torch.no_grad()
def test_folding_keeps_the_memory_format(layout):
    net = net_of("resnet18").to(memory_format=layout)
    surgery.fold_norms(net)
    wide = [m.weight for m in net.modules() if isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1)]
    assert len(wide) == 17 and all(weight.is_contiguous(memory_format=layout) for weight in wide)


@pytest.mark.parametrize("name, norms", [("resnet18", 20), ("cifar_plain20", 19)])
def test_frozen_norms_keep_the_outputs_of_evaluation(name, norms):
    net = net_of(name)
    with torch.no_grad():
        expected = net(images())
    assert surgery.freeze_norms(net) == norms
    net.train()
    before = {n: b.clone() for n, b in net.named_buffers()}
    logits = net(images())
    assert torch.allclose(logits, expected, rtol=1e-5, atol=1e-5)
    logits.sum().backward()
    assert all(torch.equal(buffer, before[n]) for n, buffer in net.named_buffers())
    assert not any(".norm." in n for n, _ in net.named_parameters())
    assert surgery.freeze_norms(net) == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_frozen_norms_keep_the_dtype_of_the_net(dtype):
    net = net_of("cifar_resnet20").to(dtype)
    expected = net(images(side=32).to(dtype))
    surgery.freeze_norms(net)
    tolerance = {torch.float64: 1e-10, torch.bfloat16: 0.05}[dtype]
    torch.testing.assert_close(net(images(side=32).to(dtype)), expected, rtol=tolerance, atol=tolerance)
    assert all(buffer.dtype == dtype for buffer in net.conv1.norm.buffers())


@pytest.mark.parametrize(
    "name, count, frozen",
    [
        ("resnet18", 0, []),
        ("resnet18", 1, ["conv1"]),
        ("resnet18", 2, ["conv1", "conv2_x"]),
        ("vgg16", 2, ["conv1_x", "conv2_x"]),
        ("cifar_resnet20", 4, ["conv1", "conv2_x", "conv3_x", "conv4_x"]),
    ],
)
def test_a_training_step_does_not_change_frozen_stages(name, count, frozen):
    net = net_of(name, **({"norm": "bn"} if name == "vgg16" else {})).train()
    surgery.freeze_stages(net, count)
    before = {child: snapshot(module) for child, module in net.named_children()}
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    last = net.last(images(4, 32))
    if last.requires_grad:
        last.square().mean().backward()
    optimizer.step()
    stages = [child for child in before if child != "fc"]
    assert [child for child in stages if same(before[child], snapshot(getattr(net, child)))] == frozen
    for child in stages:
        learning = {parameter.requires_grad for parameter in getattr(net, child).parameters()}
        assert learning == {child not in frozen}


@pytest.mark.parametrize("name, stages", [("resnet18", 5), ("vgg16", 5), ("cifar_resnet20", 4)])
def test_freezing_too_many_stages_is_refused(name, stages):
    net = net_of(name)
    with pytest.raises(ConfigError, match=f"model.freeze_stages is {stages + 1}.* has {stages} stages"):
        surgery.freeze_stages(net, stages + 1)


def test_exact_statistics_of_the_first_norm():
    """Compares statistics from batches of unequal size with mean and unbiased variance over all images."""
    net = net_of("resnet18")
    sample = images(11, 32)
    assert surgery.exact_batch_statistics(net, [sample[:6], sample[6:9], sample[9:]]) == 11
    outputs = net.conv1.conv(sample).double().transpose(0, 1).flatten(1)
    assert torch.allclose(net.conv1.norm.running_mean.double(), outputs.mean(1), rtol=1e-5, atol=1e-6)
    assert torch.allclose(net.conv1.norm.running_var.double(), outputs.var(1), rtol=1e-5)


def test_exact_statistics_of_one_batch_equal_torch_with_momentum_one():
    """Compares the statistics of every norm of the net."""
    net = net_of("resnet18")
    reference = copy.deepcopy(net).train()
    for module in reference.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    reference(images(6))
    surgery.exact_batch_statistics(net, [images(6)])
    for name, buffer in reference.named_buffers():
        if not name.endswith("num_batches_tracked"):
            assert torch.allclose(net.get_buffer(name), buffer, rtol=1e-4, atol=1e-5), name


@pytest.mark.parametrize("training", [True, False])
def test_exact_statistics_change_nothing_else(training):
    net = net_of("cifar_resnet20").train(training)
    net.conv2_x.train(not training)
    modes = [module.training for module in net.modules()]
    momenta = [0.1 + 0.01 * k for k in range(19)]
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
    parameters = {name: p.detach().clone() for name, p in net.named_parameters()}
    surgery.exact_batch_statistics(net, [images(4, 32)])
    assert [norm.momentum for norm in norms] == momenta
    assert [module.training for module in net.modules()] == modes and {*modes} == {True, False}
    assert all(torch.equal(p, parameters[name]) for name, p in net.named_parameters())
    assert not any(norm._forward_pre_hooks for norm in norms)


def test_an_interrupted_sample_leaves_the_net_unchanged():
    net = net_of("cifar_resnet20")
    before = {name: b.clone() for name, b in net.named_buffers() if "num_batches" not in name}

    def broken():
        yield images(4, 32)
        raise OSError("the disk is gone")

    with pytest.raises(OSError):
        surgery.exact_batch_statistics(net, broken())
    assert not net.training and net.conv1.norm.momentum == 0.1 and not net.conv1.norm._forward_pre_hooks
    assert all(torch.equal(net.get_buffer(name), buffer) for name, buffer in before.items())


def test_no_images_leave_the_statistics_unchanged():
    net = net_of("cifar_resnet20")
    before = snapshot(net)
    assert surgery.exact_batch_statistics(net, []) == 0
    assert same(before, snapshot(net))


@pytest.mark.parametrize(
    "shallow, deep, options, training",
    [
        ("resnet18", "resnet34", {"shortcut": "A"}, False),
        ("resnet18", "resnet34", {"shortcut": "B"}, True),
        ("resnet18", "resnet34", {"norm": "gn"}, True),
        ("resnet50", "resnet101", {}, False),
        ("resnet50", "resnet101", {"stride_in": "1x1"}, True),
        ("cifar_resnet20", "cifar_resnet56", {}, False),
        ("cifar_resnet20", "cifar_resnet56", {}, True),
    ],
)
@torch.no_grad()
def test_a_deepened_residual_net_equals_the_shallow_one(shallow, deep, options, training):
    """Tests the "solution by construction" of section 1."""
    net = net_of(shallow, **options).train(training)
    deeper = surgery.deepen(net, net_of(deep, **options).train(training))
    assert sum(p.numel() for p in deeper.parameters()) > sum(p.numel() for p in net.parameters())
    assert torch.equal(deeper(images(3, 32)), net(images(3, 32)))


@pytest.mark.parametrize("shallow, deep", [("plain18", "plain34"), ("cifar_plain20", "cifar_plain32")])
@torch.no_grad()
def test_a_deepened_plain_net_equals_the_shallow_one_in_evaluation(shallow, deep):
    net = net_of(shallow)
    expected = net(images())
    assert (surgery.deepen(net, net_of(deep))(images()) - expected).abs().max() < 1e-4 * expected.abs().max()


def test_added_blocks_receive_gradients():
    deeper = surgery.deepen(net_of("cifar_resnet20").train(), net_of("cifar_resnet32").train())
    F.cross_entropy(deeper(images(4, 32)), torch.tensor([0, 1, 2, 3])).backward()
    assert deeper.conv3_x[4].conv2.norm.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "shallow, deep",
    [
        (("resnet34", {}), ("resnet50", {})),
        (("resnet34", {}), ("resnet18", {})),
        (("resnet18", {}), ("plain34", {})),
        (("cifar_resnet20", {}), ("resnet18", {})),
        (("resnet18", {"shortcut": "A"}), ("resnet34", {"shortcut": "B"})),
        (("resnet18", {"shortcut": "B"}), ("resnet34", {"shortcut": "C"})),
        (("resnet18", {"shortcut": "C"}), ("resnet34", {"shortcut": "C"})),
        (("resnet18", {"norm": "bn"}), ("resnet34", {"norm": "gn"})),
        (("resnet50", {"stride_in": "1x1"}), ("resnet101", {"stride_in": "3x3"})),
        (("resnet18", {"num_classes": 5}), ("resnet34", {"num_classes": 6})),
        (("resnet18", {"num_classes": 0}), ("resnet34", {"num_classes": 6})),
    ],
)
def test_incompatible_nets_are_refused(shallow, deep):
    """Uses pairs of nets that cannot compute the same function."""
    with torch.device("meta"):
        nets = [create(name, **options) for name, options in (shallow, deep)]
    with pytest.raises(ConfigError):
        surgery.deepen(*nets)


@pytest.mark.parametrize("bias", [False, True])
def test_a_fused_frozen_norm_equals_convolution_and_norm(bias):
    """Compares the output and the gradients of input, weights and bias in training mode."""
    unit = ConvNorm(3, 5, 3, stride=2, norm="frozen", bias=bias).double()
    for name in ("weight", "bias", "running_mean", "running_var"):
        getattr(unit.norm, name).copy_(torch.rand(5) + 0.5)
    x = torch.randn(2, 3, 9, 9, dtype=torch.float64, requires_grad=True)
    inputs = [x, *unit.conv.parameters()]
    found, expected = unit(x), unit.norm(unit.conv(x))
    torch.testing.assert_close(found, expected)
    grad = torch.randn_like(found)
    for a, b in zip(torch.autograd.grad(found, inputs, grad), torch.autograd.grad(expected, inputs, grad)):
        torch.testing.assert_close(a, b)
