"""Norms that look trained, so that a test which confuses them fails."""

from torch import nn


def randomise_norms(net: nn.Module) -> nn.Module:
    """Other statistics and affine parameters in every batch norm of a net, frozen ones included."""
    for module in net.modules():
        if hasattr(module, "running_var"):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.3, 3)
            nn.init.uniform_(module.weight, 0.3, 1)
            nn.init.normal_(module.bias, 0, 0.3)
    return net
