"""ImageNet localization (appendix C): a per-class RPN, and an R-CNN on its proposals."""

from resdet._lazy import attach

__getattr__, __dir__ = attach(
    __name__, {"Localizer": "rpn_model", "LocalizerRCNN": "rcnn_model", "ClassifyAndLocate": "classify_and_locate"}
)
