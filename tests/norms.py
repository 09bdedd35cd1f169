"""Randomizes batch norms, so that a test fails if two of them are swapped."""

from torch import nn


def randomise_norms(net: nn.Module) -> nn.Module:
    """Draws random statistics and affine parameters for every batch norm of a net, including frozen ones."""
    for module in net.modules():
        if hasattr(module, "running_var"):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.3, 3)
            nn.init.uniform_(module.weight, 0.3, 1)
            nn.init.normal_(module.bias, 0, 0.3)
    return net
