"""What is done to a finished net: fold its norms, freeze it, give it exact statistics, make it deeper."""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from resdet.backbones.layers import ConvNorm, FrozenBatchNorm2d
from resdet.backbones.resnet import PadShortcut, PlainBlock, ResidualBlock, last_unit
from resdet.errors import ConfigError

BATCH_NORMS = (nn.BatchNorm2d, FrozenBatchNorm2d)


@torch.no_grad()
def fold_norms(net: nn.Module) -> int:
    """Folds each batch norm into the convolution before it, in place, for inference; returns how many it folded.

    The net computes what it computed in eval mode, with fewer operations, and cannot be trained as it was.
    """
    units = [unit for unit in net.modules() if isinstance(unit, ConvNorm) and isinstance(unit.norm, BATCH_NORMS)]
    for unit in units:
        norm, weight = unit.norm, unit.conv.weight
        scale = norm.weight.double() * torch.rsqrt(norm.running_var.double() + norm.eps)
        shift = norm.bias.double() - norm.running_mean.double() * scale
        if unit.conv.bias is not None:
            shift = shift + unit.conv.bias.double() * scale
        folded = (weight.double() * scale[:, None, None, None]).to(weight.dtype)
        unit.conv.weight = nn.Parameter(folded.contiguous(memory_format=memory_format(weight)))
        unit.conv.bias = nn.Parameter(shift.to(weight.dtype))
        unit.norm = nn.Identity()
    return len(units)


def memory_format(weight: Tensor) -> torch.memory_format:
    last = weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


@torch.no_grad()
def freeze_norms(net: nn.Module) -> int:
    """Turns every batch norm into a constant one, with its present statistics (appendix A); returns how many."""
    found = [(parent, name) for parent in net.modules() for name, m in parent.named_children() if is_batch_norm(m)]
    for parent, name in found:
        norm = getattr(parent, name)
        frozen = FrozenBatchNorm2d(norm.num_features, norm.eps).to(norm.weight)
        for key in ("weight", "bias", "running_mean", "running_var"):
            getattr(frozen, key).copy_(getattr(norm, key))
        setattr(parent, name, frozen)
    return len(found)


def is_batch_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm)


def freeze_stages(net: nn.Module, count: int) -> None:
    """Fixes the first `count` stages, the stem being the first: their parameters and their norms stay as they are.

    Detectors trained from ImageNet weights commonly freeze two: conv1 and conv2_x (1 and 2 of VGG's five).
    """
    modules = [getattr(net, name) for name in net.stages.values()]
    if hasattr(net, "conv1"):
        modules.insert(0, net.conv1)
    if count > len(modules):
        raise ConfigError(
            f"model.freeze_stages is {count}: this backbone has {len(modules)} stages that can be frozen, its stem "
            f"included; give {len(modules)} at the most."
        )
    for module in modules[:count]:
        freeze_norms(module)
        module.requires_grad_(False)


def detach_last_stage(net: nn.Module) -> nn.Module:
    """Takes conv5_x out of a net, which then ends with conv4_x (appendix A), and returns it."""
    level, attribute = [*net.stages.items()][-1]
    stage = getattr(net, attribute)
    delattr(net, attribute)
    for name in ("stages", "channels", "strides"):
        setattr(net, name, {key: value for key, value in getattr(net, name).items() if key != level})
    return stage


def dilate_last_stage(net: nn.Module) -> None:
    """conv5_x keeps the stride of conv4_x, 16: its stride becomes a dilation, and the filters still fit ("DC5")."""
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
def exact_batch_statistics(net: nn.Module, batches: Iterable[Tensor]) -> int:
    """Sets each batch norm's statistics to the true mean and variance over a sample; returns the images it saw.

    The paper's nets are tested with such averages, taken over a large part of the training set after training
    (appendix A), and not with moving ones. `batches` are normalized images; each runs in training mode.
    In several processes each gives its own share of the sample, and all end with the same statistics.
    """
    norms = [module for module in net.modules() if is_batch_norm(module)]
    sums = [torch.zeros(3, norm.num_features, dtype=torch.float64, device=norm.weight.device) for norm in norms]
    hooks = [norm.register_forward_pre_hook(accumulate(total)) for norm, total in zip(norms, sums)]
    momenta, training = [norm.momentum for norm in norms], net.training
    seen = 0
    try:
        net.train()
        for norm in norms:
            norm.momentum = 0.0
        for images in batches:
            net.features(images)
            seen += len(images)
    finally:
        for hook, norm, momentum in zip(hooks, norms, momenta):
            hook.remove()
            norm.momentum = momentum
        net.train(training)
    for norm, total in zip(norms, sums):
        set_statistics(norm, total)
    return seen


