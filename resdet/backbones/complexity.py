"""Counts parameters and multiply-adds of a net (see Tables 1 and 6 for the paper's)."""

import torch
from torch import nn

from resdet.backbones.layers import ConvNorm


def count_parameters(net: nn.Module) -> int:
    """Counts parameters, including the affine parameters of norms."""
    return sum(parameter.numel() for parameter in net.parameters())


def count_multiply_adds(net: nn.Module, image_size: int) -> int:
    """Counts multiply-adds of convolutions and linear layers for one image, in a forward pass."""
    total = 0

    def count(module, inputs, output):
        nonlocal total
        # Each output value sums as many products as a filter (or row) has weights.
        layer = module.conv if isinstance(module, ConvNorm) else module
        total += output[0].numel() * layer.weight[0].numel()

    units = [module for module in net.modules() if isinstance(module, ConvNorm)]
    within = {unit.conv for unit in units}  # not called by a unit with a constant norm
    others = [m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear)) and m not in within]
    hooks = [module.register_forward_hook(count) for module in (*units, *others)]
    try:
        with torch.no_grad():
            device = next(net.parameters()).device
            net(torch.zeros(1, 3, image_size, image_size, device=device))
    finally:
        for hook in hooks:
            hook.remove()
    return total


def on_paper(name: str, num_classes: int, **options) -> nn.Module:
    """Creates a net on torch's meta device, without memory or arithmetic, for counting."""
    from resdet.backbones.registry import create

    with torch.device("meta"):
        return create(name, num_classes, **options).eval()
