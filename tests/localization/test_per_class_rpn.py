"""Tests the per-class layers against the full 1×1 convolution, and the RPN losses against values computed by hand."""

import math

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from resdet.localization.config import PerClassRPNConfig
from resdet.localization.per_class_rpn import PerClass, PerClassOutput, PerClassRPN
from resdet.structures import Targets


def everything(layer: PerClass, x: torch.Tensor) -> torch.Tensor:
    """Returns all classes' outputs [B, C, O, h, w] of an ordinary 1×1 convolution."""
    classes, outputs, width = layer.weight.shape
    full = F.conv2d(x, layer.weight.reshape(-1, width, 1, 1), layer.bias.flatten())
    return full.unflatten(1, (classes, outputs))


@pytest.mark.parametrize("wanted", [[[3], [0], [3]], [[3, 1], [0, 0], [6, 2]]])
def test_outputs_and_gradients_are_those_of_the_full_layer(wanted):
    torch.manual_seed(0)
    layer, classes = PerClass(5, 7, 4, std=1.0), torch.tensor(wanted)
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(3, 5, 2, 3, requires_grad=True)
    weights = torch.randn(3, classes.shape[1], 4, 2, 3)

    full = everything(layer, x)[torch.arange(3)[:, None], classes]
    expected = torch.autograd.grad((full * weights).sum(), (x, layer.weight, layer.bias))
    found = layer(x.flatten(2), classes).unflatten(3, (2, 3))
    torch.testing.assert_close(found, full)
    gradients = torch.autograd.grad((found * weights).sum(), (x, layer.weight, layer.bias))
    for gradient, reference in zip(gradients, expected):
        torch.testing.assert_close(gradient, reference, rtol=1e-5, atol=1e-5)


