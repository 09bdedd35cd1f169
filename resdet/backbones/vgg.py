"""VGG-16 and VGG-19 (reference [41] of the paper): baselines of Tables 3 to 8."""

from torch import Tensor, nn
from torch.nn import functional as F

from resdet.backbones.config import VGGConfig
from resdet.backbones.layers import Backbone, ConvRelu, initialize

CONVOLUTIONS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
WIDTHS = (64, 128, 256, 512, 512)
STRIDES = {"c1": 1, "c2": 2, "c3": 4, "c4": 8, "c5": 16}


def make_stage(in_channels: int, width: int, count: int, pool: bool, norm: str | None) -> nn.Sequential:
    """Creates convolutions of equal width; `pool` puts max pooling first, so feature maps are those before pooling."""
    widths = [in_channels] + [width] * count
    convolutions = [ConvRelu(a, b, 3, norm=norm, bias=True) for a, b in zip(widths, widths[1:])]
    return nn.Sequential(*([nn.MaxPool2d(2)] if pool else []), *convolutions)


class VGG(Backbone):
    """Five stages and three linear layers; `c5` is conv5_3 before pooling, at stride 16, as in detectors."""

    stages = {f"c{k}": f"conv{k}_x" for k in range(1, 6)}
    strides = STRIDES
    channels = dict(zip(STRIDES, WIDTHS))
    fc6: nn.Linear
    fc7: nn.Linear

    def __init__(self, counts: tuple[int, ...], num_classes: int, norm: str | None, dropout: float):
        super().__init__()
        channels = 3
        for (name, attribute), width, count in zip(self.stages.items(), WIDTHS, counts):
            setattr(self, attribute, make_stage(channels, width, count, name != "c1", norm))
            channels = width
        self.dropout = dropout
        for name, sides in (("fc6", (512 * 7 * 7, 4096)), ("fc7", (4096, 4096)), ("fc", (4096, num_classes))):
            self.register_module(name, nn.Linear(*sides) if num_classes else None)
        initialize(self)

    def stem(self, images: Tensor) -> Tensor:
        return images

    def classify(self, last: Tensor) -> Tensor:
        if self.fc is None:
            return super().classify(last)
        x = F.adaptive_avg_pool2d(F.max_pool2d(last, 2), 7).flatten(1)
        for layer in (self.fc6, self.fc7):
            x = F.dropout(F.relu(layer(x), inplace=True), self.dropout, self.training)
        return self.fc(x)

    def dense(self, images: Tensor) -> Tensor:
        """Applies the linear layers as convolutions: fc6 as 7×7, the others as 1×1 (section 3.4)."""
        x = F.max_pool2d(self.last(images), 2)
        x = F.adaptive_avg_pool2d(x, (max(x.shape[2], 7), max(x.shape[3], 7)))  # enlarges maps of small images
        for layer, kernel in ((self.fc6, 7), (self.fc7, 1)):
            weight = layer.weight.view(4096, -1, kernel, kernel)
            x = F.dropout(F.relu(F.conv2d(x, weight, layer.bias), inplace=True), self.dropout, self.training)
        return F.conv2d(x, self.fc.weight[:, :, None, None], self.fc.bias)


def vgg(config: VGGConfig, depth: int, num_classes: int) -> VGG:
    return VGG(CONVOLUTIONS[depth], num_classes, config.norm, config.dropout)
