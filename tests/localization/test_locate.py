"""Tests box voting, views and proposals of the locator against values computed by hand and torchvision's NMS."""

import numpy as np
import pytest
import torch
from painted import CLASSES, Painted
from PIL import Image

import resdet
from resdet import config
from resdet.hub import build_for
from resdet.localization.config import LocateConfig
from resdet.localization.locate import Locator, ViewBuilder, large, vote
from resdet.structures import Proposals

# The best box, one with IoU 0.8, one with IoU exactly 0.5, one below 0.5, one far away, and padding.
BOXES = [[0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 5, 10], [0, 0, 4, 10], [50, 50, 60, 60], [0, 0, 10, 10]]
SCORES = [0.8, 0.4, 0.2, 0.7, 0.6, 0.9]


def found(valid=(True, True, True, True, True, False)) -> Proposals:
    return Proposals(torch.tensor([BOXES], dtype=torch.float32), torch.tensor([SCORES]), torch.tensor([valid]))


def test_voting_by_hand():
    boxes, scores = vote(found(), 0.5)
    width = (0.8 * 10 + 0.4 * 10 + 0.2 * 5) / 1.4
    height = (0.8 * 10 + 0.4 * 8 + 0.2 * 10) / 1.4
    torch.testing.assert_close(boxes, torch.tensor([[0, 0, width, height]]))
    torch.testing.assert_close(scores, torch.tensor([0.8]))
    assert vote(found(), None)[0].tolist() == [BOXES[0]]
    assert vote(found(), 0.9)[0].tolist() == [BOXES[0]]


def test_voting_without_valid_boxes():
    boxes, scores = vote(found([False] * 6), 0.5)
    assert boxes.isfinite().all() and scores.tolist() == [0]


def test_proposals_have_sides_of_a_pixel_or_more():
    boxes = torch.tensor([[5.0, 5, 6, 6], [5, 5, 5.5, 20], [5, 5, 20, 5.5]])
    assert large(boxes).tolist() == [True, False, False]


def test_views_map_back_to_the_image():
    """Checks that scale and shift of each view map a mark back to its position in the image."""
    pixels = np.zeros((120, 200, 3), np.uint8)
    pixels[60:64, 120:124] = 255  # center at (122, 62)
    image = Painted([[0, 0, 1, 1]], [0]).image(0)
    image.pixels = pixels
    for testing, count in (("center", 1), ("dense", 3)):
        show = ViewBuilder(LocateConfig(testing=testing, scales=[60, 90, 150]), 64, 80, source_short=None)
        views = show(image)
        assert len(views) == count
        for seen in views:
            y, x = (seen.pixels[0, 0] > 60).nonzero().float().mean(0) + 0.5
            (sx, sy), (dx, dy) = seen.scale[0].tolist(), seen.shift[0].tolist()
            assert (x.item() + dx) / sx == pytest.approx(122, abs=1) and (y.item() + dy) / sy == pytest.approx(
                62, abs=1
            )
    assert ViewBuilder(LocateConfig(), 64, 80, source_short=96)(image)[-1].pixels.shape[2:] == (96, 160)


def locator(*overrides):
    torch.manual_seed(0)
    words = ["model.backbone=cifar_resnet8", "model.rpn={sizes: [8, 16, 24], channels: 8}", "data.size=32"]
    experiment = config.load("shapes_loc_r18", *words, "data.short=40", *overrides)
    return Locator([build_for(experiment, CLASSES).eval()], experiment.eval)


def fixed(where, boxes, scores):
    """The locator with these candidates, boxes [M, 4] in pixels of the views, for one image and class."""
    made = torch.tensor([[scores]]), torch.tensor([[boxes]], dtype=torch.float32)
    where.proposers[0].candidates = lambda pixels, classes: made
    return where


