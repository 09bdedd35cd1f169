"""Checks that tensors that fit are loaded exactly and that others are refused by name and shape."""

import copy

import pytest
import torch
from detection.heads import tiny
from torch import nn

from resdet import weights
from resdet.backbones import create
from resdet.backbones.complexity import on_paper
from resdet.errors import WeightsError
from resdet.weights.checkpoint_file import Checkpoint
from resdet.weights.load_weights import Report, anchors_of, as_checkpoint, different_settings, refuse_mismatches

models = pytest.importorskip("torchvision").models


def state_on_paper(name: str, **options) -> dict:
    """Returns a torchvision state dict on the meta device, with names and shapes only."""
    with torch.device("meta"):
        return getattr(models, name)(**options).state_dict()


@pytest.fixture(scope="module")
def resnet18_file(module_folder):
    torch.manual_seed(0)
    path = module_folder("weights") / "resnet18.pth"
    torch.save(models.resnet18().state_dict(), path)
    return path


def test_every_tensor_is_loaded_and_counted(resnet18_file):
    net = create("resnet18")
    report = weights.load(net, resnet18_file)
    theirs = torch.load(resnet18_file, weights_only=True)
    assert report.loaded == len(theirs) == len(net.state_dict())
    assert report.problems() == {} and report.layout == "torchvision" and str(resnet18_file) in str(report)
    assert torch.equal(net.conv1.conv.weight, theirs["conv1.weight"])
    assert torch.equal(net.conv4_x[0].shortcut.norm.running_var, theirs["layer3.0.downsample.1.running_var"])
    assert torch.equal(net.conv5_x[1].conv2.norm.bias, theirs["layer4.1.bn2.bias"])


@pytest.mark.parametrize(
    "name, options, theirs",
    [
        *[(f"resnet{depth}", {}, f"resnet{depth}") for depth in (18, 34, 50, 101, 152)],
        ("vgg16", {}, "vgg16"),
        ("vgg19", {}, "vgg19"),
        ("vgg16", {"norm": "bn"}, "vgg16_bn"),
        ("vgg19", {"norm": "bn"}, "vgg19_bn"),
        ("resnet50", {"norm": "frozen"}, "resnet50"),
    ],
)
def test_names_and_shapes_match_torchvision(name, options, theirs):
    report = weights.load(on_paper(name, 1000, **options), state_on_paper(theirs))
    assert report.problems() == {}


def test_old_files_without_step_counters_load(resnet18_file):
    state = {n: t for n, t in torch.load(resnet18_file, weights_only=True).items() if "num_batches" not in n}
    net = create("resnet18")
    assert weights.load(net, state).problems() == {}
    assert torch.equal(net.fc.weight, state["fc.weight"])


def test_the_state_dict_of_a_compiled_net_loads(resnet18_file):
    state = {f"_orig_mod.{n}": t for n, t in torch.load(resnet18_file, weights_only=True).items()}
    net = create("resnet18")
    assert weights.load(net, state).problems() == {}
    assert torch.equal(net.fc.weight, state["_orig_mod.fc.weight"])


def test_the_file_of_another_net_is_refused_by_names_and_shapes(resnet18_file):
    net = create("resnet34")
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        weights.load(net, resnet18_file)
    message = str(caught.value)
    assert str(resnet18_file) in message
    assert "not in the file: conv2_x.2.conv1.conv.weight [64, 64, 3, 3]" in message
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_tensors_of_another_shape_are_listed_with_both_shapes():
    with pytest.raises(WeightsError, match=r"conv2_x\.0\.conv1\.conv\.weight \[128, 64, 1, 1\] for \[64, 64, 1, 1\]"):
        weights.load(on_paper("resnet50", 1000), state_on_paper("wide_resnet50_2"))


@pytest.mark.parametrize("theirs", ["vgg11", "vgg13_bn"])
def test_an_unsupported_vgg_is_refused(theirs):
    with pytest.raises(WeightsError):
        weights.load(on_paper("vgg16", 1000), state_on_paper(theirs))


