"""Checks detectron2's layout with state dicts that have the names and shapes of its zoo, without detectron2."""

import numpy as np
import pytest
import torch
from interop import zoo_states
from interop.detectron2_twins import narrow

from resdet import config as configs
from resdet.errors import WeightsError
from resdet.hub import build_for
from resdet.weights.layouts import detectron2

SMALL = {"stem": 4, "width": 8, "linear": 16, "classes": 5}
FORMS = {
    "fpn": {"features": "fpn"},
    "fpn_r101": {"features": "fpn", "depth": 101},
    "fpn_r18": {"features": "fpn", "depth": 18},
    "c4": {"features": "c4"},
    "c4_r101": {"features": "c4", "depth": 101},
    "dc5": {"features": "dc5"},
    "mask_fpn": {"features": "fpn", "masks": True},
    "mask_c4": {"features": "c4", "masks": True},
    "mask_dc5": {"features": "dc5", "masks": True},
    "cascade": {"features": "fpn", "masks": True, "cascade": True},
    "gn": {"features": "fpn", "masks": True, "norm": "gn", "head_norm": "gn"},
    "sync": {"features": "fpn", "masks": True, "norm": "sync", "head_norm": "sync"},
    "new_baseline": {"features": "fpn", "masks": True, "norm": "sync", "head_norm": "sync", "rpn_convs": 2},
}
TENSORS = {  # number of tensors in a file of the zoo, without pixel statistics and cell anchors
    "fpn": 295,
    "c4": 275,
    "dc5": 279,
    "mask_fpn": 307,
    "mask_c4": 279,
    "mask_dc5": 291,
    "cascade": 323,
}


def small(name: str, **options) -> dict[str, torch.Tensor]:
    return zoo_states.filled(zoo_states.shapes(**FORMS[name] | SMALL | options))


def built(settings: dict, stem: int = 4):
    experiment = configs.from_dict({"task": "detection", "data": {"name": "coco"}, "model": settings})
    with narrow(stem):
        return build_for(experiment, [str(label) for label in range(settings["num_classes"])])


def in_ours(state: dict) -> torch.nn.Module:
    """Builds resdet's detector and loads every tensor of the state dict."""
    model, ours = built(detectron2.settings(state)), detectron2.to_our_names(state)
    model.normalize.set(ours.pop("normalize.mean"), ours.pop("normalize.std"))
    missing, unexpected = model.load_state_dict(ours, strict=False)
    assert not unexpected and set(missing) == {"normalize.mean", "normalize.std"}
    return model


@pytest.mark.parametrize("name", TENSORS)
def test_number_of_tensors_matches_the_zoo(name):
    assert len(zoo_states.shapes(**FORMS[name])) == TENSORS[name]


@pytest.mark.parametrize(
    "form, name, shape",
    [
        ("fpn", "backbone.bottom_up.res4.5.conv3.norm.running_var", (1024,)),
        ("fpn", "backbone.fpn_lateral5.weight", (256, 2048, 1, 1)),
        ("fpn", "roi_heads.box_head.fc1.weight", (1024, 12544)),
        ("fpn", "proposal_generator.rpn_head.anchor_deltas.weight", (12, 256, 1, 1)),
        ("fpn_r101", "backbone.bottom_up.res4.22.conv2.weight", (256, 256, 3, 3)),
        ("c4", "roi_heads.res5.0.shortcut.weight", (2048, 1024, 1, 1)),
        ("c4", "proposal_generator.rpn_head.objectness_logits.weight", (15, 1024, 1, 1)),
        ("c4", "roi_heads.box_predictor.bbox_pred.weight", (320, 2048)),
        ("mask_c4", "roi_heads.mask_head.deconv.weight", (2048, 256, 2, 2)),
        ("dc5", "roi_heads.box_head.fc1.weight", (1024, 100352)),
        ("mask_dc5", "roi_heads.mask_head.mask_fcn1.weight", (256, 2048, 3, 3)),
        ("cascade", "roi_heads.box_predictor.2.bbox_pred.weight", (4, 1024)),
        ("mask_fpn", "roi_heads.mask_head.predictor.bias", (80,)),
    ],
)
def test_names_and_shapes_match_the_zoo(form, name, shape):
    assert zoo_states.shapes(**FORMS[form])[name] == shape


