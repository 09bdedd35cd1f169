"""Checks that detectors are written for torchvision: every tensor, and the code that builds the model."""

import re
from dataclasses import replace

import pytest
import torch
from detection.heads import twins
from torch import nn
from weights.meta_detectors import FOUR, KEYPOINTS, build, on_paper

import resdet
from resdet import weights
from resdet.errors import WeightsError
from resdet.images.normalize import Normalize
from resdet.images.statistics import IMAGENET_MEAN, IMAGENET_STD
from resdet.weights import snippets, snippets_torchvision
from resdet.weights.layouts import torchvision_detectors


def on_meta(name: str, **changes) -> nn.Module:
    """Builds resdet's counterpart of a torchvision detector on the meta device; `changes` override its settings."""
    settings = torchvision_detectors.settings(on_paper(name))
    for key, value in changes.items():
        *sections, last = key.split("__")
        place = settings
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    model = build(settings)
    model.normalize = Normalize(IMAGENET_MEAN, IMAGENET_STD)  # the printed code contains their values
    return model


@pytest.mark.parametrize("name", FOUR)
def test_every_tensor_of_resdet_fits_torchvision(name):
    model = on_meta(name)
    written = {n: t.shape for n, t in torchvision_detectors.from_our_names(model).items()}
    assert written == {n: t.shape for n, t in on_paper(name).items()}
    assert f"import {name}\n" in snippets_torchvision.detector(model)
    assert f"{name}(weights=None, weights_backbone=None, num_classes=91)" in snippets_torchvision.detector(model)


@pytest.mark.parametrize(
    "name, changes",
    [
        ("fasterrcnn_resnet50_fpn", {"backbone__name": "resnet101"}),
        ("fasterrcnn_resnet50_fpn", {"rpn__anchors__sizes": [[24, 32]] * 5, "box__width": 512, "neck__width": 128}),
        ("maskrcnn_resnet50_fpn", {"mask__convs": 2, "mask__width": 64, "box__sampling": 3}),
        ("maskrcnn_resnet50_fpn_v2", {"backbone__name": "resnet18", "box__convs": 2, "box__linears": 2}),
    ],
)
def test_printed_code_builds_models_of_other_shapes(name, changes):
    model, names = on_meta(name, **changes), {}
    with torch.device("meta"):
        exec(snippets_torchvision.detector(model), names)
    theirs = {n: t.shape for n, t in names["model"].state_dict().items()}
    assert theirs == {n: t.shape for n, t in torchvision_detectors.from_our_names(model).items()}


@pytest.mark.parametrize("keypoints, convs", [(17, 8), (5, 2)])
def test_printed_code_of_keypoint_models(keypoints, convs):
    names = [str(number) for number in range(keypoints)]
    model, names = on_meta(KEYPOINTS, keypoint__convs=convs, keypoint__names=names), {}
    with torch.device("meta"):
        exec(snippets_torchvision.detector(model), names)
    theirs = {n: t.shape for n, t in names["model"].state_dict().items()}
    assert theirs == {n: t.shape for n, t in torchvision_detectors.from_our_names(model).items()}
    assert ("keypointrcnn_resnet50_fpn" in snippets_torchvision.detector(model)) == (convs == 8)


def test_printed_code_contains_the_settings():
    model, names = twins.ours(twins.narrow(masks=True)), {}
    model.normalize.set(torch.tensor([100.0, 110.0, 120.0]), torch.tensor([1.0, 1.0, 1.0]))
    model.score = 0.2
    model.roi_heads.config = replace(model.roi_heads.config, nms=0.4, detections=7)
    model.rpn.config = replace(model.rpn.config, nms=0.6, pre_nms=(5, 50), post_nms=(5, 40))
    model.roi_heads.pooler.canonical = model.roi_heads.branches["mask"].features.pooler.canonical = 96.0
    exec(snippets_torchvision.detector(model), names)
    theirs = names["model"]
    assert (theirs.transform.min_size, theirs.transform.max_size) == ((twins.SHORT,), twins.LONG)
    assert theirs.transform.image_mean == pytest.approx([100 / 255, 110 / 255, 120 / 255], abs=1e-5)
    assert theirs.transform.image_std == pytest.approx([1 / 255] * 3, abs=1e-5)
    heads = theirs.roi_heads
    assert (heads.score_thresh, heads.nms_thresh, heads.detections_per_img) == (0.2, 0.4, 7)
    assert heads.box_roi_pool.canonical_scale == heads.mask_roi_pool.canonical_scale == 96
    assert theirs.rpn._pre_nms_top_n["testing"] == 50 and theirs.rpn._post_nms_top_n["testing"] == 40
    assert theirs.rpn.nms_thresh == 0.6


