"""Unsupported nets, recognized by tensor names for error messages."""

import re
from collections.abc import Iterable

KINDS = (  # (pattern of a tensor name, kind of net); the first match wins
    (r"head\.classification_head\.(cls_logits|conv)\..*", "a RetinaNet or FCOS of torchvision"),
    (r"head\.classification_head\.module_list\..*", "an SSD of torchvision"),
    (r"(aux_)?classifier\.(4|low_classifier)\.weight", "a segmentation net of torchvision"),
    (r"(.*\.)?transformer\.(encoder|decoder)\.layers\.0\..*", "a DETR"),
    (r"head\.(cls_score|cls_subnet\.0)\.weight", "a RetinaNet of detectron2"),
    (r"sem_seg_head\..*", "a segmentation net of detectron2"),
    (r"(bbox|rpn|roi|decode|mask)_head\..*", "a net of mmdetection or mmsegmentation"),
    (r"(model\.)?model\.\d+\.(conv|cv1|m)\..*", "a YOLO of ultralytics"),
    (r"(module\.)?(encoder_[qk]|teacher|student)\..*", "a net of self-supervised training"),
    (r"(visual|text_model|vision_model)\..*", "a CLIP or another net of images and text"),
    (r"(.*\.)?(attn|self_attn|self_attention|attention)\..*", "a transformer"),
    (r"features\.denseblock1\..*", "a DenseNet"),
    (r"(.*\.)?(conv_pw|conv_dw)\..*|features\.\d+\.(0|conv\.0|block\.0)\..*", "a MobileNet, EfficientNet or ConvNeXt"),
    (r"stages\.\d+\.(blocks\.)?\d+\..*|features\.\d+\.squeeze\..*|Conv2d_1a_3x3\..*", "a net of torchvision or timm"),
)


def kind_of(names: Iterable[str]) -> str | None:
    """Returns the kind of net with these tensor names, or None."""
    names = list(names)
    return next((kind for pattern, kind in KINDS if any(re.fullmatch(pattern, name) for name in names)), None)
