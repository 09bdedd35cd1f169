"""In every family, all layers except frozen ones learn, and the backbone loads a classifier's weights."""

import copy

import pytest
import torch
from detection.heads import tiny
from narrow import narrow_resnets
from norms import randomise_norms
from torch import Tensor, nn
from torch.nn import functional as F

from resdet import config as configs
from resdet import weights
from resdet.backbones import create
from resdet.backbones.surgery import dilate_last_stage
from resdet.detection.heads.box_head import VGGHead
from resdet.detection.model import Detector
from resdet.errors import ConfigError, WeightsError
from resdet.hub import build_for

pytest.importorskip("torchvision")

OBJECTS = [[5.0, 8.0, 30.0, 40.0], [20.0, 20.0, 60.0, 50.0]]


def step(model: Detector, masks: bool) -> dict[str, Tensor]:
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01)
    losses = model.losses(tiny.images((64, 64), (64, 50)), tiny.targets(OBJECTS, OBJECTS[:1], masks=masks))
    sum(losses.values()).backward()
    optimizer.step()
    return losses


@pytest.mark.parametrize("masks", [False, True], ids=["boxes", "masks"])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_all_layers_except_frozen_ones_learn(family, masks):
    with narrow_resnets():
        model = tiny.make(family, masks, "model.freeze_stages=2", everything=True).train()
    before = copy.deepcopy(model.state_dict())
    losses = step(model, masks)
    assert ("mask" in losses) is masks
    frozen = ("backbone.conv1.", "backbone.conv2_x.")
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) is name.startswith(frozen), name
    for name, buffer in model.named_buffers():
        assert name not in before or torch.equal(buffer, before[name]), name


@pytest.mark.parametrize("masks", [False, True], ids=["boxes", "masks"])
def test_all_layers_of_vgg_learn(masks, monkeypatch):
    """Uses narrow linear layers in VGG-16, which otherwise have a hundred million weights."""
    from resdet.backbones import vgg

    class Narrow(nn.Linear):
        def __init__(self, *widths: int):
            super().__init__(*(16 if width == 4096 else width for width in widths))

    monkeypatch.setattr(vgg.nn, "Linear", Narrow)
    model = tiny.make("vgg", masks, "model.freeze_stages=2").train()
    monkeypatch.undo()
    step(model, masks)
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) is name.startswith(("backbone.conv1_x", "backbone.conv2_x")), name
        assert parameter.grad is None or parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("family, backbone", [("c4", "resnet50"), ("fpn", "resnet50"), ("dc5", "plain18")])
def test_a_classifiers_weights_load_into_backbone_and_box_head(family, backbone, tmp_path):
    """C4's box head is conv5_x: on the whole feature map it equals the classifier's."""
    with narrow_resnets():
        classifier = randomise_norms(create(backbone, num_classes=7, norm="frozen")).eval()
        model = tiny.make(family, False, f"model.backbone={{name: {backbone}, norm: frozen}}").eval()
    weights.save(classifier, tmp_path / "net.safetensors", layout="safetensors")
    report = weights.load(model, tmp_path / "net.safetensors")
    assert not report.missing and not report.unexpected and report.loaded == len(classifier.state_dict()) - 2
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = classifier.features(images), model.backbone.features(images)
        if family == "c4":
            assert list(found) == ["c2", "c3", "c4"]
            found["c5"] = model.roi_heads.stages[0].head.maps(found["c4"])
    if family == "dc5":
        assert found.pop("c5").shape[2:] == expected.pop("c4").shape[2:]  # stride 16
    for level in found.keys() & expected.keys():
        assert torch.allclose(found[level], expected[level], rtol=1e-4, atol=1e-4 * expected[level].abs().max()), level


def test_vggs_linear_layers_are_the_box_head():
    """Compares names and shapes with VGG-16 on the meta device, to save memory."""
    with torch.device("meta"):
        model = tiny.make("vgg", False)
        wanted = create("vgg16", num_classes=1000).state_dict()
    assert {n: t.shape for n, t in model.backbone_tensors().items()} == {
        n: t.shape for n, t in wanted.items() if not n.startswith("fc.")
    }
    head = model.roi_heads.stages[0].head
    assert head.fc6.weight.shape == (4096, 512 * 7 * 7) and model.backbone.fc is None
    assert model.backbone_tensors()["fc6.weight"].device.type == "meta"


def test_vggs_head_equals_the_classifiers_layers():
    """Compares fc6 and fc7 on pooled features in evaluation; in training, dropout zeroes half."""
    torch.manual_seed(0)
    fc6, fc7 = nn.Linear(12, 400), nn.Linear(400, 300)
    head, x = VGGHead(fc6, fc7, 0.5), torch.randn(4, 3, 2, 2)
    expected = fc7(fc6(x.flatten(1)).relu()).relu()
    assert torch.allclose(head.eval()(x), expected)
    assert (head.train()(x) == 0).float().mean() > (expected == 0).float().mean() + 0.2