class Largest(TorchDispatchMode):
    """Records the number of elements of the largest tensor that any operation creates."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        made = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        self.elements = max([self.elements, *made])
        return result


def network(classes=1000, channels=8, batch=8) -> PerClassRPN:
    return PerClassRPN(PerClassRPNConfig(channels=channels, batch_per_image=batch), channels, 32, classes)


def targets(boxes, labels) -> Targets:
    boxes, labels = torch.tensor(boxes, dtype=torch.float32), torch.tensor(labels)
    valid = boxes[..., 2] > boxes[..., 0]
    return Targets(boxes, labels[:, None].expand(valid.shape), valid, torch.zeros_like(valid))


def test_memory_does_not_grow_with_the_classes():
    """Checks that a step on 32 images at 7×7 positions creates no tensor larger than the weights, whose gradient is
    needed; all outputs would be 32 × 45,000 × 49 numbers."""
    torch.manual_seed(0)
    rpn, batch = network(), 32
    labels = torch.randint(1000, (batch,)).tolist()
    wanted = targets([[[20, 30, 150, 180]]] * batch, labels)
    features, sizes = torch.randn(batch, 8, 7, 7), torch.full((batch, 2), 224.0)
    with Largest() as seen:
        output = rpn(features, wanted.labels[:, :1], (224, 224))
        sum(rpn.losses(output, wanted, sizes).values()).backward()
    assert rpn.boxes.weight.numel() == 1000 * 36 * 8
    assert seen.elements == rpn.boxes.weight.numel() < batch * 45_000 * 49 / 200
    touched = rpn.scores.weight.grad.flatten(1).abs().sum(1) > 0
    assert set(touched.nonzero()[:, 0].tolist()) <= set(labels)


def test_outputs_are_in_the_order_of_the_anchors():
    """Checks that anchor a of position p has index p·9 + a, and that its box is encoded by four consecutive outputs."""
    torch.manual_seed(0)
    rpn, x = network(classes=3, channels=2), torch.randn(1, 2, 2, 3)
    for layer in (rpn.conv, rpn.scores, rpn.boxes):
        torch.nn.init.normal_(layer.weight)
    output = rpn(x, torch.tensor([[2]]), (64, 96))
    hidden = F.relu(rpn.conv(x))
    scores, boxes = everything(rpn.scores, hidden)[0, 2], everything(rpn.boxes, hidden)[0, 2]
    assert (
        output.anchors.shape == (54, 4) and output.logits.shape == (1, 1, 54) and output.deltas.shape == (1, 1, 54, 4)
    )
    for row, column, anchor in ((0, 0, 0), (1, 2, 8), (0, 1, 4)):
        number = (row * 3 + column) * 9 + anchor
        torch.testing.assert_close(output.logits[0, 0, number], scores[anchor, row, column])
        torch.testing.assert_close(output.deltas[0, 0, number], boxes[anchor * 4 : anchor * 4 + 4, row, column])
        center = (output.anchors[number, :2] + output.anchors[number, 2:]) / 2
        torch.testing.assert_close(center, torch.tensor([column * 32.0, row * 32.0]))


def test_initial_weights_are_those_of_the_rpn():
    """Checks a standard deviation of 0.01 and biases of 0 (Faster R-CNN, section 3.1.3)."""
    torch.manual_seed(0)
    rpn = network(classes=100, channels=16)
    for layer in (rpn.conv, rpn.scores, rpn.boxes):
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.1)
        assert not layer.bias.any()


def hand_made(logits, deltas=None) -> PerClassOutput:
    """Returns four anchors of 10 × 10 in a row, spaced by 10 pixels."""
    anchors = torch.tensor([[x, 0.0, x + 10, 10] for x in (0.0, 20, 40, 60)])
    deltas = torch.zeros(len(logits), 1, 4, 4) if deltas is None else deltas
    return PerClassOutput(anchors, torch.tensor(logits)[:, None], deltas)


def test_losses_by_hand():
    """One object on the first anchor, shifted by a tenth of its width: one of 4 sampled anchors is positive."""
    rpn = network(classes=5, batch=4)
    output = hand_made([[2.0, -1.0, 0.0, 1.0]])
    found = rpn.losses(output, targets([[[1, 0, 11, 10]]], [3]), torch.tensor([[80.0, 80.0]]))
    terms = [math.log1p(math.exp(-2)), math.log1p(math.exp(-1)), math.log(2), math.log1p(math.exp(1))]
    assert found["rpn_class"].item() == pytest.approx(sum(terms) / 4, rel=1e-5)
    # Smooth L1 of 0.1, below its beta of 1/9: half the square divided by beta.
    assert found["rpn_box"].item() == pytest.approx(0.5 * 0.1**2 * 9 / 4, rel=1e-4)


def test_half_of_the_sampled_anchors_are_positive():
    """Checks that 8 anchors per image are sampled, half of them positive if there are objects."""
    rpn = network(classes=2)
    boxes = [[[16.0 * k, 0, 16 * k + 16, 16] for k in range(8)], [[0.0, 0, 0, 0]] * 8]
    anchors = torch.tensor([[16.0 * k, 40 * r, 16 * k + 16, 40 * r + 16] for k in range(8) for r in (0, 1)])
    logits = torch.zeros(2, 1, 16, requires_grad=True)
    output = PerClassOutput(anchors, logits, torch.zeros(2, 1, 16, 4))
    rpn.losses(output, targets(boxes, [0, 1]), torch.full((2, 2), 128.0))["rpn_class"].backward()
    gradient = logits.grad[:, 0] * 16  # of 16 terms, each ±0.5
    assert (gradient[0] == -0.5).sum() == 4 and (gradient[0] == 0.5).sum() == 4
    assert (gradient[1] == -0.5).sum() == 0 and (gradient[1] == 0.5).sum() == 8


def test_unreadable_images_do_not_contribute_to_the_losses():
    rpn = network(classes=2)
    output = hand_made([[2.0, -1.0, 0.0, 1.0], [5.0, 5.0, 5.0, 5.0]])
    wanted, sizes = targets([[[1, 0, 11, 10]], [[0, 0, 0, 0]]], [0, 1]), torch.tensor([[80.0, 80], [0, 0]])
    both = rpn.losses(output, wanted, sizes)
    alone = rpn.losses(hand_made([[2.0, -1.0, 0.0, 1.0]]), targets([[[1, 0, 11, 10]]], [0]), sizes[:1])
    for name, value in alone.items():
        torch.testing.assert_close(both[name], value)
    nothing = rpn.losses(hand_made([[1.0] * 4]), targets([[[0, 0, 0, 0]]], [0]), torch.zeros(1, 2))
    assert all(value == 0 for value in nothing.values())
