"""Images without objects, objects without area and images without pixels give finite losses."""

import pytest
import torch
from detection.heads import tiny
from narrow import narrow_resnets

from resdet.detection.model import Detector
from resdet.structures import Images, Targets, each

WHOLE = [0.0, 0.0, 64.0, 64.0]
OBJECTS = [[5.0, 8.0, 30.0, 40.0], [20.0, 20.0, 60.0, 50.0]]
CASES = {
    "no object": ([], [], False),
    "only crowds": ([WHOLE], [OBJECTS[0]], True),
    "no width": ([[10.0, 10.0, 10.0, 30.0]], OBJECTS, False),
    "no height": ([[10.0, 10.0, 30.0, 10.0]], OBJECTS, False),
    "a point": ([[10.0, 10.0, 10.0, 10.0]], [[0.0, 0.0, 0.0, 0.0]], False),
    "right is left": ([[30.0, 10.0, 10.0, 30.0]], OBJECTS, False),
    "outside": ([[100.0, 100.0, 150.0, 130.0]], [[-50.0, -50.0, -10.0, -20.0]], False),
    "beyond the border": ([[-500.0, -500.0, 900.0, 900.0]], OBJECTS, False),
    "enormous": ([[-1e7, -1e7, 1e7, 1e7]], OBJECTS, False),
}


@pytest.fixture(scope="module", params=["fpn", "c4", "cascade", "mnc"])
def model(request) -> Detector:
    with narrow_resnets():
        return tiny.make(request.param, everything=True).train()


def learn(model: Detector, images: Images, targets: Targets) -> dict[str, float]:
    """Returns the losses, and checks that they and the gradients of all parameters are finite."""
    model.zero_grad()
    losses = model.losses(images, targets)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values()), losses
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name
    return {name: loss.item() for name, loss in losses.items()}


def values(losses: dict[str, float], kind: str) -> list[float]:
    """Returns the losses of this name in all stages."""
    return [loss for name, loss in losses.items() if name.rstrip("123") == kind]


@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_are_finite(model, case):
    *boxes, crowd = CASES[case]
    losses = learn(model, tiny.images((64, 64), (64, 50)), tiny.targets(*boxes, crowd=crowd))
    assert values(losses, "rpn_objectness")[0] > 0


def test_without_objects_only_background_is_learned(model):
    losses = learn(model, tiny.images((64, 64)), tiny.targets([]))
    assert values(losses, "rpn_objectness")[0] > 0.1 and min(values(losses, "class")) > 0.1
    for kind in ("rpn_box", "box", "mask"):
        assert set(values(losses, kind)) == {0.0}


def test_a_crowd_over_everything_gives_no_loss(model):
    losses = learn(model, tiny.images((64, 64)), tiny.targets([[-500.0, -500.0, 600.0, 600.0]], crowd=True))
    assert set(losses.values()) == {0.0}


def test_a_batch_may_have_no_places_for_objects(model):
    """The losses of targets without places (G = 0) equal those of padding alone."""
    empty = each(tiny.targets([]), lambda field: field[:, :0])
    found, expected = (learn(model, tiny.images((64, 64)), targets) for targets in (empty, tiny.targets([])))
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("everything", [True, False])
def test_more_padding_of_objects_changes_nothing(everything):
    """Losses do not depend on padding, and the same seed samples the same anchors and regions."""
    with narrow_resnets():
        model = tiny.make("fpn", everything=everything).train()
    images = tiny.images((64, 64), (64, 50))
    found = []
    for places in (2, 37):
        torch.manual_seed(0)
        found.append(learn(model, images, tiny.targets(OBJECTS, OBJECTS[:1], places=places)))
    assert found[1] == pytest.approx(found[0], rel=1e-5)


def test_values_in_the_padding_of_objects_change_nothing(model):
    images, targets = tiny.images((64, 64)), tiny.targets(OBJECTS)
    before = learn(model, images, targets)
    targets.boxes[:, 2:] = torch.tensor(WHOLE)
    targets.labels[:, 2:] = 1
    targets.crowd[:, 2:] = True
    assert learn(model, images, targets) == pytest.approx(before, rel=1e-5)


def test_an_image_without_pixels_gives_no_loss(model):
    """An image without pixels replaces an unreadable file in a batch."""
    alone = learn(model, tiny.images((64, 64)), tiny.targets(OBJECTS))
    with_it = learn(model, tiny.images((64, 64), (0, 0)), tiny.targets(OBJECTS, []))
    assert with_it == pytest.approx(alone, rel=1e-5)
    nothing = learn(model, tiny.images((0, 0)), tiny.targets([]))
    assert set(nothing.values()) == {0.0}


def test_pixels_in_the_padding_change_nothing(model):
    images, targets = tiny.images((40, 64)), tiny.targets(OBJECTS[:1])
    before = learn(model, images, targets)
    images.pixels[:, :, 40:] = 0
    assert learn(model, images, targets) == pytest.approx(before, rel=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 64), (64, 1)])
def test_images_one_pixel_wide(model, size):
    learn(model, tiny.images(size, side=64), tiny.targets([[0.0, 0.0, float(size[1]), float(size[0])]]))
    with torch.no_grad():
        found = model.eval().detect(tiny.images(size, side=64), score=0.0)[0]
    kept = found.boxes[found.valid]
    assert kept.isfinite().all()
    assert (kept.amax(0)[2:] <= torch.tensor(size[::-1])).all() if len(kept) else True


@torch.no_grad()
def test_an_image_without_pixels_has_no_detections(model):
    found = model.eval().detect(tiny.images((0, 0), (64, 64)), score=0.0)[0]
    assert not found.valid[0].any() and found.valid[1].any()
