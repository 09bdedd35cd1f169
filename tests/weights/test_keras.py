"""Checks the layout of Keras-applications with a file written by the test, and with published weights if available."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from interop.detectron2_twins import narrow
from safetensors.torch import save_file
from torch import nn

import resdet
from resdet.backbones import create
from resdet.errors import WeightsError
from resdet.weights.layouts import keras
from resdet.weights.layouts.keras import unit_of

SHARED = Path(__file__).parents[2].parent / "shared"
BRANCHES = {"conv1": "branch2a", "conv2": "branch2b", "conv3": "branch2c", "shortcut": "branch1"}


@pytest.fixture
def net():
    """Yields a ResNet-50 of an eighth of the width; models built from its weights during the test are as narrow."""
    with narrow(8):
        torch.manual_seed(0)
        net = create("resnet50", num_classes=7, stride_in="1x1").eval()
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = 1e-3  # the epsilon of Keras
                nn.init.uniform_(module.weight, 0.5, 1.0)
                nn.init.normal_(module.bias, std=0.1)
                nn.init.normal_(module.running_mean, std=0.1)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
        yield net


def in_keras_s_dress(net, letters=True):
    """Returns Keras names and layouts for BGR input, with convolution biases that the norm means compensate."""
    written = {"fc1000/kernel": net.fc.weight.t(), "fc1000/bias": net.fc.bias}
    for name, module in net.named_modules():
        if not name.endswith((".conv", ".norm")) and name not in ("conv1.conv", "conv1.norm"):
            continue
        if name.startswith("conv1."):
            layer, norm = "conv1", "bn_conv1"
        else:
            stage, block, unit = re.fullmatch(r"conv(\d)_x\.(\d+)\.(\w+)\.\w+", name).groups()
            place = chr(ord("a") + int(block)) if letters or block == "0" else f"b{block}"
            suffix = f"{stage}{'a' if block == '0' else place}_{BRANCHES[unit]}"
            layer, norm = f"res{suffix}", f"bn{suffix}"
        if name.endswith("conv"):
            weight = module.weight.flip(1) if layer == "conv1" else module.weight
            written[f"{layer}/kernel"] = weight.permute(2, 3, 1, 0)
            written[f"{layer}/bias"] = torch.full((len(weight),), 0.25)
        else:
            written[f"{norm}/gamma"], written[f"{norm}/beta"] = module.weight, module.bias
            written[f"{norm}/moving_mean"] = module.running_mean + 0.25
            written[f"{norm}/moving_variance"] = module.running_var
    return {name: tensor.detach().contiguous() for name, tensor in written.items()}


def since_2019(written: dict) -> dict:
    """Converts to the names used since 2019, whose norms have an epsilon of 1.001e-5 instead of 0.001."""
    units = {branch: str(number) for number, branch in enumerate(["branch1", "branch2a", "branch2b", "branch2c"])}
    renamed = {}
    for name, tensor in written.items():
        layer, key = name.split("/")
        if match := re.fullmatch(r"(res|bn)(\d)([a-z])_(\w+)", layer):
            kind, stage, letter, branch = match.groups()
            block = ord(letter) - ord("a") + 1
            layer = f"conv{stage}_block{block}_{units[branch]}_{'conv' if kind == 'res' else 'bn'}"
        layer = {"conv1": "conv1_conv", "bn_conv1": "conv1_bn", "fc1000": "predictions"}.get(layer, layer)
        renamed[f"{layer}/{key}"] = tensor + (1e-3 - 1.001e-5) if key == "moving_variance" else tensor
    return renamed


def test_outputs_match_the_original_model(tmp_path, net):
    save_file(in_keras_s_dress(net), tmp_path / "weights.safetensors")
    model = resdet.load(tmp_path / "weights.safetensors")
    images = torch.randint(256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    with torch.no_grad():
        expected = net(images - torch.tensor([123.68, 116.779, 103.939])[:, None, None])
        torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
    assert model.experiment["model"]["backbone"]["stride_in"] == "1x1"


def test_numbered_blocks_equal_lettered_ones(net):
    """Numbers the blocks like the deeper nets before 2019, which have more blocks than letters."""
    letters, numbers = in_keras_s_dress(net), in_keras_s_dress(net, letters=False)
    assert "res4f_branch2a/kernel" in letters and "res4b5_branch2a/kernel" in numbers
    expected, found = keras.to_our_names(letters), keras.to_our_names(numbers)
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


@torch.no_grad()
def test_names_since_2019_equal_older_ones(net):
    old, new = in_keras_s_dress(net), since_2019(in_keras_s_dress(net))
    assert "conv4_block6_3_bn/gamma" in new and "conv2_block1_0_conv/kernel" in new and "conv1_bn/beta" in new
    expected, found = keras.to_our_names(old), keras.to_our_names(new)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-6)
    assert keras.settings(new, "a test") == keras.settings(old, "a test")
    assert keras.settings(new, "a test")["num_classes"] == 7


def test_an_unknown_layer_is_named():
    with pytest.raises(WeightsError, match="block1_conv1"):
        keras.to_our_names({keras.NEW_MARK: torch.ones(1, 1, 64, 64), "block1_conv1/kernel": torch.ones(3, 3, 3, 64)})


def test_blocks_of_the_deeper_nets():
    assert unit_of("res4b22_branch2a") == "conv4_x.22.conv1"
    assert unit_of("bn3d_branch2c") == "conv3_x.3.conv3"
    assert unit_of("res2a_branch1") == "conv2_x.0.shortcut"
    assert unit_of("conv4_block23_1_bn") == "conv4_x.22.conv1"
    assert unit_of("conv2_block1_0_conv") == "conv2_x.0.shortcut"


def test_another_stride_position_is_refused(net):
    """Refuses another stride position, with which all tensors would fit and the outputs would be wrong."""
    with pytest.raises(WeightsError, match="model.backbone.stride_in=1x1"):
        resdet.weights.load(create("resnet50", num_classes=7), in_keras_s_dress(net))


def test_pixel_statistics_come_with_the_weights(net):
    model = resdet.build("imagenet_r50.yaml", "model.num_classes=5")
    resdet.weights.load(model, in_keras_s_dress(net), new_classifier=True)
    assert model.normalize.mean.flatten().tolist() == pytest.approx([123.68, 116.779, 103.939])
    assert model.normalize.std.flatten().tolist() == [1, 1, 1]


@pytest.mark.skipif(not (SHARED / "weights").is_dir(), reason="the real weights are not at hand")
def test_published_weights_give_the_logits_of_keras():
    """Compares the logits of 32 photographs with those of Keras."""
    photographs = np.load(SHARED / "data/imagenet_32/crops.npz")
    model = resdet.load(SHARED / "weights/resnet50_imagenet_keras.safetensors")
    with torch.no_grad():
        logits = model(torch.from_numpy(photographs["crops"]).permute(0, 3, 1, 2))
    torch.testing.assert_close(logits, torch.from_numpy(photographs["logits"]), rtol=0, atol=1e-3)
    assert (logits.argmax(1).numpy() == photographs["logits"].argmax(1)).all()
    assert (logits.argmax(1).numpy() == photographs["labels"]).sum() == 26
