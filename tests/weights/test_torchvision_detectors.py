"""Checks that torchvision's detectors are recognized, rebuilt from their shapes, and converted with every tensor."""

import re
from functools import cache

import pytest
import torch
from detection.heads import twins
from running import REPOSITORY
from torch import Tensor
from torchvision.models import detection
from weights.meta_detectors import FOUR, KEYPOINTS, build, on_paper

import resdet
from resdet import config as configs
from resdet import hub, weights
from resdet.errors import Error, WeightsError
from resdet.hub import build_for
from resdet.weights.checkpoint_file import Checkpoint
from resdet.weights.layouts import torchvision_detectors


@cache
def with_body(depth: int) -> dict[str, Tensor]:
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    with torch.device("meta"):
        backbone = resnet_fpn_backbone(backbone_name=f"resnet{depth}", weights=None, trainable_layers=5)
        return detection.FasterRCNN(backbone, num_classes=4).state_dict()


def test_the_detector_of_the_quickstart_fits_custom_yaml():
    page = (REPOSITORY / "docs/quickstart.md").read_text(encoding="utf-8")
    name, *overrides = re.search(r"`--init torchvision/(\w*rcnn[^`]+)`", page)[1].split()
    theirs = {n: torch.empty_like(t, device="meta") for n, t in on_paper(name).items()}
    with torch.device("meta"):
        model = resdet.build("custom.yaml", "model.num_classes=90", "model.pretrained=null", *overrides)
    ours = torchvision_detectors.to_our_names(theirs)
    counters = {n for n in ours if n.endswith("num_batches_tracked")}  # frozen norms have no counters
    assert {n: t.shape for n, t in ours.items() if n not in counters} == {
        n: t.shape for n, t in model.state_dict().items()
    }


@pytest.mark.parametrize("name", FOUR)
def test_every_tensor_of_torchvision_fits(name):
    """Compares names and shapes with resdet's model, which has no background rows in the box and mask layers."""
    theirs = on_paper(name)
    settings = torchvision_detectors.settings(theirs)
    assert settings["num_classes"] == 90 and settings["backbone"] == {"name": "resnet50", "norm": "bn"}
    ours = torchvision_detectors.to_our_names({n: torch.empty_like(t, device="meta") for n, t in theirs.items()})
    expected = {n: t.shape for n, t in build(settings).state_dict().items()}
    assert {n: t.shape for n, t in ours.items()} == expected
    assert len(ours) == len(theirs) + 2  # the pixel statistics
    assert sum(t.numel() for t in ours.values()) == sum(t.numel() for t in theirs.values()) + 6 - background(theirs)


def background(state: dict[str, Tensor]) -> int:
    names = {"box_predictor.bbox_pred": 4, "mask_predictor.mask_fcn_logits": 1}
    return sum(
        rows * state[f"roi_heads.{layer}.{kind}"][0].numel()
        for layer, rows in names.items()
        for kind in ("weight", "bias")
        if f"roi_heads.{layer}.{kind}" in state
    )


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_the_backbone_is_recognized(depth):
    """Derives the settings from weights of resnet_fpn_backbone, whose frozen norms have no step counters."""
    settings = torchvision_detectors.settings(with_body(depth))
    assert settings["backbone"] == {"name": f"resnet{depth}", "norm": "frozen"}
    assert settings["num_classes"] == 3 and "mask" not in settings
    names = {n for n in build(settings).state_dict() if not n.startswith("normalize.")}
    assert names == torchvision_detectors.our_names(with_body(depth)).keys()


def test_classes_are_reordered():
    """Moves the background from the first to the last score, and drops its boxes and masks."""
    theirs = twins.narrow(masks=True)
    predictor, masks = theirs.roi_heads.box_predictor, theirs.roi_heads.mask_predictor.mask_fcn_logits
    ours = twins.ours(theirs).roi_heads
    scores, boxes = ours.stages[0].predictor.scores, ours.stages[0].predictor.boxes
    assert torch.equal(scores.bias[-1], predictor.cls_score.bias[0])
    assert torch.equal(scores.weight[:-1], predictor.cls_score.weight[1:])
    assert torch.equal(boxes.weight.view(twins.CLASSES, 4, -1), predictor.bbox_pred.weight.view(-1, 4, 64)[1:])
    assert torch.equal(ours.mask_head.masks.weight, masks.weight[1:])


