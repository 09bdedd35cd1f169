"""Bridge to the timm library: `timm/<name>` as a backbone."""

from types import ModuleType

from torch import Tensor

from resdet.backbones.config import TimmConfig
from resdet.backbones.layers import Backbone
from resdet.errors import ConfigError


class TimmBackbone(Backbone):
    """A timm net; features are the deepest maps of each stride: c2 at stride 4, c3 at 8, up to c5."""

    def __init__(self, name: str, num_classes: int, pretrained: bool):
        super().__init__()
        self.net = import_timm().create_model(name, pretrained=pretrained, num_classes=num_classes)
        self.classifier_name = f"net.{self.net.default_cfg['classifier']}"
        stride_of = [info["reduction"] for info in self.net.feature_info]
        deepest = {stride: index for index, stride in enumerate(stride_of) if stride >= 4}
        self.indices = list(deepest.values())
        self.strides = {f"c{stride.bit_length() - 1}": stride for stride in deepest}
        self.channels = {
            name: self.net.feature_info[index]["num_chs"] for name, index in zip(self.strides, self.indices)
        }

    def features(self, images: Tensor, upto: str | None = None) -> dict[str, Tensor]:
        names = list(self.strides)
        names = names[: names.index(upto) + 1] if upto else names
        maps = self.net.forward_intermediates(
            images, indices=self.indices[: len(names)], intermediates_only=True, output_fmt="NCHW", stop_early=True
        )
        return dict(zip(names, maps))

    def classify(self, last: Tensor) -> Tensor:
        return self.net.forward_head(last)

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)

    def dense(self, images: Tensor) -> Tensor:
        """Computes logits [B, num_classes, 1, 1], since timm nets pool globally."""
        return self.net(images)[:, :, None, None]


def import_timm() -> ModuleType:
    try:
        import timm
    except ImportError:
        raise ConfigError("Backbones named timm/… need the timm library: pip install timm.") from None
    return timm


def timm_net(config: TimmConfig, num_classes: int) -> TimmBackbone:
    name = config.name.removeprefix("timm/")
    timm = import_timm()
    if not timm.is_model(name):
        near = (timm.list_models(f"*{name}*") or timm.list_models(f"{name[:6]}*"))[:3]
        hint = f"did you mean timm/{' or timm/'.join(near)}?" if near else "timm.list_models() lists them."
        raise ConfigError(f"timm has no net named {name!r}: {hint}")
    return TimmBackbone(name, num_classes, config.pretrained)
