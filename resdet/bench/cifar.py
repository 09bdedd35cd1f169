"""A training step of the CIFAR nets of section 4.2. Peers have none: theirs are built from their basic blocks."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from resdet.backbones import registry
from resdet.bench.nets import COMPILED, EAGER, NOT_INSTALLED, pixels
from resdet.bench.train import training_cases
from resdet.timing import Case

BATCH, SIZE, CLASSES = 128, 32, 10
WIDTHS = (16, 32, 64)


def cases(batch: int = BATCH) -> Iterator[Case]:
    """ResNet-20, 56 and 110; the last is not compiled, which would take minutes."""
    images = pixels(batch, SIZE)
    for depth, prefix, variants in (
        (20, "resnet20 ", (*EAGER, *COMPILED)),
        (56, "resnet56 ", (*EAGER, *COMPILED)),
        (110, "resnet110 (eager only) ", EAGER),
    ):
        yield from training_cases(prefix, cifar_nets(depth), images, variants)


def cifar_nets(depth: int) -> dict[str, nn.Module | str]:
    """The net of 6n+2 layers from the blocks of three libraries."""
    from torchvision.models.resnet import BasicBlock

    torch.manual_seed(0)
    n = (depth - 2) // 6
    timm_block = find_timm_block()
    return {
        "torchvision": PeerNet(BasicBlock, n),
        "timm": PeerNet(timm_block, n) if timm_block else NOT_INSTALLED,
        "resdet": registry.create(f"cifar_resnet{depth}", CLASSES),
    }


def find_timm_block() -> type[nn.Module] | None:
    try:
        from timm.models.resnet import BasicBlock
    except ImportError:
        return None
    return BasicBlock


class PeerNet(nn.Module):
    """Section 4.2's net from another library's basic blocks, with their shortcut: option B where ours has A."""

    def __init__(self, block: type[nn.Module], n: int):
        super().__init__()
        layers = [nn.Conv2d(3, WIDTHS[0], 3, padding=1, bias=False), nn.BatchNorm2d(WIDTHS[0]), nn.ReLU(inplace=True)]
        channels = WIDTHS[0]
        for width in WIDTHS:
            stride = width // channels  # halves the map where it doubles the channels
            layers += [block(channels, width, stride, projection(channels, width, stride))]
            layers += [block(width, width) for _ in range(n - 1)]
            channels = width
        self.layers = nn.Sequential(*layers)
        self.fc = nn.Linear(channels, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.layers(images).mean((2, 3)))


def projection(channels: int, width: int, stride: int) -> nn.Module | None:
    """The 1×1 convolution of a shortcut whose dimensions grow."""
    if stride == 1:
        return None
    return nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))
