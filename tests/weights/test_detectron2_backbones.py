"""Compares ImageNet ResNets in the names of detectron2 and Caffe2 with torchvision's ResNet-50 of the same weights."""

import pytest
import torch
from interop import zoo_states
from norms import randomise_norms

from resdet.backbones import create
from resdet.errors import WeightsError
from resdet.weights.layouts import caffe2, detectron2

torchvision = pytest.importorskip("torchvision")
UNITS = {"shortcut": "branch1", "conv1": "branch2a", "conv2": "branch2b", "conv3": "branch2c"}


@pytest.fixture(scope="module")
def reference() -> torch.nn.Module:
    torch.manual_seed(0)
    return randomise_norms(torchvision.models.resnet50(num_classes=7)).eval()


def as_detectron2(name: str) -> str:
    """Renames a tensor like detectron2's script for torchvision's files: `layer1` to `res2`, `bn1` to `conv1.norm`."""
    name = name if "layer" in name else f"stem.{name}"
    for n in (1, 2, 3, 4):
        name = name.replace(f"layer{n}", f"res{n + 1}")
    for n in (1, 2, 3):
        name = name.replace(f"bn{n}", f"conv{n}.norm")
    return name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")


def as_caffe2(name: str) -> str:
    """`res4.5.conv2.norm.weight` -> `res4_5_branch2b_bn_gamma`."""
    keys = {"weight": "bn_gamma", "bias": "bn_beta", "running_mean": "bn_running_mean", "running_var": "bn_running_var"}
    *module, last = name.split(".")
    if module[0] == "stem":
        module = (
            ["res", "conv1", *module[2:]] if module[-1] == "norm" else ["conv1"] if "conv1" in module else ["fc1000"]
        )
    module = [UNITS.get(part, part) if len(module) > 2 and module[0] != "res" else part for part in module]
    if module[-1] == "norm":
        return "_".join([*module[:-1], keys[last]])
    return "_".join([*module, last[0]])


def loaded(settings: dict, state: dict) -> torch.nn.Module:
    statistics = {name: state.pop(f"normalize.{name}").flatten().tolist() for name in ("mean", "std")}
    net = create(num_classes=7, **settings)
    missing, unexpected = net.load_state_dict(state, strict=False)
    assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing)
    return net.eval(), statistics


@torch.no_grad()
def test_detectron2_names_give_torchvision_outputs(reference):
    state = {as_detectron2(name): tensor for name, tensor in reference.state_dict().items()}
    assert detectron2.is_backbone(state) and not detectron2.is_detector(state)
    settings = detectron2.settings_of_backbone(state)
    assert settings == {"name": "resnet50", "norm": "bn", "shortcut": "B", "stride_in": "3x3"}
    net, statistics = loaded(settings, detectron2.backbone_to_our_names(state))
    assert statistics["std"] == pytest.approx([58.395, 57.12, 57.375])
    x = torch.randn(1, 3, 40, 48)
    assert torch.equal(net(x), reference(x))


@torch.no_grad()
def test_caffe2_names_give_torchvision_features(reference):
    """Compares features of BGR input up to c2, since stride_in=1x1 changes the stages from res3 on."""
    state = {as_caffe2(as_detectron2(n)): t for n, t in reference.state_dict().items() if "num_batches" not in n}
    assert {"conv1_w", "res_conv1_bn_gamma", "res2_0_branch1_w", "res5_2_branch2c_bn_running_var"} <= state.keys()
    state |= {"conv1_b": torch.zeros(64), "res2_0_branch2a_w_momentum": torch.zeros(1), "lr": torch.zeros(1)}
    assert caffe2.is_backbone(state) and not detectron2.is_backbone(state)
    settings = caffe2.settings_of_backbone(state)
    assert settings == {"name": "resnet50", "norm": "bn", "shortcut": "B", "stride_in": "1x1"}
    net, statistics = loaded(settings, caffe2.to_our_names(state))
    assert statistics == {"mean": pytest.approx([123.675, 116.28, 103.53]), "std": [1, 1, 1]}
    x = torch.randn(1, 3, 40, 48)
    expected = reference.layer1(reference.maxpool(reference.relu(reference.bn1(reference.conv1(x.flip(1))))))
    assert torch.allclose(net.features(x, upto="c2")["c2"], expected, atol=1e-5)
    assert torch.equal(net.fc.weight, reference.fc.weight)


@torch.no_grad()
def test_norms_without_statistics(reference):
    """Loads norms as stored by Detectron: scale and shift without statistics."""
    state = {as_caffe2(as_detectron2(n)): t for n, t in reference.state_dict().items() if "num_batches" not in n}
    state = {n.replace("_gamma", "_s").replace("_beta", "_b"): t for n, t in state.items() if "_running_" not in n}
    net, _ = loaded(caffe2.settings_of_backbone(state), caffe2.to_our_names(state))
    x = torch.randn(1, 3, 8, 8)
    norm = net.conv4_x[2].conv1.norm
    channels = torch.randn(1, len(norm.weight), 4, 4)
    expected = channels * norm.weight[:, None, None] + norm.bias[:, None, None]
    assert torch.allclose(norm(channels), expected, atol=1e-5)
    assert net.stem(x).shape == (1, 64, 2, 2)


def test_group_norm():
    names = {"w": "weight", "gn_s": "norm.weight", "gn_b": "norm.bias"}
    state = {}
    for name, tensor in zoo_states.empty(zoo_states.net("", 50, 64, "gn", "res5")).items():
        *module, last = name.split(".")
        module = ["conv1"] if module[0] == "stem" else [UNITS.get(p, p) for p in module if p != "norm"]
        inverse = {theirs: key for key, theirs in names.items()}
        state["_".join([*module, inverse[f"norm.{last}" if ".norm." in name else last]])] = tensor
    assert "res4_5_branch2b_gn_s" in state
    settings = caffe2.settings_of_backbone(state)
    assert settings == {"name": "resnet50", "norm": "gn", "shortcut": "B", "stride_in": "3x3"}
    ours = caffe2.to_our_names(state | {"conv1_w": torch.zeros(64, 3, 7, 7)})
    assert set(ours) - {"normalize.mean", "normalize.std"} == set(create("resnet50", 0, norm="gn").state_dict())


def test_a_detectron_detector_is_refused():
    state = {"conv1_w": torch.zeros(1), "res2_0_branch2a_w": torch.zeros(1), "conv_rpn_w": torch.zeros(1)}
    with pytest.raises(WeightsError, match="a.pkl is a detector of Detectron"):
        caffe2.settings_of_backbone(state, "a.pkl")


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_round_trip_of_a_backbone(name):
    net = create(name, num_classes=3)
    state = detectron2.from_our_names(net)
    assert "stem.conv1.norm.running_mean" in state and "linear.weight" in state
    again = detectron2.backbone_to_our_names(state)
    assert all(torch.equal(again[key], tensor) for key, tensor in net.state_dict().items())
    assert detectron2.settings_of_backbone(state)["name"] == name
