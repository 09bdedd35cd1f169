"""Config of necks; free of torch."""

from dataclasses import dataclass

from resdet.backbones.config import Norm


@dataclass
class FPNConfig:
    """The pyramid over the backbone's stages."""

    width: int = 256
    norm: Norm | None = None