def names_of_2019(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns the names of torchvision's published v1 files, which torchvision renames when it loads them."""
    old = [
        (r"(backbone\.fpn\.(?:inner|layer)_blocks\.\d)\.0\.", r"\1."),
        (r"(rpn\.head\.conv)\.0\.0\.", r"\1."),
        (r"roi_heads\.mask_head\.(\d)\.0\.", lambda m: f"roi_heads.mask_head.mask_fcn{int(m[1]) + 1}."),
    ]
    for pattern, name in old:
        state = {re.sub(pattern, name, n): t for n, t in state.items()}
    return state


def test_names_of_2019_equal_current_ones():
    theirs = twins.narrow(masks=True)
    state = names_of_2019(theirs.state_dict())
    assert len(state.keys() - theirs.state_dict().keys()) == 22
    theirs.load_state_dict(dict(state))  # torchvision accepts the old names
    expected, found = (torchvision_detectors.to_our_names(s) for s in (theirs.state_dict(), state))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[n], expected[n]) for n in found if not n.startswith("backbone."))
    assert torchvision_detectors.settings(state) == torchvision_detectors.settings(theirs.state_dict())


@torch.no_grad()
def test_frozen_norms_of_2019_have_no_epsilon():
    """Sets epsilon to 0, as torchvision does for its v1 weights, where the variance of some channels is tiny."""
    from torchvision.models.detection._utils import overwrite_eps

    theirs = twins.narrow()
    overwrite_eps(theirs, 0.0)
    norm = theirs.backbone.body.layer1[0].bn1
    norm.running_var[:3] = torch.tensor([1e-14, 1e-9, 1e-5])
    norm.weight[:3] = norm.running_var[:3].sqrt()
    model = twins.ours(theirs)
    weights.load(model, names_of_2019(theirs.state_dict()))
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for mine, level in zip(model.backbone.features(images).values(), theirs.backbone.body(images).values()):
        assert torch.allclose(mine, level, rtol=1e-4, atol=1e-4 * level.abs().max())


def test_a_torchvision_state_dict_is_loaded_as_a_detector(tmp_path):
    theirs = twins.narrow(masks=True)
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    model = resdet.load(tmp_path / "theirs.pth")
    assert not model.training and model.draws_masks
    assert model.classes == [str(n) for n in range(1, twins.CLASSES + 1)]
    assert model.category_ids == list(range(1, twins.CLASSES + 1))
    assert (model.input.min_size, model.input.max_size, model.input.resize) == (800, 1333, "torchvision")
    expected = twins.ours(theirs).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())


def test_new_classifier_reinitializes_other_classes():
    theirs = twins.narrow(masks=True)
    settings = torchvision_detectors.settings(theirs.state_dict())
    model = build_for(configs.from_dict({"task": "detection", "model": {**settings, "num_classes": 2}}), ["a", "b"])
    with pytest.raises(WeightsError, match="of another shape: .*roi_heads.stages.0.predictor.scores"):
        weights.load(model, theirs.state_dict())
    scores = model.roi_heads.stages[0].predictor.scores.weight.clone()
    report = weights.load(model, theirs.state_dict(), new_classifier=True)
    assert len(report.mismatched) == 6 and not report.missing and not report.unexpected
    assert torch.equal(model.roi_heads.stages[0].predictor.scores.weight, scores)
    linear = model.roi_heads.stages[0].head.linears[0].weight
    assert torch.equal(linear, theirs.roi_heads.box_head.fc6.weight)


@pytest.mark.parametrize("masks", [False, True])
def test_a_mask_head_may_be_missing_from_the_file_or_the_model(masks):
    file, other = (twins.narrow(masks=given) for given in (masks, not masks))
    model = twins.ours(other)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(WeightsError, match="roi_heads.mask_head"):
        weights.load(model, file.state_dict())
    report = weights.load(model, file.state_dict(), new_classifier=True)
    absent = report.unexpected if masks else report.missing
    assert absent and all(name.startswith("roi_heads.mask_head.") for name in report.unexpected + report.missing)
    assert not report.mismatched and not [note for note in report.notes if "mask" in note]
    expected = twins.ours(file).state_dict()
    for name, tensor in model.state_dict().items():
        source = before if name.startswith("roi_heads.mask_head.") else expected
        assert torch.equal(tensor, source[name]), name


