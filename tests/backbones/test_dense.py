"""Tests the fully convolutional evaluation of section 3.4 against windows cut from the last feature map."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from resdet.backbones import create


def cheap_vgg(num_classes: int) -> nn.Module:
    """Builds VGG-16 with random weights and biases, without the cost of its initialization."""
    with torch.device("meta"):
        net = create("vgg16", num_classes)
    net.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for tensor in net.state_dict().values():
        tensor.normal_(0, tensor[0].numel() ** -0.5 if tensor.dim() > 1 else 0.1, generator=generator)
    return net.eval()


@pytest.fixture(scope="module")
def vgg():
    return cheap_vgg(11)


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    return create("resnet18", 11).eval()


def images(height: int, width: int) -> torch.Tensor:
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", ["vgg", "resnet"])
@torch.no_grad()
def test_dense_on_a_training_crop_equals_the_classifier(kind, request):
    net = request.getfixturevalue(kind)
    scores = net.dense(images(224, 224))
    assert scores.shape == (1, 11, 1, 1)
    assert torch.allclose(scores[..., 0, 0], net(images(224, 224)), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_resnet_averages_windows_of_seven(resnet):
    last = resnet.last(images(288, 331))
    assert last.shape[2:] == (9, 11)
    scores = resnet.dense(images(288, 331))
    assert scores.shape == (1, 11, 3, 5)
    for y in range(3):
        for x in range(5):
            pooled = last[:, :, y : y + 7, x : x + 7].mean((2, 3))
            assert torch.allclose(scores[:, :, y, x], resnet.fc(pooled), atol=1e-5)


@torch.no_grad()
def test_vgg_applies_its_linear_layers_to_each_window(vgg):
    last = vgg.last(images(256, 288))
    scores = vgg.dense(images(256, 288))
    assert last.shape[2:] == (16, 18) and scores.shape == (1, 11, 2, 3)
    for y in range(2):
        for x in range(3):
            # A step in the pooled map is two in `last`, where fc6's window of seven covers 14.
            window = F.max_pool2d(last[:, :, 2 * y : 2 * y + 14, 2 * x : 2 * x + 14], 2)
            expected = vgg.fc(F.relu(vgg.fc7(F.relu(vgg.fc6(window.flatten(1))))))
            assert torch.allclose(scores[:, :, y, x], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_cifar_nets_average_windows_of_eight():
    net = create("cifar_resnet20", 10).eval()
    assert torch.allclose(net.dense(images(32, 32))[..., 0, 0], net(images(32, 32)), atol=1e-5)
    assert net.dense(images(40, 48)).shape == (1, 10, 3, 5)


@torch.no_grad()
def test_a_map_smaller_than_the_window_is_averaged_whole(resnet):
    scores = resnet.dense(images(96, 320))
    assert scores.shape == (1, 11, 1, 4)
    assert torch.allclose(resnet.dense(images(96, 160))[..., 0, 0], resnet(images(96, 160)), atol=1e-5)