def test_errors_name_missing_and_unexpected_layers():
    model = tiny.make("c4", False)
    state = create("resnet18", num_classes=3, norm="frozen").state_dict()
    weights.load(model, state)
    fewer = {n: t for n, t in state.items() if n != "conv5_x.1.conv2.conv.weight"}
    with pytest.raises(WeightsError, match=r"not in the file: conv5_x.1.conv2.conv.weight \[512, 512, 3, 3\]"):
        weights.load(model, fewer)
    with pytest.raises(WeightsError, match=r"not in the model: conv6_x.weight \[5\]"):
        weights.load(model, state | {"conv6_x.weight": torch.zeros(5)})
    with pytest.raises(WeightsError, match="does not fit"):
        weights.load(model, create("resnet34", num_classes=3).state_dict())


@pytest.mark.parametrize(
    "name, options", [("resnet18", {}), ("resnet50", {}), ("resnet50", {"stride_in": "1x1"}), ("plain18", {})]
)
@torch.no_grad()
def test_a_dilated_conv5_equals_conv5_with_spread_filters(name, options):
    """DC5 applies conv5_x at every position of conv4_x, with zeros between the weights of its filters."""
    torch.manual_seed(0)
    with narrow_resnets():
        net = randomise_norms(create(name, 0, norm="frozen", **options)).eval()
    images = torch.randn(1, 3, 96, 96)
    strided = net.features(images)
    dilated_net = copy.deepcopy(net)
    dilate_last_stage(dilated_net)
    dilated = dilated_net.features(images)
    assert dilated_net.strides["c5"] == 16 and dilated["c5"].shape[2:] == (6, 6)
    assert torch.equal(dilated["c4"], strided["c4"])
    assert torch.allclose(dilated["c5"], by_hand(net, strided["c4"]), rtol=1e-4, atol=1e-4 * dilated["c5"].abs().max())


def by_hand(net: nn.Module, x: Tensor) -> Tensor:
    """Applies conv5_x without its stride and with spread filters."""
    for block in net.conv5_x:
        y = x
        for name in ("conv1", "conv2", "conv3"):
            if unit := getattr(block, name, None):
                y = slid(unit, F.relu(y) if name != "conv1" else y)
        if shortcut := getattr(block, "shortcut", None):
            y = y + (x if isinstance(shortcut, nn.Identity) else slid(shortcut, x))
        x = F.relu(y)
    return x


def slid(unit: nn.Module, x: Tensor) -> Tensor:
    """Applies a convolution at every position, and its norm."""
    return unit.norm(F.conv2d(x, spread(unit.conv.weight), padding=2 * (unit.conv.kernel_size[0] // 2)))


def spread(filters: Tensor) -> Tensor:
    """Inserts a zero between neighboring weights: [out, in, k, k] -> [out, in, 2k - 1, 2k - 1]."""
    side = filters.shape[-1]
    wide = filters.new_zeros(*filters.shape[:2], 2 * side - 1, 2 * side - 1)
    wide[:, :, ::2, ::2] = filters
    return wide


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"features": "vgg"}, "features is vgg"),
        ({"features": "vgg", "backbone": "vgg16", "box": {"resolution": 14}}, "box.resolution is 14: .*fc6"),
        ({"features": "c4", "backbone": "vgg16"}, "has no conv5_x"),
        ({"features": "c4", "box": {"ious": [0.5, 0.6], "class_agnostic": True}}, "use fpn or dc5"),
        ({"box": {"ious": [0.5, 0.6]}}, "class_agnostic"),
        ({"box": {"pool": "max"}}, "use align"),
        ({"rpn": {"anchors": {"sizes": [[32], [64]]}}}, "give 5 lists of equal length"),
        ({"rpn": {"anchors": {"sizes": [[32], [64], [1], [2], [3, 4]]}}}, "one per level"),
        ({"rpn": {"positives": 1.5}}, "share"),
        ({"box": {"detections": 100, "candidates": 50}}, "candidates"),
        ({"freeze_stages": 9}, "frozen"),
    ],
)
def test_invalid_settings_are_refused(settings, message):
    model = {"backbone": "resnet18", "num_classes": 2, **settings}
    with pytest.raises(ConfigError, match=message), torch.device("meta"):
        build_for(configs.from_dict({"task": "detection", "model": model}), ["a", "b"])


@pytest.mark.parametrize("name, levels", [("vgg16", 4), ("cifar_resnet20", 2)])
def test_an_fpn_starts_at_stride_4_on_any_backbone(name, levels):
    model = {"backbone": name, "num_classes": 2}
    with torch.device("meta"):
        made = build_for(configs.from_dict({"task": "detection", "model": model}), ["a", "b"])
    assert made.rpn.strides == [4 * 2**level for level in range(levels)]
