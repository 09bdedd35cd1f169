"""Views of one image: their coordinates, the scales that a region uses, and how scales are merged."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detection.heads import tiny
from torch import nn

from resdet.detection.inference.views import MultiScale, View, suitable_scales, views_of
from resdet.images.decode import RawImage
from resdet.images.resize import resize

pytest.importorskip("torchvision")

PICTURE = np.random.default_rng(0).integers(256, size=(50, 90, 3), dtype=np.uint8)


def look(net, scales=(), flip=False):
    resized = partial(resize, RawImage(PICTURE, "the picture"))
    with torch.inference_mode():
        return views_of(net, resized, PICTURE.shape[:2], scales, flip)


def test_boxes_are_mapped_to_a_mirrored_and_resized_view_and_back():
    """An image of 50 x 90 is mirrored and enlarged to twice its size."""
    (_, mirrored) = look(tiny.make("fpn"), [100], flip=True)
    boxes = torch.tensor([[10.0, 5, 30, 25], [0, 0, 90, 50]])
    inside = torch.tensor([[120.0, 10, 160, 50], [0, 0, 180, 100]])
    assert torch.allclose(mirrored.to_view(boxes), inside)
    assert torch.allclose(mirrored.to_image(inside), boxes)
    pixels = mirrored.images.pixels[0, :, :100, :180].permute(1, 2, 0).numpy()
    assert (pixels == resize(RawImage(PICTURE, ""), 100, 200)[:, ::-1]).all()


def test_masks_of_a_mirrored_view_are_mapped_back():
    """Masks of a mirrored view equal those of the mirrored image, flipped."""
    net = tiny.make("fpn").eval()
    torch.nn.init.normal_(net.roi_heads.mask_head.masks.weight, std=0.5)
    size, labels = PICTURE.shape[:2], torch.tensor([1])
    boxes, back = torch.tensor([[10.0, 5, 30, 45]]), torch.tensor([[60.0, 5, 80, 45]])
    with torch.inference_mode():
        mirrored, other = View(net, PICTURE, size, True), View(net, PICTURE[:, ::-1].copy(), size, False)
        found, expected = mirrored.masks(boxes, labels), other.masks(back, labels).flip(-1)
    assert torch.allclose(found, expected, atol=1e-5)
    assert not torch.allclose(found, found.flip(-1), atol=1e-2)


@pytest.mark.parametrize("family, kind", [("fpn", View), ("cascade", View), ("c4", MultiScale), ("dc5", MultiScale)])
def test_c4_and_dc5_merge_scales(family, kind):
    net = tiny.make(family, False)
    views = look(net, [64, 32], flip=True)
    assert all(type(view) is kind for view in views) and len(views) == (2 if kind is MultiScale else 4)
    if kind is MultiScale:
        for view, mirrored in zip(views, (False, True)):
            assert [scale.images.sizes[0, 0].item() for scale in view.scales] == [32, 64]
            assert view.base is view.scales[1]  # 64 is the model's size: its features are not computed twice
            assert view.base.mirrored is mirrored
    assert [type(view) for view in look(net)] == [View]


def test_scales_are_resized_from_the_original_image():
    """The limit of the long side is twice the short side at each scale, as in the model's input."""
    asked = []

    def resized(short, long, style):
        asked.append((short, long, style))
        return resize(RawImage(PICTURE, ""), short, long, style)

    with torch.inference_mode():
        views_of(tiny.make("c4", False), resized, (50, 90), [32, 48, 100], False)
    assert sorted(asked) == [(32, 64, "opencv"), (48, 96, "opencv"), (64, 128, "opencv"), (100, 200, "opencv")]


