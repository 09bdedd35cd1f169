"""Training steps of the CIFAR nets of section 4.2; the peers are built from the other libraries' basic blocks."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from resdet.backbones import registry
from resdet.bench.nets import COMPILED, EAGER, NOT_INSTALLED, pixels
from resdet.bench.train import training_cases
from resdet.timing import Case

BATCH, SIZE, CLASSES = 128, 32, 10
WIDTHS = (16, 32, 64)


def cases(batch: int = BATCH, device: str = "cpu") -> Iterator[Case]:
    """Yields ResNet-20, 56 and 110; ResNet-110 is not compiled, since that takes minutes."""
    images = pixels(batch, SIZE, device)
    for depth, prefix, variants in (
        (20, "resnet20 ", (*EAGER, *COMPILED)),
        (56, "resnet56 ", (*EAGER, *COMPILED)),
        (110, "resnet110 (eager only) ", EAGER),
    ):
        yield from training_cases(prefix, cifar_nets(depth), images, variants)


def cifar_nets(depth: int) -> dict[str, nn.Module | str]:
    """Builds the net of `depth` = 6n+2 layers from the blocks of three libraries."""
    from torchvision.models.resnet import BasicBlock

    torch.manual_seed(0)
    n = (depth - 2) // 6
    block = timm_block()
    return {
        "torchvision": PeerNet(BasicBlock, n),
        "timm": PeerNet(block, n) if block else NOT_INSTALLED,
        "resdet": registry.create(f"cifar_resnet{depth}", CLASSES),
    }


def timm_block() -> type[nn.Module] | None:
    try:
        from timm.models.resnet import BasicBlock
    except ImportError:
        return None
    return BasicBlock


class PeerNet(nn.Module):
    """The net of section 4.2 from another library's basic blocks, with shortcut option B instead of A."""

    def __init__(self, block: type[nn.Module], n: int):
        super().__init__()
        channels = WIDTHS[0]
        stem = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        layers: list[nn.Module] = [stem, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
        for width in WIDTHS:
            stride = width // channels  # halves the map when the channels double
            layers += [block(channels, width, stride, projection(channels, width, stride))]
            layers += [block(width, width) for _ in range(n - 1)]
            channels = width
        self.layers = nn.Sequential(*layers)
        self.fc = nn.Linear(channels, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.layers(images).mean((2, 3)))


def projection(channels: int, width: int, stride: int) -> nn.Module | None:
    """The 1×1 convolution of a shortcut with increasing dimensions; None for stride 1."""
    if stride == 1:
        return None
    return nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))
