"""Tests timm's nets behind resdet's interface, against timm."""

import pytest
import torch

from resdet.backbones import create
from resdet.backbones.surgery import freeze_norms
from resdet.errors import ConfigError

timm = pytest.importorskip("timm")
NETS = ["resnet18", "mobilenetv3_small_100", "convnext_atto"]


def images() -> torch.Tensor:
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", NETS)
@torch.no_grad()
def test_features_equal_timm_with_the_declared_channels_and_strides(name):
    net = create(f"timm/{name}", 7).eval()
    reference = timm.create_model(name, features_only=True, out_indices=net.indices).eval()
    # timm names some parameters of a feature extractor differently; their order equals that of the net without its head
    reference.load_state_dict(dict(zip(reference.state_dict(), net.net.state_dict().values())))
    assert list(net.strides.items()) == [("c2", 4), ("c3", 8), ("c4", 16), ("c5", 32)]
    features = net.features(images())
    assert list(features) == list(net.channels) == list(net.strides)
    assert list(net.strides.values()) == reference.feature_info.reduction()
    for (level, feature), expected in zip(features.items(), reference(images())):
        assert torch.allclose(feature, expected, rtol=1e-4, atol=1e-5), level
        assert feature.shape == (2, net.channels[level], 64 // net.strides[level], 96 // net.strides[level])


@pytest.mark.parametrize("name", NETS)
@torch.no_grad()
def test_logits_equal_timm_and_follow_from_the_last_map(name):
    net = create(f"timm/{name}", 7).eval()
    reference = timm.create_model(name, num_classes=7).eval()
    reference.load_state_dict(net.net.state_dict())
    expected = reference(images())
    assert torch.equal(net(images()), expected)
    assert torch.allclose(net.classify(net.last(images())), expected, atol=1e-5)
    assert torch.equal(net.dense(images())[..., 0, 0], expected)


@torch.no_grad()
def test_resnet18_features_equal_resdet():
    from resdet import weights

    bridged, ours = create("timm/resnet18", 7).eval(), create("resnet18", 7).eval()
    weights.load(ours, bridged.net.state_dict())
    for level, feature in ours.features(images()).items():
        assert torch.allclose(bridged.features(images())[level], feature, rtol=1e-4, atol=1e-5), level


def test_features_stop_at_the_given_level():
    net = create("timm/convnext_atto", 0).eval()
    assert list(net.features(images(), upto="c4")) == ["c2", "c3", "c4"]


def test_training_reaches_every_parameter():
    net = create("timm/resnet18", 7).train()
    net(images()).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


@pytest.mark.parametrize("name", NETS)
@torch.no_grad()
def test_frozen_norms_keep_the_output(name):
    """The norms of many timm nets, such as mobilenetv3, contain the activation."""
    net = create(f"timm/{name}", 7).eval()
    expected, names = net(images()), set(net.state_dict())
    freeze_norms(net)
    assert torch.allclose(net(images()), expected, rtol=1e-4, atol=1e-5)
    assert names - set(net.state_dict()) == {key for key in names if key.endswith("num_batches_tracked")}


@pytest.mark.parametrize("name, hint", [("timm/resnet1888", "resnet"), ("timm/no_such_net", "timm.list_models")])
def test_unknown_timm_nets_are_refused(name, hint):
    with pytest.raises(ConfigError, match=f"timm has no net named .*{hint}"):
        create(name)
