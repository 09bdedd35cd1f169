"""Compares detections of resdet and detectron2 with the same weights, loaded in both directions.

Both compute in float64, as in tests/detection/test_parity.py, so that the order of summation changes no result.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from detection.heads.twins import pictures
from interop import detectron2_twins as twins
from interop import zoo_states
from torch import Tensor

from resdet import config as configs
from resdet.detection.inference.predictor import pad, results_of
from resdet.hub import build_for
from resdet.interop.to_detectron2 import config_for
from resdet.results.result import Result
from resdet.weights.layouts import detectron2 as layout

pytest.importorskip("detectron2", reason="detectron2 is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")

SIZES = [(97, 131), (213, 150)]  # the first image is enlarged, the second reduced


def rgb(sizes: list[tuple[int, int]], seed: int = 0) -> list[np.ndarray]:
    return [picture.permute(1, 2, 0).numpy() for picture in pictures(*sizes, seed=seed)]


def same(found: Result, expected) -> None:
    """Asserts equal counts and classes, boxes within 0.01 pixels, scores within 1e-4, and similar masks."""
    assert len(found) == len(expected)
    boxes, scores, labels = (torch.from_numpy(a) for a in (found.boxes, found.scores, found.labels))
    near = (boxes[:, None] - expected.pred_boxes.tensor).abs().amax(2) < 0.01
    near &= (scores[:, None] - expected.scores).abs() < 1e-4
    near &= labels[:, None] == expected.pred_classes
    assert near.any(0).all() and near.any(1).all()
    assert (found.masks is None) == (not expected.has("pred_masks"))
    if found.masks is not None:
        assert masks_alike(torch.from_numpy(found.masks)[near.int().argmax(0)], expected.pred_masks)


def masks_alike(mine: Tensor, theirs: Tensor) -> bool:
    """Checks that the IoU of each pair of masks is at least 0.99, or that they differ in one pixel at most."""
    shared, union = (mine & theirs).sum((1, 2)), (mine | theirs).sum((1, 2))
    return bool(((shared >= 0.99 * union) | (union - shared <= 1)).all())


def detect(model: torch.nn.Module, batch: list[dict]) -> list:
    return [found["instances"] for found in model(batch)]


@pytest.mark.parametrize("name", ["fpn", "c4", "dc5", "mask_fpn", "mask_c4", "mask_dc5", "cascade"])
@torch.no_grad()
def test_detectron2_weights_in_resdet(name):
    images = rgb(SIZES)
    batch = twins.batch(images)
    theirs = twins.spread_out(twins.theirs(twins.config(name)), batch[:1])
    with twins.narrow(twins.width(name)):
        ours = twins.ours(theirs.state_dict())
    twins.precise(theirs), ours.double()
    results = ours.predict(images)
    for result, given in zip(results, batch):
        same(result, detect(theirs, [given])[0])
    assert sum(map(len, results)) > 300


@torch.no_grad()
def test_detectron2_weights_in_a_padded_batch():
    images = rgb([*SIZES, (160, 160)], seed=1)
    batch = twins.batch(images)
    theirs = twins.spread_out(twins.theirs(twins.config("mask_dc5")), batch[:1])
    with twins.narrow(8):
        ours = twins.ours(theirs.state_dict())
    twins.precise(theirs), ours.double()
    padded = pad([given["image"].flip(0).permute(1, 2, 0) for given in batch], ours.input.divisor)
    results = results_of(ours, padded, [image.shape[:2] for image in images])
    for result, expected in zip(results, detect(theirs, batch)):
        same(result, expected)


@pytest.mark.slow
@torch.no_grad()
def test_group_norm():
    images = rgb(SIZES[:1])
    batch = twins.batch(images)
    theirs = twins.spread_out(twins.theirs(twins.config("gn")), batch)
    with twins.narrow(twins.width("gn")):
        ours = twins.ours(theirs.state_dict())
    twins.precise(theirs), ours.double()
    same(ours.predict(images)[0], detect(theirs, batch)[0])


OURS = {  # sections of resdet configs that differ from the defaults
    "fpn": {"features": "fpn", "fpn": {"width": 32}},
    "r18_two_rpn_convs": {
        "backbone": {"name": "resnet18"},
        "features": "fpn",
        "fpn": {"width": 32, "norm": "bn"},
        "rpn": {"convs": 2, "nms": 0.6},
        "box": {"convs": 2, "linears": 1, "conv_width": 32, "norm": "bn", "aligned": False, "sampling": 2, "nms": 0.4},
        "mask": {"convs": 2, "width": 32, "resolution": 7, "norm": "bn"},
    },
    "c4_unaligned": {
        "backbone": {"name": "resnet50", "stride_in": "1x1", "norm": "frozen"},
        "features": "c4",
        "rpn": {"channels": 24, "anchors": {"sizes": [[24, 64, 128]], "ratios": [0.4, 1.0]}},
        "box": {"aligned": False},
        "input": {"divisor": 1},
    },
    "mask_c4": {"backbone": {"norm": "frozen"}, "features": "c4", "mask": {"width": 32}, "input": {"divisor": 1}},
    "dc5": {"backbone": {"norm": "frozen"}, "features": "dc5", "freeze_stages": 2, "input": {"divisor": 1}},
    "cascade": {
        "features": "fpn",
        "fpn": {"width": 32},
        "box": {"ious": [0.4, 0.6], "class_agnostic": True},
    },
}


def of_ours(name: str):
    """Builds resdet's detector with randomized norms, and detectron2's detector from the config exported for it."""
    from detectron2.config import CfgNode, get_cfg
    from detectron2.modeling import build_model

    section = {"num_classes": len(twins.CLASSES)} | OURS[name]
    section["box"] = {"width": 64, "detections": 300} | section.get("box", {})
    section["rpn"] = {"post_nms": [1000, 150]} | section.get("rpn", {})
    section["input"] = {"short": twins.SHORT, "long": twins.LONG, "resize": "pillow"} | section.get("input", {})
    experiment = configs.from_dict({"task": "detection", "data": {"name": "coco"}, "model": section})
    stem = 64 if experiment.model.backbone.name == "resnet18" else 8
    torch.manual_seed(0)
    with twins.narrow(stem):
        ours = twins.randomise_norms(build_for(experiment, twins.CLASSES)).eval()
    cfg = get_cfg()
    cfg.merge_from_other_cfg(CfgNode(config_for(ours)))
    times = 1 if stem == 64 else 4
    cfg.merge_from_list(
        [
            *("MODEL.DEVICE", "cpu", "MODEL.RESNETS.STEM_OUT_CHANNELS", stem, "MODEL.RESNETS.WIDTH_PER_GROUP", stem),
            *("MODEL.RESNETS.RES2_OUT_CHANNELS", times * stem, "MODEL.BACKBONE.FREEZE_AT", ours_frozen(section)),
        ]
    )
    return ours, build_model(cfg).eval()


def ours_frozen(section: dict) -> int:
    return section.get("freeze_stages", 0)


@pytest.mark.parametrize("name", OURS)
@torch.no_grad()
def test_resdet_weights_in_detectron2(name):
    ours, theirs = of_ours(name)
    images = rgb(SIZES)
    batch = twins.batch(images)
    theirs.load_state_dict(layout.from_our_names(ours), strict=True)
    twins.spread_out(theirs, batch[:1])
    with_spread = layout.to_our_names(theirs.state_dict())  # copies the scaled last layers to resdet's model
    ours.load_state_dict({k: v for k, v in with_spread.items() if not k.startswith("normalize.")}, strict=False)
    theirs.load_state_dict(layout.from_our_names(ours), strict=True)
    twins.precise(theirs), ours.double()
    results = ours.predict(images)
    for result, given in zip(results, batch):
        same(result, detect(theirs, [given])[0])
    assert sum(map(len, results)) > 100


@torch.no_grad()
def test_detections_in_float32():
    images = rgb(SIZES)
    batch = twins.batch(images)
    theirs = twins.spread_out(twins.theirs(twins.config("fpn")), batch[:1])
    with twins.narrow(8):
        ours = twins.ours(theirs.state_dict())
    for result, given in zip(ours.predict(images), batch):
        expected = detect(theirs, [given])[0]
        boxes = torch.from_numpy(result.boxes)
        near = (boxes[:, None] - expected.pred_boxes.tensor).abs().amax(2) < 0.01
        assert len(result) > 50 and near.any(1).float().mean() > 0.95


@pytest.mark.parametrize(
    "name, form", [("mask_fpn", "fpn"), ("mask_c4", "c4"), ("mask_dc5", "dc5"), ("cascade", "fpn")]
)
def test_zoo_states_match_detectron2(name, form):
    """Compares the names and shapes of interop/zoo_states.py with those of detectron2's models."""
    made = zoo_states.shapes(
        form, masks=True, cascade=name == "cascade", stem=8, width=32, linear=64, classes=len(twins.CLASSES)
    )
    found = twins.theirs(twins.config(name)).state_dict()
    assert {key: tuple(value.shape) for key, value in found.items()} == made