def test_boxes_of_the_center_crop_are_mapped_to_the_image():
    """A crop of 32 pixels from the center of 50 x 40, which an image of 60 x 48 was resized to."""
    where = fixed(locator(), [[0.0, 0, 32, 32], [-40, 4, 8, 60]], [0.9, 0.5])
    views = where.build_views(Painted.random(1, size=(60, 48)).image(0))
    boxes, scores = where.candidates(views, torch.tensor([[48.0, 60.0]]), torch.tensor([[0]]))
    inside = [9 * 1.2, 4 * 1.2, 41 * 1.2, 36 * 1.2]
    torch.testing.assert_close(boxes[0, 0], torch.tensor([inside, [0, 8 * 1.2, 17 * 1.2, 48]]))  # clipped
    assert scores[0, 0].tolist() == pytest.approx([0.9, 0.5])


def test_small_boxes_are_left_out():
    boxes, scores = [[5.0, 5, 5.5, 30], [4, 4, 24, 24]], [0.9, 0.5]
    where = fixed(locator(), boxes, scores)
    views, sizes = where.build_views(Painted.random(1, size=(40, 40)).image(0)), torch.tensor([[40.0, 40.0]])
    _, score = where(views, sizes, torch.tensor([[0]]))
    assert score.item() == pytest.approx(0.5)
    proposals = where.propose(views, sizes, torch.tensor([[0]]))
    assert proposals.scores[proposals.valid].tolist() == pytest.approx([0.5])


def test_proposals_match_torchvisions_nms():
    """Compares the proposals with torchvision's NMS on all candidates; checks that the boxes lie in the image."""
    import torchvision

    where = locator("eval.testing=dense", "eval.scales=[40,56]", "eval.nms=0.6", "eval.proposals=20")
    source = Painted.random(1, size=(60, 48))
    views, sizes = where.build_views(source.image(0)), torch.tensor([[48.0, 60.0]])
    classes = torch.tensor([[1, 0]])
    with torch.inference_mode():
        found = where.propose(views, sizes, classes)
        boxes, scores = where.candidates(views, sizes, classes)
    assert boxes.shape == (1, 2, 400, 4)
    for k in range(2):
        large = (boxes[0, k, :, 2:] - boxes[0, k, :, :2] >= 1).all(1)
        kept = torchvision.ops.nms(boxes[0, k][large], scores[0, k][large], 0.6)[:20]
        torch.testing.assert_close(found.boxes[k][found.valid[k]], boxes[0, k][large][kept])
        assert found.valid[k].sum() == len(kept) > 5
    assert (found.boxes >= 0).all() and (found.boxes[..., 2] <= 60).all() and (found.boxes[..., 3] <= 48).all()


def test_predict_takes_the_same_images_as_other_models(tmp_path):
    (model,) = locator().proposers
    pixels = Painted.random(1, size=(60, 48)).image(0).decode()
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    kinds = [[pixels], pixels, pixels[None], str(path), tmp_path, Image.fromarray(pixels)]
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    results = [model.predict(images, [[0, 1]]) for images in (*kinds, tensor, [tensor / 255])]
    assert all(len(found) == 1 and np.array_equal(found[0].boxes, results[0][0].boxes) for found in results)
    assert results[1][0].image is pixels


@pytest.mark.parametrize("classes", [[[0, len(CLASSES)]], [-1]])
def test_predict_refuses_unknown_classes(classes):
    (model,) = locator().proposers
    with pytest.raises(resdet.Error, match=rf"classes is .*: give class numbers from 0 to {len(CLASSES) - 1}"):
        model.predict([np.zeros((48, 60, 3), np.uint8)], classes)


@pytest.mark.parametrize(
    "override",
    ["eval.scales=[]", "eval.proposals=0", "eval.nms=2", "eval.vote=-1", "eval.batch=0", "eval.testing=sparse"],
)
def test_invalid_settings_name_the_option(override):
    with pytest.raises(resdet.Error, match=override.partition("=")[0]):
        config.load("shapes_loc_r18", override)