def test_another_number_of_classes_needs_new_classifier(resnet18_file):
    with pytest.raises(WeightsError, match=r"fc\.weight \[1000, 512\] for \[10, 512\]"):
        weights.load(create("resnet18", 10), resnet18_file)


def test_a_new_classifier_keeps_its_values_and_is_reported(resnet18_file):
    net = create("resnet18", 10)
    fc = {name: tensor.clone() for name, tensor in net.fc.state_dict().items()}
    report = weights.load(net, resnet18_file, new_classifier=True)
    assert report.mismatched == ["fc.weight [1000, 512] for [10, 512]", "fc.bias [1000] for [10]"]
    assert "of another shape: fc.weight" in str(report)
    assert all(torch.equal(tensor, fc[name]) for name, tensor in net.fc.state_dict().items())
    assert torch.equal(net.conv1.conv.weight, torch.load(resnet18_file, weights_only=True)["conv1.weight"])


def test_a_new_classifier_may_be_missing_from_either_side(resnet18_file):
    state = {n: t for n, t in torch.load(resnet18_file, weights_only=True).items() if not n.startswith("fc.")}
    assert len(weights.load(create("resnet18", 10), state, new_classifier=True).missing) == 2
    assert len(weights.load(create("resnet18", 0), resnet18_file, new_classifier=True).unexpected) == 2


def test_new_classifier_does_not_permit_other_mismatches(resnet18_file):
    with pytest.raises(WeightsError, match="conv2_x.2"):
        weights.load(create("resnet34", 10), resnet18_file, new_classifier=True)


def test_weights_load_between_a_backbone_and_a_model():
    import resdet

    model = resdet.build("shapes_resnet20.yaml")
    net = create("cifar_resnet20", 10)
    mean = model.normalize.mean.clone()
    weights.load(model, net.state_dict())
    assert torch.equal(model.backbone.conv1.conv.weight, net.conv1.conv.weight)
    assert torch.equal(model.normalize.mean, mean)
    other = create("cifar_resnet20", 10)
    assert weights.load(other, model.state_dict()).problems() == {}
    assert torch.equal(other.fc.weight, net.fc.weight)


def test_a_detector_in_place_of_a_classifier_is_refused_with_a_next_step():
    detector = tiny.make("fpn", False)
    remedy = "give the weights of a classifier, or take the config of a detector"
    with pytest.raises(WeightsError, match=f"contains a detector, but the model is not a detector: {remedy}"):
        weights.load(create("resnet18"), detector.state_dict(), new_classifier=True)


@pytest.mark.parametrize("state", [{}, nn.Linear(2, 2).state_dict(), {"blocks.0.attn.qkv.weight": torch.ones(3, 1)}])
def test_names_of_an_unknown_layout_are_refused(state):
    with pytest.raises(WeightsError, match="lists the supported layouts"):
        weights.load(create("resnet18", 10), state)


@pytest.mark.parametrize(
    "theirs, backbone",
    [
        ("resnet101", {"name": "resnet101", "shortcut": "B", "stride_in": "3x3"}),
        ("vgg19", {"name": "vgg19", "norm": None}),
        ("vgg16_bn", {"name": "vgg16", "norm": "bn"}),
    ],
)
def test_the_layout_and_the_settings_are_recognized(theirs, backbone):
    checkpoint = as_checkpoint(state_on_paper(theirs, num_classes=12))
    layout = weights.recognize(checkpoint)
    assert layout.name == "torchvision" and not layout.detector
    assert layout.section(checkpoint) == {"backbone": backbone, "num_classes": 12}


MARKS = {
    "torchvision detector": "rpn.head.cls_logits.weight",
    "detectron2 detector": "proposal_generator.rpn_head.objectness_logits.weight",
    "keras": "res2a_branch2a/kernel",
    "torchvision": "layer1.0.conv1.weight",
    "caffe2": "res2_0_branch2a_w",
}