def test_keypoint_rcnn():
    """Loads and writes the names of detectron2's KRCNNConvDeconvUpsampleHead, with convolutions numbered from 1."""
    head = "roi_heads.keypoint_head"
    state = dict(small("fpn"))
    width = len(state["backbone.fpn_lateral2.weight"])
    for number in range(1, 9):
        state[f"{head}.conv_fcn{number}.weight"] = torch.randn(6, width if number == 1 else 6, 3, 3)
        state[f"{head}.conv_fcn{number}.bias"] = torch.randn(6)
    state[f"{head}.score_lowres.weight"], state[f"{head}.score_lowres.bias"] = torch.randn(6, 5, 4, 4), torch.randn(5)
    model = in_ours(state)
    assert torch.equal(model.roi_heads.keypoint_head.convs[7].conv.weight, state[f"{head}.conv_fcn8.weight"])
    assert torch.equal(model.roi_heads.keypoint_head.heatmaps.bias, state[f"{head}.score_lowres.bias"])
    assert model.keypoints.aligned and model.keypoints.sampling == 0 and len(model.keypoints.keypoint_names) == 5
    back = detectron2.from_our_names(model)
    assert back.keys() == state.keys() and all(torch.equal(back[key], state[key]) for key in state)


@pytest.mark.parametrize("name", FORMS)
def test_round_trip_of_detectron2_names_is_exact(name):
    state = small(name)
    back = detectron2.from_our_names(in_ours(state))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)


@pytest.mark.parametrize("name", ["mask_c4", "cascade", "new_baseline"])
def test_round_trip_of_resdet_names_is_exact(name):
    model = in_ours(small(name))
    again = detectron2.to_our_names(detectron2.from_our_names(model))
    ours = {key: value for key, value in model.state_dict().items() if not key.startswith("normalize.")}
    assert all(torch.equal(again[key], value) for key, value in ours.items())


@pytest.mark.parametrize("name", ["fpn", "c4", "dc5"])
def test_tensors_belong_to_the_right_layers(name):
    state = small(name)
    model = in_ours(state)
    body = "backbone.bottom_up." if name == "fpn" else "backbone."
    last = "roi_heads.res5" if name == "c4" else f"{body}res5"
    stage = model.roi_heads.stages[0].head.conv5_x if name == "c4" else model.backbone.conv5_x
    assert torch.equal(stage[2].conv2.norm.running_var, state[f"{last}.2.conv2.norm.running_var"])
    assert torch.equal(model.backbone.conv4_x[3].conv1.conv.weight, state[f"{body}res4.3.conv1.weight"])
    assert torch.equal(model.roi_heads.stages[0].predictor.boxes.bias, state["roi_heads.box_predictor.bbox_pred.bias"])
    assert torch.equal(model.backbone.conv1.conv.weight[:, 0], state[f"{body}stem.conv1.weight"][:, 2])


def test_settings_match_the_zoo_configs():
    """Compares the settings derived from the shapes of full-size models with the zoo's configs."""
    found = {name: detectron2.settings(zoo_states.empty(zoo_states.shapes(**form))) for name, form in FORMS.items()}
    plain = {"name": "resnet50", "norm": "frozen", "shortcut": "B", "stride_in": "1x1"}
    assert found["fpn"]["backbone"] == found["c4"]["backbone"] == found["dc5"]["backbone"] == plain
    assert found["fpn_r101"]["backbone"] == plain | {"name": "resnet101"}
    assert found["gn"]["backbone"] == plain | {"norm": "gn", "stride_in": "3x3"}
    assert found["sync"]["backbone"] == plain | {"norm": "sync"}
    assert {name: model["features"] for name, model in found.items() if "_" not in name} == {
        **{name: "fpn" for name in ("fpn", "cascade", "gn", "sync")},
        **{"c4": "c4", "dc5": "dc5"},
    }
    assert all(model["num_classes"] == 80 for model in found.values())
    assert found["fpn"]["input"] == {"resize": "pillow", "divisor": 32}
    assert found["c4"]["input"] == found["dc5"]["input"] == {"resize": "pillow", "divisor": 1}
    for name in ("c4", "dc5"):
        assert (found[name]["rpn"]["pre_nms"], found[name]["rpn"]["post_nms"]) == ([12000, 6000], [2000, 1000])
    assert found["fpn"]["rpn"] == {"convs": 1, "channels": 256, "beta": 0.0, "min_size": 1e-6}
    assert found["fpn"]["box"] | {"linears": 2, "width": 1024, "convs": 0, "sampling": 0} == found["fpn"]["box"]
    assert found["gn"]["box"] | {"linears": 1, "convs": 4, "conv_width": 256, "norm": "gn"} == found["gn"]["box"]
    assert found["cascade"]["box"]["class_agnostic"] and found["cascade"]["box"]["ious"] == [0.5, 0.6, 0.7]
    assert found["new_baseline"]["rpn"]["convs"] == 2
    of_one = detectron2.settings(zoo_states.empty(zoo_states.shapes(features="fpn", classes=1)))
    assert not of_one["box"]["class_agnostic"]  # as by default: the tensors do not show it
    assert "mask" not in found["fpn"]
    assert {name: found[name]["mask"]["convs"] for name in ("mask_c4", "mask_dc5", "gn")} == {
        "mask_c4": 0,
        "mask_dc5": 4,
        "gn": 4,
    }
    assert found["gn"]["mask"]["norm"] == "gn" and found["mask_fpn"]["mask"]["norm"] is None


