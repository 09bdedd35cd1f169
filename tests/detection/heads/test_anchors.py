"""Anchors compared with torchvision's generator and with their definition."""

import pytest
import torch
from torch import Tensor

from resdet.detection.heads.anchors import Anchors

RATIOS = [0.5, 1.0, 2.0]


def maps(*shapes: tuple[int, int]) -> list[Tensor]:
    return [torch.zeros(1, 1, *shape) for shape in shapes]


@pytest.mark.parametrize(
    "sizes, shapes, image",
    [
        ([[32], [64], [128]], [(24, 40), (12, 20), (6, 10)], (192, 320)),
        ([[32], [64]], [(25, 19), (13, 10)], (99, 75)),  # strides 3.96 and 7.6, which torchvision rounds down
        ([[32, 64, 128]], [(7, 5)], (112, 80)),
        ([[13.7, 5.1]], [(1, 1)], (16, 16)),
    ],
)
def test_the_rounded_style_equals_torchvision(sizes, shapes, image):
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.image_list import ImageList

    theirs = AnchorGenerator(tuple(map(tuple, sizes)), (tuple(RATIOS),) * len(sizes))
    expected = theirs(ImageList(torch.zeros(2, 3, *image), [image, image]), maps(*shapes))[0]
    strides = [-(-image[0] // height) for height, _ in shapes]
    found = Anchors(sizes, RATIOS, rounded=True)(maps(*shapes), strides, image)
    assert torch.equal(torch.cat(found), expected)


def test_the_exact_style_keeps_areas_and_ratios():
    made = Anchors([[32, 64], [128, 256]], RATIOS, rounded=False)
    found = made(maps((5, 7), (3, 4)), [8, 16], (37, 53))  # the size of the image has no effect
    assert [len(level) for level in found] == [5 * 7 * 6, 3 * 4 * 6] and made.per_position == 6
    for level, shape, stride, sides in zip(found, [(5, 7), (3, 4)], [8, 16], [(32, 64), (128, 256)]):
        boxes = level.view(*shape, 2, 3, 4)
        width, height = (boxes[..., 2:] - boxes[..., :2]).unbind(-1)
        areas = torch.tensor(sides)[:, None].expand(2, 3) ** 2.0
        assert torch.allclose(width * height, areas.expand_as(width), rtol=1e-4)
        assert torch.allclose(height / width, torch.tensor(RATIOS).expand_as(width), rtol=1e-4)
        centers = (boxes[..., 2:] + boxes[..., :2]) / 2
        rows, columns = torch.meshgrid(torch.arange(shape[0]), torch.arange(shape[1]), indexing="ij")
        expected = torch.stack([columns, rows], -1) * float(stride)
        assert torch.allclose(centers, expected[:, :, None, None].expand_as(centers), atol=1e-4)


def test_anchors_move_with_the_model_and_are_not_in_the_state_dict():
    made = Anchors([[32]], RATIOS, rounded=False)
    assert not made.state_dict()
    assert {buffer.device.type for buffer in made.to("meta").buffers()} == {"meta"}
