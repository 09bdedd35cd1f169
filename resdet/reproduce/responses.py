"""Standard deviations of layer responses (section 4.2, "Analysis of Layer Responses"; Figure 7)."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from resdet.backbones.layers import ConvNorm
from resdet.backbones.modes import evaluating


@torch.no_grad()
def response_deviations(net: nn.Module, batches: Iterable[Tensor]) -> dict[str, float]:
    """Returns {layer: standard deviation} for the outputs of each 3×3 layer on normalized images [B, 3, H, W].

    "The responses are the outputs of each 3×3 layer, after BN and before other nonlinearity (ReLU/addition)": the
    outputs of the norms, in execution order. The deviation is over images, channels and positions.
    """
    moments: dict[str, Tensor] = {}

    def note(name: str):
        def hook(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            wide = output.double()  # copies now, since later layers modify the tensor in place
            sums = torch.stack([wide.new_tensor(wide.numel()), wide.sum(), wide.square().sum()])
            moments[name] = moments.get(name, 0) + sums

        return hook

    layers = {name: m for name, m in net.named_modules() if isinstance(m, ConvNorm) and m.conv.kernel_size == (3, 3)}
    handles = [module.register_forward_hook(note(name)) for name, module in layers.items()]
    try:
        with evaluating([net]):
            for images in batches:
                net(images)
    finally:
        for handle in handles:
            handle.remove()
    return {name: deviation(*sums.tolist()) for name, sums in moments.items()}


def deviation(count: float, total: float, squares: float) -> float:
    return max(squares / count - (total / count) ** 2, 0.0) ** 0.5
