"""The optimiser: which parameters decay, and the learning rate for the batch at hand."""

import torch
from torch import nn

from resdet.engine.config import OptimConfig


def build_optimizer(model: nn.Module, config: OptimConfig, lr: float) -> torch.optim.Optimizer:
    """SGD or AdamW over the parameters that learn; norms and biases decay only where the config says so."""
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if config.decay_norm_and_bias:
        groups = [{"params": learned}]
    else:
        groups = [
            {"params": [p for p in learned if p.dim() > 1]},
            {"params": [p for p in learned if p.dim() <= 1], "weight_decay": 0.0},
        ]
    if config.name == "adamw":
        return torch.optim.AdamW(groups, lr, betas=tuple(config.betas), weight_decay=config.weight_decay)
    return torch.optim.SGD(
        groups, lr, momentum=config.momentum, nesterov=config.nesterov, weight_decay=config.weight_decay
    )


def scaled_lr(config: OptimConfig, batch: int) -> float:
    """The linear scaling rule (Goyal et al., 1706.02677): lr is stated for `base_batch` images."""
    return config.lr * batch / config.base_batch if config.base_batch else config.lr