@pytest.mark.parametrize("norm", [None, nn.BatchNorm2d])
def test_round_trip_through_torchvision_is_exact(norm):
    theirs = twins.narrow(masks=True, norm=norm)
    model = twins.ours(theirs)
    written = torchvision_detectors.from_our_names(model)
    twins.narrow(masks=True, norm=norm).load_state_dict(written, strict=True)
    expected = theirs.state_dict()
    predictor = "roi_heads.box_predictor.bbox_pred"
    for kind in ("weight", "bias"):  # background rows, which torchvision never uses
        expected[f"{predictor}.{kind}"][:4] = 0
        expected[f"roi_heads.mask_predictor.mask_fcn_logits.{kind}"][:1] = 0
    assert written.keys() == expected.keys()
    assert all(torch.equal(written[name], expected[name]) for name in expected)
    again = torchvision_detectors.to_our_names(written)
    assert all(torch.equal(tensor, again[name]) for name, tensor in model.state_dict().items())


@torch.no_grad()
def test_torchvision_gives_the_same_detections(tmp_path):
    """Saves the weights, builds torchvision's model with the printed code, and compares the detections."""
    image = twins.pictures((97, 131))[0]
    ours = twins.ours(twins.spread_out(twins.narrow(), image / 255))
    weights.save(ours, tmp_path / "theirs.pth", "torchvision")
    names = {}
    exec(snippets.torchvision(ours, tmp_path / "theirs.pth"), names)
    theirs = names["model"].double()([image.double() / 255])[0]
    found = ours.double().predict([image.permute(1, 2, 0).numpy()])[0]
    assert len(found) == len(theirs["scores"]) > 50
    assert torch.allclose(torch.from_numpy(found.scores), theirs["scores"].float(), atol=1e-4)
    assert torch.allclose(torch.from_numpy(found.boxes), theirs["boxes"].float(), atol=0.01)
    assert (torch.from_numpy(found.labels) == theirs["labels"] - 1).all()


REFUSED = {
    "features": ({"features": "c4", "rpn__anchors__sizes": [[32]]}, "model.features must be fpn"),
    "stride": ({"backbone__stride_in": "1x1"}, "model.backbone.stride_in"),
    "shortcut": ({"backbone__shortcut": "C"}, "shortcuts A or C"),
    "group norm of the backbone": ({"backbone__norm": "gn"}, "model.backbone.norm"),
    "group norm of the pyramid": ({"neck__norm": "gn"}, "model.neck.norm=gn"),
    "group norm of the box head": ({"box__norm": "gn", "box__convs": 4}, "model.box.norm=gn"),
    "group norm of the mask head": ({"mask__norm": "gn"}, "model.mask.norm=gn"),
    "anchors": ({"rpn__anchors__style": "exact"}, "model.rpn.anchors.style=exact, only torchvision"),
    "small proposals": ({"rpn__min_size": 1e-6}, "model.rpn.min_size=1e-06"),
    "RPN's width": ({"rpn__channels": 64}, "model.rpn.channels=64, only 256"),
    "half pixels": ({"box__aligned": True}, "model.box.aligned=true"),
    "half pixels of masks": ({"mask__aligned": True}, "model.mask.aligned=true"),
    "cascade": ({"box__ious": [0.5, 0.6, 0.7], "box__class_agnostic": True}, r"model.box.ious=\[0.5, 0.6, 0.7\]"),
    "class agnostic": ({"box__class_agnostic": True}, "model.box.class_agnostic=true, only false"),
    "linear layers": ({"box__linears": 3}, "model.box.linears=3"),
    "global context": ({"box__context": True}, "no global context: use the layout safetensors"),
    "masks and keypoints": ({"keypoint": {"aligned": False}}, "model.mask=.*set beside model.keypoint"),
}


def test_all_settings_of_custom_yaml_that_torchvision_lacks_are_named():
    """Setting the values from the error message in the config makes a detector that torchvision supports."""
    words = ["model.num_classes=3", "model.pretrained=null", "model.freeze_stages=0", "model.rpn.anchors={}"]
    words += ["model.input={min_size: 800, max_size: 1333}", "model.box.batch_per_image=64", "model.mask={}"]
    with torch.device("meta"), pytest.raises(WeightsError) as refusal:
        torchvision_detectors.from_our_names(resdet.build("custom", *words))
    named = dict(re.findall(r"(model\.[\w.]+)=\w+, only ([\w.]+)", str(refusal.value)))
    assert named == {
        "model.box.aligned": "false",
        "model.rpn.anchors.style": "torchvision",
        "model.mask.aligned": "false",
    }
    with torch.device("meta"):
        model = resdet.build("custom", *words, *(f"{key}={value}" for key, value in named.items()))
    assert torchvision_detectors.from_our_names(model)


@pytest.mark.parametrize("what", REFUSED)
def test_settings_unsupported_by_torchvision_are_named(what, tmp_path):
    changes, sentence = REFUSED[what]
    with pytest.raises(WeightsError, match=sentence):
        weights.save(on_meta("maskrcnn_resnet50_fpn", **changes), tmp_path / "no.pth", "torchvision")
    assert not list(tmp_path.iterdir())