def accumulate(total: Tensor):
    """A hook that adds the count, the sum and the sum of squares of each channel to `total` [3, C]."""

    def hook(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        x = inputs[0].double()
        total.add_(
            torch.stack(
                [torch.full_like(total[0], x.numel() / x.shape[1]), x.sum((0, 2, 3)), x.square().sum((0, 2, 3))]
            )
        )

    return hook


def set_statistics(norm: nn.Module, total: Tensor) -> None:
    if dist.is_initialized():
        dist.all_reduce(total)
    count, first, second = total
    if count[0] == 0:
        return
    mean = first / count
    norm.running_mean.copy_(mean)
    norm.running_var.copy_((second / count - mean.square()).clamp(min=0) * count / (count - 1).clamp(min=1))


@torch.no_grad()
def deepen(shallow: nn.Module, deep: nn.Module) -> nn.Module:
    """Gives `deep` the trained layers of `shallow` and makes its added blocks identities: the same function.

    Section 1: "There exists a solution by construction to the deeper model". Residual blocks become identities
    by a last norm of zero, exactly and in training as well; plain ones by identity filters, in eval mode.
    Both nets must be of one family (stem, widths, kind of block, shortcut option, norm) and `deep` no shallower.
    """
    if not deep.stages or shallow.stages != deep.stages or shallow.channels != deep.channels:
        raise ConfigError("A net can only be deepened into one of its own family: the same stages, widths and blocks.")
    for child, module in deep.named_children():
        source = getattr(shallow, child)
        if child in deep.stages.values():
            deepen_stage(source, module, child)
        elif str(source) == str(module):  # which tells kinds, sizes, strides and norms
            module.load_state_dict(source.state_dict())
        else:
            raise ConfigError(f"{child} is {source} in the one net and {module} in the other: they must be alike.")
    return deep


def deepen_stage(shallow: nn.Sequential, deep: nn.Sequential, name: str) -> None:
    if len(deep) < len(shallow):
        raise ConfigError(
            f"{name} has {len(deep)} blocks in the deeper net and {len(shallow)} in the one to start from."
        )
    for source, target in zip(shallow, deep):
        if str(source) != str(target):
            raise ConfigError(f"{name}: the blocks of the two nets differ in kind, stride, shortcut option or norm.")
        target.load_state_dict(source.state_dict())
    for block in deep[len(shallow) :]:
        make_identity(block)


def make_identity(block: nn.Module) -> None:
    """After a ReLU the block's input is not negative, so that ReLU(x + 0) = ReLU(x) = x."""
    if isinstance(block, ResidualBlock) and isinstance(block.shortcut, nn.Identity):
        last = last_unit(block).norm
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    elif isinstance(block, PlainBlock) and isinstance(block.conv1.norm, nn.BatchNorm2d):
        for unit in (block.conv1, block.conv2):
            nn.init.dirac_(unit.conv.weight)
            unit.norm.reset_running_stats()
            nn.init.constant_(unit.norm.weight, (1 + unit.norm.eps) ** 0.5)
            nn.init.zeros_(unit.norm.bias)
    else:
        raise ConfigError(
            "Only blocks with an identity shortcut (options A and B), or plain ones with batch norm, can be identities."
        )


def deepened(shallow: nn.Module, name: str, num_classes: int, **options) -> nn.Module:
    """A new net by name that computes what `shallow` computes: `deepened(net, "resnet34", 1000)`."""
    from resdet.backbones.registry import create

    deep = deepen(shallow, create(name, num_classes, **options))
    return deep.train(shallow.training).to(next(shallow.parameters()).device)
