"""Modifies built nets: folding and freezing norms, freezing stages, exact batch statistics, deepening."""

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from resdet.backbones.layers import Backbone, ConvNorm, FrozenBatchNorm2d, FrozenBatchNormAct2d
from resdet.backbones.resnet import PadShortcut, PlainBlock, ResidualBlock, last_unit
from resdet.errors import ConfigError

BATCH_NORMS = (nn.BatchNorm2d, FrozenBatchNorm2d)


@torch.no_grad()
def fold_norms(net: nn.Module) -> int:
    """Folds each batch norm into the preceding convolution, in place, for inference; returns the number of norms.

    The output equals that of eval mode; the net can no longer be trained as before.
    """
    units = [unit for unit in net.modules() if isinstance(unit, ConvNorm) and isinstance(unit.norm, BATCH_NORMS)]
    for unit in units:
        norm, weight = cast(FrozenBatchNorm2d, unit.norm), unit.conv.weight  # or nn.BatchNorm2d
        scale = norm.weight.double() * torch.rsqrt(norm.running_var.double() + norm.eps)
        shift = norm.bias.double() - norm.running_mean.double() * scale
        if unit.conv.bias is not None:
            shift = shift + unit.conv.bias.double() * scale
        folded = (weight.double() * scale[:, None, None, None]).to(weight.dtype)
        unit.conv.weight = nn.Parameter(folded)
        unit.conv.bias = nn.Parameter(shift.to(weight.dtype))
        unit.norm = nn.Identity()
    return len(units)


@torch.no_grad()
def freeze_norms(net: nn.Module) -> int:
    """Replaces each batch norm by a frozen one with its current statistics (appendix A); returns their number."""
    norms = [(parent, name) for parent in net.modules() for name, m in parent.named_children() if is_batch_norm(m)]
    for parent, name in norms:
        setattr(parent, name, frozen_norm(getattr(parent, name)))
    return len(norms)


def frozen_norm(norm: Any) -> FrozenBatchNorm2d:
    """Creates a frozen norm with the statistics of a batch norm and, for timm's, its activation."""
    after = dict(norm.named_children())
    channels, eps = norm.num_features, norm.eps
    frozen = FrozenBatchNormAct2d(channels, eps, **after) if after else FrozenBatchNorm2d(channels, eps)
    frozen.to(norm.weight)
    for key in ("weight", "bias", "running_mean", "running_var"):
        getattr(frozen, key).copy_(getattr(norm, key))
    return frozen


def is_batch_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm)


def freeze_stages(net: Backbone, count: int) -> None:
    """Freezes the parameters and norms of the first `count` stages, counting the stem as one.

    Detectors trained from ImageNet weights commonly freeze two: conv1 and conv2_x (for VGG, stages 1 and 2 of five).
    """
    modules: list[nn.Module] = [getattr(net, name) for name in net.stages.values()]
    if hasattr(net, "conv1"):
        modules.insert(0, cast(nn.Module, net.conv1))
    if count > len(modules):
        raise ConfigError(
            f"model.freeze_stages is {count}: this backbone has {len(modules)} stages that can be frozen, including "
            f"its stem; set it to {len(modules)} at most."
        )
    for module in modules[:count]:
        freeze_norms(module)
        module.requires_grad_(False)


def detach_last_stage(net: Backbone) -> nn.Module:
    """Removes and returns conv5_x of a net, which then ends with conv4_x (appendix A)."""
    level, attribute = [*net.stages.items()][-1]
    stage = getattr(net, attribute)
    delattr(net, attribute)
    for name in ("stages", "channels", "strides"):
        setattr(net, name, {key: value for key, value in getattr(net, name).items() if key != level})
    return stage