def test_a_region_uses_the_two_scales_nearest_to_224_squared():
    """Checks squares of side 100, 500 and 20 in an image of short side 600, at short sides of 200 to 1000."""
    sides = torch.tensor([100.0, 500.0, 20.0]) * torch.tensor([200.0, 400, 600, 800, 1000])[:, None] / 600
    chosen = suitable_scales(sides**2, 224).T.tolist()
    assert chosen[0] == [False, False, False, True, True]  # 133 and 167 pixels
    assert chosen[1] == [True, True, False, False, False]  # 167 and 333
    assert chosen[2] == [False, False, False, True, True]  # 27 and 33
    middle = torch.tensor([[100.0], [200], [300], [400]]) ** 2
    assert suitable_scales(middle, 224).flatten().tolist() == [False, True, True, False]
    assert suitable_scales(middle[:1], 224).tolist() == [[True]]
    # 190² pixels are nearer to 224² than 255² are, though a side of 255 is nearer to 224.
    assert suitable_scales(torch.tensor([[190.0], [224], [255]]) ** 2, 224).flatten().tolist() == [True, True, False]


class MeanAndOpposite(nn.Module):
    width = 2

    def forward(self, x):
        mean = x.mean((1, 2, 3))
        return torch.stack([mean, -mean], 1)


class Known:
    """A view with one constant map."""

    def __init__(self, net, level: float, scale: float):
        self.net, self.scale = net, scale
        self.maps = [torch.full((1, 1, 2, 2), level)]
        self.propose = self.masks = self.heatmaps = None

    def to_view(self, boxes):
        return boxes * self.scale


def test_maxout_of_known_maps():
    """The levels are 1, 5 and 3 at scales 1, 2 and 4; a region takes the maximum of its two scales per component."""
    regions = SimpleNamespace(
        stages=[SimpleNamespace(head=MeanAndOpposite())],
        config=SimpleNamespace(canonical_size=8, context=False),
        pooler=lambda maps, boxes: maps[0].expand(boxes.shape[1], -1, -1, -1),
    )
    net = SimpleNamespace(roi_heads=regions)
    views = [Known(net, level, scale) for level, scale in ((1.0, 1), (5.0, 2), (3.0, 4))]
    boxes = torch.tensor([[0.0, 0, 8, 8], [0, 0, 2, 2], [0, 0, 0, 0]])
    vectors = MultiScale(views[0], views).vectors(boxes)
    assert vectors[:2].tolist() == [[5, -1], [5, -3]]  # levels 1 and 5; levels 5 and 3
    assert torch.isfinite(vectors).all()


@pytest.mark.parametrize("context", ["true", "false"])
def test_a_single_scale_equals_a_plain_view(context):
    """One scale gives the scores and boxes of a plain view; two scales give other scores."""
    net = tiny.make("c4", False, f"model.box.context={context}").eval()
    boxes = torch.tensor([[5.0, 8, 30, 40], [20, 20, 60, 50]])
    (plain,), (merged,), (other,) = look(net), look(net, [64]), look(net, [32, 64])
    with torch.inference_mode():
        expected, found, different = (view.classify(boxes) for view in (plain, merged, other))
    assert torch.allclose(found.scores, expected.scores, atol=1e-6)
    assert torch.allclose(found.boxes, expected.boxes, atol=1e-4)
    assert not torch.allclose(different.scores, expected.scores, atol=1e-6)


@pytest.mark.parametrize("scales", [[64, 96], [32, 64, 96], [32, 96]])
@pytest.mark.parametrize("flip", [False, True])
def test_context_comes_from_the_models_scale(scales, flip):
    """The context features equal those of a plain view at size 64, for any other scales."""
    net = tiny.make("c4", False, "model.box.context=true").eval()
    boxes, told = torch.tensor([[5.0, 8, 30, 40], [20, 20, 60, 50]]), []
    stage = net.roi_heads.stages[0]
    stage.predictor.register_forward_pre_hook(lambda module, given: told.append(given[0]))
    plain, merged = look(net, flip=flip)[-1:], look(net, scales, flip)[-1:]
    with torch.inference_mode():
        for view in (*plain, *merged):
            view.classify(boxes)
    (regions, context), (merged_regions, merged_context) = (each.split(stage.head.width, 1) for each in told)
    assert torch.allclose(merged_context, context, atol=1e-4)
    assert not torch.allclose(merged_regions, regions, atol=1e-2)
