"""Compares Keypoint R-CNN with torchvision's for the same weights: predictions, heatmaps and losses."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detection.heads import tiny, twins
from narrow import shallow_nets

from resdet.backbones.surgery import fold_norms
from resdet.detection.evaluation.command import check_annotations
from resdet.detection.heads.branches import SampledProposals
from resdet.detection.inference.predictor import pad, results_of
from resdet.detection.inference.tta import EnsembleDetector
from resdet.detection.inference.views import View
from resdet.detection.model import Detector
from resdet.detection.records import targets_from_list
from resdet.errors import ConfigError
from resdet.structures import Images, Targets

detection = pytest.importorskip("torchvision.models.detection")
roi_heads = pytest.importorskip("torchvision.models.detection.roi_heads")

SIZES = [(97, 131), (213, 150), (160, 160)]


@pytest.fixture(scope="module")
def pair():
    """Returns torchvision's narrow detector and resdet's with its weights, in float64."""
    torch.set_num_threads(1)
    theirs = twins.spread_out(twins.narrow_keypoints(), twins.floats(twins.pictures(SIZES[0]))[0])
    ours = twins.ours(theirs)
    return theirs.double(), ours.double()


@torch.no_grad()
@pytest.mark.parametrize("size", SIZES)
def test_predictions(pair, size):
    """Compares boxes and scores, and the places and scores of keypoints."""
    theirs, ours = pair
    (picture,) = twins.pictures(size, seed=3)
    (expected,) = theirs([picture.double() / 255])
    result = ours.predict(picture.permute(1, 2, 0).numpy())
    found = result.to_torchvision()
    assert len(result) == len(expected["boxes"]) > 20
    assert torch.allclose(found["boxes"].double(), expected["boxes"].double(), atol=1e-2)
    assert torch.allclose(found["scores"].double(), expected["scores"].double(), atol=1e-4)
    assert torch.equal(found["labels"], expected["labels"])
    assert found["keypoints"].shape == (len(result), 5, 3) == expected["keypoints"].shape
    distance = (found["keypoints"] - expected["keypoints"]).abs().amax(2)
    assert (distance < 1e-2).float().mean() > 0.99  # a flat heatmap may have its maximum in two places
    assert torch.allclose(found["keypoints_scores"], expected["keypoints_scores"].float(), atol=1e-4)
    assert np.array_equal(result.keypoints[..., :2], found["keypoints"][..., :2].numpy())


@torch.no_grad()
def test_heatmaps(pair):
    theirs, ours = pair
    images = pad([picture.permute(1, 2, 0) for picture in twins.pictures((160, 160))], 32)
    detections, maps = ours.detect(images)
    boxes = detections.boxes[:, :16]
    found = ours.heatmaps(maps, boxes, detections.labels[:, :16])[0]
    heads, features = theirs.roi_heads, dict(zip("0123", maps))
    pooled = heads.keypoint_roi_pool(features, [boxes[0].double()], [(160, 160)])
    expected = heads.keypoint_predictor(heads.keypoint_head(pooled))
    assert found.shape == (16, 5, 56, 56)
    assert torch.allclose(found.double(), expected.double(), atol=1e-4)


@torch.no_grad()
def test_a_batch_gives_the_results_of_single_images(pair):
    _, ours = pair
    pictures = [picture.permute(1, 2, 0) for picture in twins.pictures((160, 224), (160, 224))]
    sizes = [tuple(picture.shape[:2]) for picture in pictures]
    both = results_of(ours, pad(pictures, 32), sizes)
    for picture, size, result in zip(pictures, sizes, both):
        (alone,) = results_of(ours, pad([picture], 32), [size])
        assert len(alone) == len(result) > 0
        assert (np.abs(alone.keypoints - result.keypoints).max(2) < 1e-2).mean() > 0.99


def learned(seed: int, places: int = 8) -> tuple[list[dict], Targets]:
    """Makes objects of every visibility, with keypoints inside, at the edges and outside of their boxes."""
    generator = torch.Generator().manual_seed(seed)
    objects = []
    for count in (3, 1):
        corner = 100 * torch.rand(count, 2, generator=generator)
        boxes = torch.cat([corner, corner + 10 + 50 * torch.rand(count, 2, generator=generator)], 1)
        share = 1.4 * torch.rand(count, 5, 2, generator=generator) - 0.2
        share[:, 0] = 1.0  # the right and bottom edges
        points = boxes[:, None, :2] + share * (boxes[:, None, 2:] - boxes[:, None, :2])
        visibility = torch.randint(3, (count, 5, 1), generator=generator).float()
        visibility[:, 0] = 2
        labels = torch.ones(count, dtype=torch.int64)
        objects.append({"boxes": boxes, "labels": labels, "keypoints": torch.cat([points, visibility], 2)})
    return objects, targets_from_list(objects)


@pytest.mark.parametrize("seed", range(5))
def test_the_loss_equals_torchvision(pair, seed, monkeypatch):
    """Both losses have the same logits, RoIs and matches; negative and padded RoIs are ignored."""
    _, ours = pair
    branch = ours.roi_heads.branches["keypoint"]
    objects, targets = learned(seed)
    generator = torch.Generator().manual_seed(seed)
    matched = torch.tensor([[0, 2, 1, 0], [0, 0, 0, 0]])
    positive = torch.tensor([[True, True, True, False], [True, False, False, False]])
    boxes = targets.boxes.gather(1, matched[..., None].expand(-1, -1, 4)) + torch.rand(2, 4, 4, generator=generator)
    boxes[:, 0] = targets.boxes[:, 0]  # keypoints exactly on the edge of the RoI
    logits = torch.randn(8, 5, 56, 56, generator=generator, requires_grad=True)
    of_positives = lambda _, maps, packed, first: logits[(4 * packed.images + packed.places)[0]]
    monkeypatch.setattr(branch, "features", type("", (), {"of_positives": of_positives})())
    monkeypatch.setattr(branch, "head", lambda x: x)
    rois = SampledProposals(boxes, matched, positive, positive)
    found = branch.losses([], rois, torch.zeros(0), targets)["keypoint"]
    rows = positive.flatten().nonzero()[:, 0]
    expected = roi_heads.keypointrcnn_loss(
        logits[rows],
        [boxes[i, positive[i]] for i in range(2)],
        [one["keypoints"] for one in objects],
        [matched[i, positive[i]] for i in range(2)],
    )
    assert found.item() == pytest.approx(expected.item(), rel=1e-6) and found.item() > 1
    assert torch.allclose(*(torch.autograd.grad(loss, logits)[0] for loss in (found, expected)), atol=1e-8)
    weighted = replace(branch.config, loss_weight=0.5)
    monkeypatch.setattr(branch, "config", weighted)
    assert branch.losses([], rois, torch.zeros(0), targets)["keypoint"].item() == pytest.approx(found.item() / 2)


def test_without_visible_keypoints_the_loss_is_zero(pair):
    _, ours = pair
    objects, targets = learned(0)
    targets.keypoints[..., 2] = 0
    images = pad([picture.permute(1, 2, 0) for picture in twins.pictures((160, 160), (160, 160))], 32)
    loss = ours.losses(images, targets)["keypoint"]
    assert loss.item() == 0
    assert "keypoint" not in ours.losses(images, targets._replace(keypoints=None))
    none = [
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "keypoints": torch.zeros(0, 5, 3)}
    ] * 2
    assert ours.losses(images, targets_from_list(none))["keypoint"].item() == 0


def small_one() -> Detector:
    """Builds a detector with masks and keypoints that samples all anchors and regions, without randomness."""
    with shallow_nets():
        return tiny.make("fpn", True, "model.keypoint={width: 8, convs: 1, names: [a, b, c]}", everything=True)


def small_batch(objects: int = 2) -> tuple[Images, Targets]:
    targets = tiny.targets([[5.0, 8.0, 30.0, 40.0], [20.0, 20.0, 60.0, 50.0]][:objects], [[5.0, 8.0, 30.0, 40.0]])
    points = targets.boxes[:, :, None, :2].expand(-1, -1, 3, -1) + torch.tensor([[3.0, 4.0], [12.0, 9.0], [90.0, 0.0]])
    return tiny.images((64, 64), (64, 50)), targets._replace(keypoints=torch.cat([points, points[..., :1] * 0 + 2], 3))


def test_losses_compile_to_one_graph_with_equal_values():
    """Compiled code has a fixed number of places; eager code on a CPU has only the places in use."""
    torch.compiler.reset()
    model = small_one().train()
    compiled = torch.compile(model.losses, fullgraph=True, backend="eager")
    expected, found = model.losses(*small_batch()), compiled(*small_batch())
    assert {"mask", "keypoint"} <= expected.keys() == found.keys()
    for name, loss in expected.items():
        assert found[name].item() == pytest.approx(loss.item(), rel=1e-4), name
    with torch.compiler.set_stance("fail_on_recompile"):
        compiled(*small_batch(objects=1))


@torch.no_grad()
def test_heatmaps_compile_to_one_graph():
    torch.compiler.reset()
    model, (images, _) = small_one().eval(), small_batch()
    detections, maps = model.detect(images, 0.2)
    boxes, labels = detections.boxes[:, :8], detections.labels[:, :8]
    compiled = torch.compile(model.heatmaps, fullgraph=True, backend="eager")
    assert torch.allclose(compiled(maps, boxes, labels), model.heatmaps(maps, boxes, labels), atol=1e-5)


def test_deep_copies_are_independent():
    """A branch refers to the head of its parent module; in a copy it must refer to the copied head."""
    model = small_one()
    other = copy.deepcopy(model)
    for name in ("mask", "keypoint"):
        branch, head = other.roi_heads.branches[name], getattr(other.roi_heads, f"{name}_head")
        assert branch.head is head and head is not getattr(model.roi_heads, f"{name}_head")
    with torch.no_grad():
        for parameter in other.roi_heads.keypoint_head.parameters():
            parameter.zero_()
    images, _ = small_batch()
    detections, maps = other.eval().detect(images, 0.0)
    assert not other.heatmaps(maps, detections.boxes, detections.labels).any()
    assert model.eval().heatmaps(maps, detections.boxes, detections.labels).any()
    halved = copy.deepcopy(model).bfloat16().eval()
    detections, maps = halved.detect(images, 0.0)
    assert maps[0].dtype == torch.bfloat16
    assert halved.heatmaps(maps, detections.boxes, detections.labels).dtype == torch.float32


def test_folding_norms_keeps_heatmaps():
    with shallow_nets():
        model = tiny.make("fpn", False, "model.keypoint={width: 8, convs: 2, norm: bn, names: [a, b]}").eval()
    images, _ = small_batch()
    with torch.no_grad():
        for norm in (unit.norm for unit in model.roi_heads.keypoint_head.convs):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
        detections, maps = model.detect(images, 0.0)
        expected = model.heatmaps(maps, detections.boxes, detections.labels)
        assert fold_norms(model.roi_heads) == 2
        assert torch.allclose(model.heatmaps(maps, detections.boxes, detections.labels), expected, atol=1e-4)


@torch.no_grad()
def test_heatmaps_of_a_mirrored_view_are_mapped_back():
    """Heatmaps of a mirrored view equal those of the mirrored image, flipped, with left and right swapped."""
    with shallow_nets():
        model = tiny.make("fpn", False, "model.keypoint={width: 8, convs: 1, names: [left_a, right_a, b]}").eval()
    pixels = tiny.images((64, 64)).pixels[0].permute(1, 2, 0).numpy()
    plain, mirrored = (View(model, pixels, (64, 64), side) for side in (False, True))
    other = View(model, np.ascontiguousarray(pixels[:, ::-1]), (64, 64), False)
    boxes = torch.tensor([[10.0, 12.0, 40.0, 50.0]])
    back = torch.tensor([[24.0, 12.0, 54.0, 50.0]])  # the box in the mirrored image
    labels = torch.zeros(1, dtype=torch.int64)
    expected = other.heatmaps(back, labels)[:, [1, 0, 2]].flip(-1)
    assert torch.allclose(mirrored.heatmaps(boxes, labels), expected, atol=1e-5)
    assert not torch.allclose(plain.heatmaps(boxes, labels), expected, atol=1e-2)
    different = tiny.make("fpn", False, "model.keypoint={width: 8, convs: 1, names: [a]}").eval()
    with pytest.raises(ConfigError, match="different keypoints"):
        EnsembleDetector([model, different])


def test_data_without_the_keypoints_of_an_ensemble_are_refused():
    """The first detector of the ensemble predicts boxes only."""
    with shallow_nets():
        boxes = tiny.make("fpn", False)
        both = tiny.make("fpn", False, "model.keypoint={width: 8, convs: 1, names: [a, b]}")
    data = SimpleNamespace(
        classes=tiny.CLASSES, category_ids=boxes.category_ids, label_counts=lambda: np.ones(3, int), keypoints=None
    )
    assert check_annotations([boxes], data) is None
    with pytest.raises(ConfigError, match="The model has 2 keypoints and the annotations have no"):
        check_annotations([boxes, both], data)
    data.keypoints = SimpleNamespace(names=["b", "a"])
    with pytest.raises(ConfigError, match="in the order a, b … and the annotations in the order b, a …"):
        check_annotations([boxes, both], data)
    data.keypoints = SimpleNamespace(names=["a", "other"])
    assert check_annotations([boxes, both], data) is None