def dilate_last_stage(net: Backbone) -> None:
    """Replaces the stride of conv5_x by dilation, which preserves stride 16 and the pretrained filters ("DC5")."""
    level, attribute = [*net.stages.items()][-1]
    for unit in getattr(net, attribute).modules():
        if isinstance(unit, nn.Conv2d):
            unit.stride = (1, 1)
            if unit.kernel_size != (1, 1):
                unit.dilation = unit.padding = (2, 2)
        elif isinstance(unit, PadShortcut):
            unit.stride = 1
    net.strides = {**net.strides, level: net.strides[level] // 2}


@torch.no_grad()
def exact_batch_statistics(net: Backbone, batches: Iterable[Tensor]) -> int:
    """Sets each batch norm's statistics to the exact mean and variance over a sample; returns the number of images.

    The paper's nets are tested with such averages over a large part of the training set, not with moving averages
    (appendix A). `batches` are normalized images; each runs in training mode. Each process passes its share of the
    sample; all end with the same statistics.
    """
    norms = [module for module in net.modules() if is_batch_norm(module)]
    sums = [torch.zeros(3, norm.num_features, dtype=torch.float64, device=norm.weight.device) for norm in norms]
    hooks = [norm.register_forward_pre_hook(accumulate(total)) for norm, total in zip(norms, sums)]
    momenta, modes = [norm.momentum for norm in norms], {module: module.training for module in net.modules()}
    count = 0
    try:
        net.train()
        for norm in norms:
            norm.momentum = 0.0
        for images in batches:
            net.features(images)
            count += len(images)
    finally:
        for hook, norm, momentum in zip(hooks, norms, momenta):
            hook.remove()
            norm.momentum = momentum
        for module, training in modes.items():
            module.training = training
    for norm, total in zip(norms, sums):
        set_statistics(norm, total)
    return count


def accumulate(total: Tensor) -> Callable[[nn.Module, tuple[Tensor]], None]:
    """Creates a hook that adds count, sum and sum of squares per channel to `total` [3, C]."""

    def hook(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        x = inputs[0].double()
        total.add_(
            torch.stack(
                [torch.full_like(total[0], x.numel() / x.shape[1]), x.sum((0, 2, 3)), x.square().sum((0, 2, 3))]
            )
        )

    return hook


def set_statistics(norm: nn.modules.batchnorm._BatchNorm, total: Tensor) -> None:
    assert norm.running_mean is not None and norm.running_var is not None
    if dist.is_initialized():
        dist.all_reduce(total)
    count, first, second = total
    if count[0] == 0:
        return
    mean = first / count
    norm.running_mean.copy_(mean)
    norm.running_var.copy_((second / count - mean.square()).clamp(min=0) * count / (count - 1).clamp(min=1))


@torch.no_grad()
def deepen(shallow: Backbone, deep: Backbone) -> Backbone:
    """Copies the trained layers of `shallow` to `deep`, with identities as additional blocks, for the same function.

    Section 1: "There exists a solution by construction to the deeper model". A zero last norm makes residual blocks
    exact identities, also in training; identity filters do so for plain blocks, only in eval mode. Both nets must
    belong to one family (stem, widths, kind of block, shortcut option, norm), with `deep` not shallower.
    """
    if not deep.stages or shallow.stages != deep.stages or shallow.channels != deep.channels:
        raise ConfigError("The two nets are of different families: they must have the same stages, widths and blocks.")
    for child, module in deep.named_children():
        source = getattr(shallow, child)
        if child in deep.stages.values():
            deepen_stage(source, cast(nn.Sequential, module), child)
        elif str(source) == str(module):  # compares types, sizes, strides and norms
            module.load_state_dict(source.state_dict())
        else:
            raise ConfigError(f"{child} is {source} in one net and {module} in the other: they must be equal.")
    return deep


def deepen_stage(shallow: nn.Sequential, deep: nn.Sequential, name: str) -> None:
    if len(deep) < len(shallow):
        raise ConfigError(f"{name} has {len(deep)} blocks in the deeper net and {len(shallow)} in the shallower one.")
    for source, target in zip(shallow, deep):
        if str(source) != str(target):
            raise ConfigError(f"{name}: the blocks of the two nets differ in kind, stride, shortcut option or norm.")
        target.load_state_dict(source.state_dict())
    for block in deep[len(shallow) :]:
        make_identity(block)


def make_identity(block: nn.Module) -> None:
    """Makes the block an identity: its input follows a ReLU and is not negative, so ReLU(x + 0) = ReLU(x) = x."""
    if isinstance(block, ResidualBlock) and isinstance(block.shortcut, nn.Identity):
        last = cast(nn.BatchNorm2d, last_unit(block).norm)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    elif isinstance(block, PlainBlock) and isinstance(block.conv1.norm, nn.BatchNorm2d):
        for unit in (block.conv1, block.conv2):
            norm = cast(nn.BatchNorm2d, unit.norm)
            nn.init.dirac_(unit.conv.weight)
            norm.reset_running_stats()
            nn.init.constant_(norm.weight, (1 + norm.eps) ** 0.5)
            nn.init.zeros_(norm.bias)
    else:
        raise ConfigError(
            "Only blocks with an identity shortcut (options A and B) and plain ones with batch norm can be identities."
        )
