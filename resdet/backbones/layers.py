"""Building blocks of all nets: norms, convolutions with norm, and the base class."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resdet.errors import ConfigError

GROUPS = 32  # number of groups in group norm


class FrozenBatchNorm2d(nn.Module):
    """Batch norm with constant statistics and affine parameters (appendix A: "BN is fixed" in detection)."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)

    def affine(self) -> tuple[Tensor, Tensor]:
        """Returns scale and shift per channel, [C]."""
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        return scale, self.bias - self.running_mean * scale

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, eps={self.eps}"


class FrozenBatchNormAct2d(FrozenBatchNorm2d):
    """Frozen replacement of timm's BatchNormAct2d, with dropout and an activation after the norm."""

    def __init__(self, channels: int, eps: float, drop: nn.Module, act: nn.Module):
        super().__init__(channels, eps)
        self.drop, self.act = drop, act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(x)))


def make_norm(kind: str | None, channels: int) -> nn.Module:
    """Creates `bn`, `frozen`, `sync` or `gn` (GROUPS groups), or an identity for None."""
    if kind is None:
        return nn.Identity()
    if kind == "gn":
        if channels > GROUPS and channels % GROUPS:
            raise ConfigError(
                f"norm is gn and a layer has {channels} channels: give a width that is a multiple of {GROUPS}, its "
                "number of groups, or another norm."
            )
        return nn.GroupNorm(min(GROUPS, channels), channels)
    if kind == "sync":
        from resdet.backbones.sync_batch_norm import SyncBatchNorm2d  # imports dynamo, which takes seconds

        return SyncBatchNorm2d(channels)
    return {"bn": nn.BatchNorm2d, "frozen": FrozenBatchNorm2d}[kind](channels)


class ConvNorm(nn.Module):
    """Convolution with norm "right after each convolution and before activation" (section 3.4)."""

    norm: nn.Module

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        norm: str | None = "bn",
        dilation: int = 1,
        bias: bool | None = None,
    ):
        """`bias`: None adds a bias only without a norm."""
        super().__init__()
        padding = dilation * (kernel // 2)
        bias = norm is None if bias is None else bias
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, dilation=dilation, bias=bias)
        self.norm = make_norm(norm, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.norm, FrozenBatchNorm2d) and type(self.conv) is nn.Conv2d:
            return self.scaled(x, *self.norm.affine())
        return self.norm(self.conv(x))

    def scaled(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """Applies convolution and constant norm in one pass over the maps, also in training, without their hooks."""
        if self.conv.bias is not None:
            shift = shift + self.conv.bias * scale
        return self.conv._conv_forward(x, self.conv.weight * scale[:, None, None, None], shift)


class ConvRelu(ConvNorm):
    """A convolution, an optional norm, and a ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        fused = fused_relu(self)
        return F.relu(super().forward(x), inplace=True) if fused is None else fused(x)


def conv_relu(layer: nn.Module, x: Tensor) -> Tensor:
    """Computes ReLU(layer(x)) for a convolution or a `ConvNorm`."""
    fused = fused_relu(layer)
    return F.relu(layer(x), inplace=True) if fused is None else fused(x)


def fused_relu(layer: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """Returns the convolution fused with ReLU, in one pass over the maps, if it is packed (`resdet.onednn`)."""
    conv = layer.conv if isinstance(layer, ConvNorm) and isinstance(layer.norm, nn.Identity) else layer
    return getattr(conv, "relu", None)


def conv_stack(channels: int, width: int, count: int, norm: str | None) -> nn.Sequential:
    """Stacks 3×3 convolutions of equal width, each with a ReLU."""
    widths = [channels] + [width] * count
    return nn.Sequential(*(ConvRelu(a, b, 3, norm=norm) for a, b in zip(widths, widths[1:])))


def initialize(net: nn.Module) -> None:
    """Applies He initialization to convolutions (reference [13] of the paper); linear weights: std 0.01; biases: 0."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
        if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
            nn.init.zeros_(module.bias)


class Backbone(nn.Module):
    """Base class of all nets: logits, feature maps by stage, and dense logits for images of any size.

    `channels` and `strides` describe the maps of `features`; `stages` names the modules that compute them, in order.
    With `num_classes=0` the net has no classifier and outputs the pooled last feature map, as in timm.
    """

    stages: Mapping[str, str] = {}  # {"c2": "conv2_x", …}: feature name -> attribute; empty for timm nets
    pool_window: int  # side of a training crop's last feature map
    classifier_name = "fc"  # module replaced by fine-tuning on other classes
    channels: dict[str, int]
    strides: dict[str, int]
    fc: nn.Linear  # None without a classifier

    def __init__(self) -> None:
        super().__init__()
        self.stages = dict(self.stages)  # torch 2.6's dynamo does not read class-level dicts

    def stem(self, images: Tensor) -> Tensor:
        """Applies the layers before the first stage."""
        raise NotImplementedError

    def features(self, images: Tensor, upto: str | None = None) -> dict[str, Tensor]:
        """Returns the output of each stage, up to `upto`; C4 detectors share `upto="c4"` (appendix A)."""
        x, maps = self.stem(images), {}
        for name, attribute in self.stages.items():
            x = maps[name] = getattr(self, attribute)(x)
            if name == upto:
                break
        return maps

    def classify(self, last: Tensor) -> Tensor:
        """Computes logits [B, num_classes] from the last feature map: global average pooling and one linear layer.

        Without a classifier, returns the pooled map [B, C].
        """
        pooled = last.mean((2, 3))
        return pooled if self.fc is None else self.fc(pooled)

    def forward(self, images: Tensor) -> Tensor:
        return self.classify(self.last(images))

    def last(self, images: Tensor) -> Tensor:
        """Computes the deepest feature map."""
        return [*self.features(images).values()][-1]

    def dense(self, images: Tensor) -> Tensor:
        """Computes logits [B, num_classes, h, w] in a fully-convolutional pass over images of any size (section 3.4).

        Each position averages a window as large as a training crop's map (7×7 of conv5_x at 224 pixels).
        """
        last = self.last(images)
        window = [min(self.pool_window, side) for side in last.shape[2:]]
        pooled = F.avg_pool2d(last, window, stride=1)
        return F.conv2d(pooled, self.fc.weight[:, :, None, None], self.fc.bias)


def init_convs(*parts: nn.Module) -> None:
    """Applies He initialization by fan-out, and zero biases, to convolutions of heads, as in detectron2."""
    for layer in (module for part in parts for module in part.modules()):
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