def test_resized_images_match_detectron2():
    """Compares images resized by resdet bitwise with detectron2's."""
    from resdet.images.decode import as_image
    from resdet.images.resize import resize

    for image, given in zip(rgb(SIZES), twins.batch(rgb(SIZES), "RGB")):
        assert np.array_equal(
            resize(as_image(image), twins.SHORT, twins.LONG, "pillow").transpose(2, 0, 1), given["image"]
        )


def test_default_settings_match_the_zoo():
    """Compares settings that the weights do not determine with the zoo's configs."""
    for name, form in {"fpn": "fpn", "c4": "c4", "dc5": "dc5"}.items():
        cfg = twins.config(name, **{"MODEL.RPN.POST_NMS_TOPK_TEST": 1000, "TEST.DETECTIONS_PER_IMAGE": 100})
        model = layout.settings(zoo_states.empty(zoo_states.shapes(form)))
        section = configs.from_dict({"task": "detection", "data": {"name": "coco"}, "model": model}).model
        assert section.rpn.pre_nms[1] == cfg.MODEL.RPN.PRE_NMS_TOPK_TEST
        assert section.rpn.post_nms[1] == cfg.MODEL.RPN.POST_NMS_TOPK_TEST
        assert section.box.sampling == cfg.MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO
        assert section.box.detections == cfg.TEST.DETECTIONS_PER_IMAGE
        assert section.box.score == cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST
        assert (section.backbone.stride_in == "1x1") == cfg.MODEL.RESNETS.STRIDE_IN_1X1
        mean = layout.to_our_names(zoo_states.filled(zoo_states.shapes(form, stem=4)))["normalize.mean"]
        assert np.allclose(mean.flatten().flip(0), cfg.MODEL.PIXEL_MEAN)
        assert replace(section.input, min_size=1, max_size=1) != section.input and cfg.MODEL.PIXEL_STD == [1, 1, 1]
