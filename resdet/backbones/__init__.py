"""Residual, plain and VGG nets, as classifiers and as feature extractors (section 3.3, Table 1, section 4.2).

    net = resdet.backbones.create("resnet34", num_classes=1000, shortcut="C")
    net(images)                 # [B, 3, H, W] normalized float -> logits [B, 1000]
    net.features(images)        # {"c2": [B, 64, H/4, W/4], …, "c5": [B, 512, H/32, W/32]}

To add a net, register a config with `build` in any module (examples/extend/backbone.py).

    @resdet.backbones.register("my_net")
    @dataclass
    class MyNetConfig(BackboneConfig): ...
"""

from typing import TYPE_CHECKING

from resdet._lazy import attach

if TYPE_CHECKING:
    from resdet.backbones import surgery as surgery
    from resdet.backbones.complexity import count_multiply_adds as count_multiply_adds
    from resdet.backbones.complexity import count_parameters as count_parameters
    from resdet.backbones.config import BackboneConfig as BackboneConfig
    from resdet.backbones.config import names as names
    from resdet.backbones.config import register as register
    from resdet.backbones.layers import Backbone as Backbone
    from resdet.backbones.registry import create as create
    from resdet.backbones.registry import entry as entry

__getattr__, __dir__ = attach(
    __name__,
    {
        "names": "config",
        "register": "config",
        "Backbone": "layers",
        "BackboneConfig": "config",
        "create": "registry",
        "entry": "registry",
        "count_multiply_adds": "complexity",
        "count_parameters": "complexity",
        "surgery": "surgery",
    },
)