@pytest.mark.parametrize("layout, mark", MARKS.items())
def test_an_incomplete_file_is_refused(layout, mark):
    """Refuses a file whose layout is recognized although most of its tensors are missing."""
    import resdet
    from resdet import hub

    state = {mark: torch.ones(64, 64, 1, 1)} | ({"conv1_w": torch.ones(64, 3, 7, 7)} if layout == "caffe2" else {})
    checkpoint = Checkpoint(state, "part.pth")
    assert weights.recognize(checkpoint).name == layout
    with pytest.raises(WeightsError, match="part.pth"):
        hub.load_foreign(checkpoint)
    model = resdet.build("imagenet_r18", "model.num_classes=5")
    with pytest.raises(WeightsError, match="part.pth"):
        weights.load(model, checkpoint)


def test_other_anchors_and_resizing_of_a_detector_are_reported():
    model = tiny.make("fpn", False)
    experiment = copy.deepcopy(model.experiment)
    meta = {"experiment": experiment, "classes": model.classes, "category_ids": model.category_ids}
    assert weights.load(model, Checkpoint(model.state_dict(), "a.pth", meta)).notes == []
    experiment["model"]["input"] |= {"resize": "pillow", "min_size": 33}
    experiment["model"]["rpn"]["anchors"]["ratios"] = [1.0, 2.0, 3.0]
    experiment["model"]["box"] |= {"sampling": 3, "aligned": False}
    assert weights.load(model, Checkpoint(model.state_dict(), "a.pth", meta)).notes == [
        "the weights need model.input.resize=pillow, but the model has opencv",
        "the weights need model.rpn.anchors.ratios=[1.0, 2.0, 3.0], but the model has [0.5, 1.0, 2.0]",
        "the weights need model.box.aligned=false, but the model has true",
        "the weights need model.box.sampling=3, but the model has 2",
    ]


def test_a_derived_setting_is_not_reported():
    """If `channels` of the RPN is null, it equals the channels of the maps."""
    implied, present = {"rpn": {"channels": 256, "convs": 1}}, {"rpn": {"channels": None, "convs": 1}}
    assert different_settings(implied, present) == []


def test_only_the_named_modules_may_differ():
    """VGG's fc6 is not part of its classifier, fc."""
    report = Report("a.pth", "torchvision", 0, mismatched=["fc.weight [2] for [3]"])
    refuse_mismatches(report, ["fc"])
    report.mismatched.append("fc6.weight [4] for [5]")
    with pytest.raises(WeightsError, match=r"\(of another shape: fc6.weight \[4\] for \[5\]\)"):
        refuse_mismatches(report, ["fc"])


def test_only_detectors_have_anchors():
    """With other weights, `auto` anchors are chosen from the data."""
    detector = tiny.make("fpn", False)
    content = {"experiment": detector.experiment, "classes": detector.classes, "category_ids": detector.category_ids}
    found = anchors_of(Checkpoint(detector.state_dict(), "a.pth", content))
    assert found == detector.experiment["model"]["rpn"]["anchors"]
    assert anchors_of(Checkpoint(detector.backbone.state_dict(), "b.pth")) is None


def test_a_detector_averages_a_per_pixel_mean():
    """Starts from a classifier of 32 x 32 pixels whose mean is an image."""
    detector = tiny.make("fpn", False)
    mean = torch.arange(3 * 32 * 32.0).view(3, 32, 32)
    state = {f"backbone.{name}": tensor for name, tensor in detector.backbone.state_dict().items()}
    state |= {"normalize.mean": mean, "normalize.std": torch.tensor([[[50.0]], [[60.0]], [[70.0]]])}
    weights.load(detector, state, new_classifier=True)
    assert torch.equal(detector.normalize.mean, mean.mean((1, 2), keepdim=True))
    assert torch.equal(detector.normalize.std.flatten(), torch.tensor([50.0, 60, 70]))
