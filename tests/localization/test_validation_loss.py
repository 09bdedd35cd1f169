"""Tests validation losses of localizers: RPN losses on the objects in the views, R-CNN losses on sampled proposals."""

import numpy as np
import pytest
import torch
from localization.test_rcnn_model import build_rcnn
from localization.test_rpn_model import build
from painted import Painted
from torchvision.ops import box_iou

from resdet import config
from resdet.data.loader import Notes
from resdet.detection.evaluation.validation_loss import mean_losses
from resdet.localization.evaluate import locate_all, view_batches
from resdet.localization.locate import Locator
from resdet.localization.validation_loss import region_losses, rpn_losses
from resdet.structures import Proposals

SETTINGS = ["data.size=48", "data.short=64", "eval.scales=[80,96]", "eval.batch=4"]


def test_mean_losses_over_processes():
    """Averages three images of one process and one of another, which has no positive anchor."""
    shares = [({"class": 6.0, "box": 3.0}, 3), ({"class": 4.0}, 1)]
    assert mean_losses(shares) == {"class": 2.5, "box": 0.75}
    assert mean_losses([({}, 0)]) == {}


class Watched:
    """A model that records the arguments of its losses."""

    def losses(self, pixels, targets):
        self.pixels, self.targets = pixels, targets
        return {"rpn_class": torch.rand(())}


def shown(locator, source, indices):
    return list(view_batches(locator, source, indices, 4, 0, "error", Notes(print)))


@pytest.mark.parametrize("testing", ["center", "dense"])
def test_targets_match_the_objects_in_the_views(testing):
    """Compares target boxes with the bright objects in each kind of view; they are annotated at half the image size."""
    source = Painted([[30, 20, 70, 60], [4, 30, 50, 70], [60, 10, 100, 44]], [1, 0, 1], (120, 80))
    for pixels, (x1, y1, x2, y2) in zip(source.pixels, source.things.astype(int)):
        pixels[:] = 0
        pixels[y1:y2, x1:x2] = 255
    source.sizes, source.things = source.sizes // 2, source.things / 2
    settings = config.load("shapes_loc_r18", *SETTINGS, f"eval.testing={testing}").eval
    locator = Locator([build(*SETTINGS)], settings)
    for views in shown(locator, source, [0, 1, 2]):
        model = Watched()
        rpn_losses(model, source, 10, views)
        for row, index in enumerate(views.indices):
            bright = model.pixels[row, 0] > 127
            rows, columns = (bright.any(axis).nonzero()[:, 0] for axis in (1, 0))
            drawn = torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
            torch.testing.assert_close(model.targets.boxes[row, 0], drawn.float(), atol=1, rtol=0)
            assert model.targets.valid[row].tolist() == [True] + [False] * 7
            assert set(model.targets.labels[row].tolist()) == {int(source.labels[index])}


def test_every_evaluation_samples_the_same_anchors():
    source, model = Painted.random(3), build(*SETTINGS, "model.rpn.batch_per_image=8").eval()
    (views,) = shown(Locator([model]), source, [0, 1, 2])
    first = rpn_losses(model, source, 10, views)
    torch.rand(7)
    again = rpn_losses(model, source, 10, views)
    assert first.keys() == {"rpn_class", "rpn_box"} and first == again


@pytest.fixture
def rcnn(tmp_path):
    return build_rcnn(build(), tmp_path).eval()


def test_regions_are_sampled_as_in_training(rcnn, monkeypatch):
    """One proposal on the object, one off it: about half of the samples are positive, and sampling is repeatable."""
    source, told = Painted([[8, 8, 30, 30]] * 40, np.arange(40) % 2, (64, 48)), []
    locator, boxes = Locator([rcnn]), torch.tensor([[[8.0, 8, 30, 32], [28, 28, 46, 46], [0, 0, 0, 0]]])
    valid = torch.tensor([[True, True, False]])
    monkeypatch.setattr(locator, "propose", lambda *given: Proposals(boxes, torch.zeros(1, 3), valid))

    def losses(regions, targets):
        assert regions.shape == (1, 3, 32, 32) and targets.labels.tolist() == [len(told) % 40 % 2]
        color = regions[0].mean((1, 2))  # the object is red and blue, the ground gray
        assert (color.max() - color.min() > 30) == bool(targets.positive)
        told.append(targets)
        return {"class": torch.tensor(1.0)}

    monkeypatch.setattr(rcnn, "losses", losses)
    for views in shown(locator, source, [*range(40)] * 2):
        region_losses(rcnn, locator, source, views)
    positive = torch.cat([targets.positive for targets in told])
    overlaps = torch.cat([box_iou(targets.boxes, targets.objects)[0] for targets in told])
    assert torch.equal(overlaps >= 0.5, positive) and 12 <= positive[:40].sum() <= 28
    assert torch.equal(positive[:40], positive[40:])


def test_images_without_proposals_have_no_loss(rcnn, monkeypatch):
    source, locator = Painted.random(1), Locator([rcnn])
    nothing = Proposals(torch.zeros(1, 4, 4), torch.zeros(1, 4), torch.zeros(1, 4, dtype=torch.bool))
    monkeypatch.setattr(locator, "propose", lambda *given: nothing)
    (views,) = shown(locator, source, [0])
    assert region_losses(rcnn, locator, source, views) == {}


def test_losses_weight_all_images_equally(rcnn):
    """Compares with the mean over images computed here, for batches of 4, 4 and 2 and for single images."""
    source, model = Painted.random(10), build(*SETTINGS).eval()
    for locator, losses in (
        (
            Locator([model], config.load("shapes_loc_r18", *SETTINGS).eval),
            lambda views: rpn_losses(model, source, 10, views),
        ),
        (where := Locator([rcnn]), lambda views: region_losses(rcnn, where, source, views)),
    ):
        found = locate_all(
            locator, source, source.labels[:, None], locator.config, Notes(print), workers=0, losses=losses
        ).losses
        with torch.inference_mode():
            told = [(losses(views), len(views.indices)) for views in shown(locator, source, range(10))]
        assert len(told) == (3 if locator.batched else 10)
        for name, value in found.items():
            assert value == pytest.approx(sum(float(part[name]) * count for part, count in told) / 10, rel=1e-5)
        assert all(np.isfinite(value) and value > 0 for value in found.values())
