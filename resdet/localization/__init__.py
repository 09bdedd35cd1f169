"""ImageNet localization (appendix C): a per-class RPN, and an R-CNN on its proposals."""

from typing import TYPE_CHECKING

from resdet._lazy import attach

if TYPE_CHECKING:
    from resdet.localization.classify_and_locate import ClassifyAndLocate as ClassifyAndLocate
    from resdet.localization.rcnn_model import LocalizerRCNN as LocalizerRCNN
    from resdet.localization.rpn_model import Localizer as Localizer

__getattr__, __dir__ = attach(
    __name__, {"Localizer": "rpn_model", "LocalizerRCNN": "rcnn_model", "ClassifyAndLocate": "classify_and_locate"}
)