def test_keypoint_rcnn_is_recognized():
    """Converts Keypoint R-CNN with COCO's 17 keypoints to resdet's names and shapes, and back."""
    theirs = on_paper(KEYPOINTS)
    settings = torchvision_detectors.settings(theirs)
    assert settings["num_classes"] == 1
    assert settings["keypoint"] == {"aligned": False, "convs": 8, "width": 512, "names": None}
    ours = torchvision_detectors.to_our_names({n: torch.empty_like(t, device="meta") for n, t in theirs.items()})
    model = build(settings)
    assert {n: t.shape for n, t in ours.items()} == {n: t.shape for n, t in model.state_dict().items()}
    back = torchvision_detectors.from_our_names(model)
    assert {n: t.shape for n, t in back.items()} == {n: t.shape for n, t in theirs.items()}
    names = detection.KeypointRCNN_ResNet50_FPN_Weights.COCO_V1.meta["keypoint_names"]
    assert model.keypoints.keypoint_names == names and len(model.keypoints.limbs) == 19


def test_a_keypoint_file_implies_the_class_person(tmp_path):
    """Loads a file with torchvision's two classes and 17 keypoints."""
    theirs = twins.narrow_keypoints(17)
    theirs.roi_heads.box_predictor = detection.faster_rcnn.FastRCNNPredictor(64, 2)
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    model = resdet.load(tmp_path / "theirs.pth")
    assert model.classes == ["person"] and model.category_ids == [1]
    assert model.keypoints.keypoint_names[0] == "nose"


@pytest.mark.parametrize("name", ["fasterrcnn_mobilenet_v3_large_fpn", "retinanet_resnet50_fpn"])
def test_unsupported_torchvision_detectors_are_refused(name):
    with torch.device("meta"):
        model = getattr(detection, name)(weights=None, weights_backbone=None)
    with pytest.raises(Error, match="other.pth"):
        hub.load_foreign(Checkpoint(model.state_dict(), "other.pth"))


def test_weights_of_a_detector_do_not_fit_a_classifier():
    with pytest.raises(WeightsError, match="detector"):
        weights.load(resdet.backbones.create("resnet18", num_classes=5), twins.narrow().state_dict())


def test_missing_and_unexpected_tensors_are_named():
    theirs = twins.narrow()
    model, state = twins.ours(theirs), theirs.state_dict()
    fewer = {n: t for n, t in state.items() if n != "rpn.head.bbox_pred.bias"}
    with pytest.raises(WeightsError, match=re.escape("not in the file: rpn.deltas.bias [12]")):
        weights.load(model, fewer)
    with pytest.raises(WeightsError, match=re.escape("not in the model: roi_heads.keypoint.weight [3]")):
        weights.load(model, state | {"roi_heads.keypoint.weight": torch.zeros(3)})


def test_settings_that_do_not_match_the_weights_are_reported():
    theirs = twins.narrow()
    settings = torchvision_detectors.settings(theirs.state_dict())
    settings["box"]["aligned"], settings["input"]["resize"] = True, "opencv"
    model = build_for(configs.from_dict({"task": "detection", "model": settings}), list("abcdef"))
    notes = weights.load(model, theirs.state_dict()).notes
    assert notes == [
        "the weights need model.box.aligned=false, but the model has true",
        "the weights need model.input.resize=torchvision, but the model has opencv",
    ]


def test_another_number_of_keypoints_reinitializes_the_last_layer():
    """Loads the convolutions for other keypoints and reports the reinitialized layer."""
    theirs = twins.narrow_keypoints(5)
    settings = torchvision_detectors.settings(theirs.state_dict())
    settings["keypoint"]["names"] = ["a", "b", "c"]
    experiment = configs.from_dict({"task": "detection", "model": settings})
    model = build_for(experiment, [str(n) for n in range(twins.CLASSES)])
    before = model.roi_heads.keypoint_head.heatmaps.weight.clone()
    report = weights.load(model, theirs.state_dict(), new_classifier=True)
    assert [line.split()[0] for line in report.mismatched] == [
        f"roi_heads.keypoint_head.heatmaps.{kind}" for kind in ("weight", "bias")
    ]
    assert torch.equal(model.roi_heads.keypoint_head.heatmaps.weight, before)
    assert not any("keypoint" in note for note in report.notes)
    conv = model.roi_heads.keypoint_head.convs[0].conv.weight
    assert torch.equal(conv, theirs.roi_heads.keypoint_head[0].weight)
    with pytest.raises(WeightsError, match="keypoint_head.heatmaps"):
        weights.load(model, theirs.state_dict())