PIXELS = {  # mean and std in the file, mean and std in RGB order, whether the file is BGR, stride_in
    "nothing": (None, None, (123.675, 116.28, 103.53), (1, 1, 1), True, "1x1"),
    "msra": ((103.53, 116.28, 123.675), (1, 1, 1), (123.675, 116.28, 103.53), (1, 1, 1), True, "1x1"),
    "divided": (
        (103.53, 116.28, 123.675),
        (57.375, 57.12, 58.395),
        (123.675, 116.28, 103.53),
        (58.395, 57.12, 57.375),
        True,
        "3x3",
    ),
    "torchvision": (
        (123.675, 116.28, 103.53),
        (58.395, 57.12, 57.375),
        (123.675, 116.28, 103.53),
        (58.395, 57.12, 57.375),
        False,
        "3x3",
    ),
}


@pytest.mark.parametrize("case", PIXELS)
def test_pixel_statistics_and_channel_order(case):
    given_mean, given_std, mean, std, bgr, stride = PIXELS[case]
    state = small("fpn")
    state["proposal_generator.anchor_generator.cell_anchors.0"] = torch.zeros(3, 4)
    if given_mean:
        state |= {
            "pixel_mean": torch.tensor(given_mean).view(3, 1, 1),
            "pixel_std": torch.tensor(given_std).view(3, 1, 1),
        }
    model = in_ours(state)
    assert np.allclose(model.normalize.mean.flatten(), mean) and np.allclose(model.normalize.std.flatten(), std)
    assert detectron2.settings(state)["backbone"]["stride_in"] == stride
    theirs = state["backbone.bottom_up.stem.conv1.weight"]
    assert torch.equal(model.backbone.conv1.conv.weight, theirs.flip(1) if bgr else theirs)


@pytest.mark.parametrize("norm, kept", [("bn", {"bn"}), ("frozen", set())])
def test_step_counters_of_norms(norm, kept):
    """Checks num_batches_tracked: detectron2 keeps it in frozen stages too, unless all norms are frozen."""
    settings = detectron2.settings(small("fpn")) | {"freeze_stages": 2}
    settings["backbone"] |= {"norm": norm}
    names = detectron2.from_our_names(built(settings))
    counters = {name for name in names if name.endswith("num_batches_tracked")}
    assert ("backbone.bottom_up.stem.conv1.norm.num_batches_tracked" in counters) == bool(kept)
    assert len(counters) == (53 if kept else 0)


@pytest.mark.parametrize(
    "name, shape, word",
    [
        ("backbone.bottom_up.res3.0.conv2_offset.weight", (18, 8, 3, 3), "deformable"),
        ("sem_seg_head.predictor.weight", (54, 8, 1, 1), "semantic"),
        ("backbone.bottom_up.res2.0.conv2.weight", (4, 1, 3, 3), "ResNeXt"),
        ("roi_heads.mask_head.predictor.weight", (1, 8, 1, 1), "CLS_AGNOSTIC_MASK"),
        ("proposal_generator.rpn_head.objectness_logits.weight", (9, 8, 1, 1), "9 anchors"),
        ("backbone.bottom_up.res5.3.conv1.weight", (4, 4, 1, 1), r"\(3, 4, 6, 4\)"),
    ],
)
def test_unsupported_detectron2_models_are_refused(name, shape, word):
    state = small("mask_fpn") | {name: torch.zeros(shape)}
    with pytest.raises(WeightsError, match=word):
        detectron2.settings(state, "a.pkl")


@pytest.mark.parametrize(
    "change, word",
    [
        ({"rpn": {"anchors": {"style": "torchvision"}}}, "anchors.style"),
        ({"backbone": {"name": "resnet18", "shortcut": "A"}}, "no such backbone"),
        ({"backbone": {"name": "resnet18", "shortcut": "C"}}, "no such backbone"),
        ({"backbone": {"name": "plain18"}}, "no such backbone"),
    ],
)
def test_models_unknown_to_detectron2_are_refused(change, word):
    model = built({"num_classes": 2, "fpn": {"width": 8}, "box": {"width": 8}} | change)
    with pytest.raises(WeightsError, match=word):
        detectron2.from_our_names(model)


@pytest.mark.parametrize("name", FORMS)
def test_layout_is_recognized_by_names(name):
    state = small(name)
    assert detectron2.is_detector(state) and not detectron2.is_backbone(state)
