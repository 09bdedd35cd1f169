"""Builds narrow detectron2 models with random weights, and resdet detectors with the same weights."""

import numpy as np
import torch
from detection.heads.twins import scale_once
from narrow import narrow_resnets
from norms import randomise_norms
from torch import nn

from resdet import config as configs
from resdet.detection.model import Detector
from resdet.hub import build_for
from resdet.weights.layouts import detectron2 as layout

SHORT, LONG = 160, 256
CLASSES = [str(number) for number in range(6)]
ZOO = {
    "fpn": "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml",
    "c4": "COCO-Detection/faster_rcnn_R_50_C4_1x.yaml",
    "dc5": "COCO-Detection/faster_rcnn_R_50_DC5_1x.yaml",
    "mask_fpn": "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml",
    "mask_c4": "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x.yaml",
    "mask_dc5": "COCO-InstanceSegmentation/mask_rcnn_R_50_DC5_1x.yaml",
    "cascade": "Misc/cascade_mask_rcnn_R_50_FPN_1x.yaml",
    "gn": "Misc/mask_rcnn_R_50_FPN_3x_gn.yaml",
}
WIDTHS = {  # multiples of the stem's width, which is 8 instead of 64, or 32 for GroupNorm's 32 groups
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 1,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 1,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 4,
    "MODEL.FPN.OUT_CHANNELS": 4,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 8,
    "MODEL.ROI_BOX_HEAD.CONV_DIM": 4,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 4,
}
SMALL = {
    "MODEL.DEVICE": "cpu",
    "MODEL.WEIGHTS": "",
    "MODEL.ROI_HEADS.NUM_CLASSES": len(CLASSES),
    "MODEL.RPN.POST_NMS_TOPK_TEST": 150,
    "TEST.DETECTIONS_PER_IMAGE": 300,
    "INPUT.MIN_SIZE_TEST": SHORT,
    "INPUT.MAX_SIZE_TEST": LONG,
}
SPREAD = {  # target standard deviation of the output of each last layer
    "objectness_logits": 2.0,
    "anchor_deltas": 0.3,
    "cls_score": 1.5,
    "bbox_pred": 1.0,
    "mask_head.predictor": 3.0,
}


def width(name: str) -> int:
    """Returns the width of the stem."""
    return 32 if name == "gn" else 8


def config(name: str, **options):
    """Returns the zoo's config with narrow layers and with `options`, given by their keys."""
    from detectron2 import model_zoo

    found = model_zoo.get_config(ZOO[name])
    widths = {key: times * width(name) for key, times in WIDTHS.items()}
    found.merge_from_list([part for pair in (widths | SMALL | options).items() for part in pair])
    return found


def theirs(cfg) -> nn.Module:
    from detectron2.modeling import build_model

    torch.manual_seed(0)
    return randomise_norms(build_model(cfg).eval())


@torch.no_grad()
def spread_out(model: nn.Module, batch: list[dict]) -> nn.Module:
    """Scales each last layer by its first output, so that hundreds of different boxes get different scores."""
    for name, layer in model.named_modules():
        part = next((part for part in SPREAD if f".{part}" in name and isinstance(layer, (nn.Linear, nn.Conv2d))), None)
        if part:
            scale_once(layer, SPREAD[part])
    model(batch)
    return model


def batch(pictures: list[np.ndarray], order: str = "BGR") -> list[dict]:
    """Returns the model input that detectron2's predictor makes of RGB images [h, w, 3]."""
    from detectron2.data import transforms

    resize = transforms.ResizeShortestEdge([SHORT, SHORT], LONG)
    made = []
    for picture in pictures:
        pixels = picture[:, :, ::-1] if order == "BGR" else picture
        resized = resize.get_transform(pixels).apply_image(pixels)
        image = torch.as_tensor(np.ascontiguousarray(resized.transpose(2, 0, 1)))
        made.append({"image": image, "height": picture.shape[0], "width": picture.shape[1]})
    return made


def precise(model: nn.Module) -> nn.Module:
    """Converts a model to float64 up to the scores and deltas of boxes, since detectron2's NMS needs float32."""
    from detectron2.modeling.proposal_generator.rpn import StandardRPNHead
    from detectron2.modeling.roi_heads import FastRCNNOutputLayers

    def single(value):
        return [single(item) for item in value] if isinstance(value, (list, tuple)) else value.float()

    for module in model.modules():
        if isinstance(module, (StandardRPNHead, FastRCNNOutputLayers)):
            module.register_forward_hook(lambda module, given, output: single(output))
    return model.double()


def narrow(stem: int):
    """Builds resdet's nets with this stem width, and stages in proportion, within the context."""
    return narrow_resnets(tuple(stem * 2**stage for stage in range(4)))


def ours(state: dict, **overrides) -> Detector:
    """Builds the resdet detector that a detectron2 state dict implies, with its weights and the sizes of SMALL."""
    settings = layout.settings(state)
    settings["rpn"] |= {"post_nms": [1000, 150]}
    settings["box"] |= {"detections": 300}
    settings["input"] |= {"min_size": SHORT, "max_size": LONG}
    experiment = configs.from_dict({"task": "detection", "model": settings | overrides})
    return loaded(build_for(experiment, CLASSES), layout.to_our_names(state))


def loaded(model: nn.Module, state: dict) -> nn.Module:
    """Loads all tensors of a resdet model from `state`."""
    state = dict(state)
    model.normalize.set(state.pop("normalize.mean"), state.pop("normalize.std"))
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and {name.split(".")[0] for name in missing} <= {"normalize"}
    return model.eval()
