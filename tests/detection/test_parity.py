"""Compares detections of FPN models with torchvision's for the same weights (`same` has the tolerances).

Both run in float64. In float32 the order of a sum depends on threads and processors, and can decide whether a box
with an IoU of almost 0.7 is suppressed, which changes later results: there nearly all detections must be equal.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from detection.heads import twins
from torch import Tensor, nn

import resdet
from resdet.detection.inference.predictor import pad, results_of
from resdet.detection.model import Detector
from resdet.results.result import Result

pytest.importorskip("torchvision")

SIZES = [(97, 131), (213, 150), (160, 160)]  # enlarged, and padded in a batch; reduced; unchanged
PROPOSALS, DETECTIONS = 30, 10


def arrays(pictures: list[Tensor]) -> list[np.ndarray]:
    return [picture.permute(1, 2, 0).numpy() for picture in pictures]


def precise(theirs: nn.Module, ours: Detector) -> tuple[nn.Module, Detector]:
    return theirs.double(), ours.double()


def theirs_of(detector: nn.Module, images: list[Tensor]) -> list[dict[str, Tensor]]:
    dtype = next(detector.parameters()).dtype
    return detector([image.to(dtype) for image in twins.floats(images)])


def alike(found: Result, expected: dict[str, Tensor]) -> Tensor:
    """Returns bool [resdet's, torchvision's]: boxes within 0.01 pixel, scores within 1e-4, equal labels."""
    boxes, scores, labels = (torch.from_numpy(a) for a in (found.boxes, found.scores, found.labels))
    near = (boxes[:, None] - expected["boxes"]).abs().amax(2) < 0.01
    near &= (scores[:, None] - expected["scores"]).abs() < 1e-4
    return near & (labels[:, None] == expected["labels"] - 1)


def same(found: Result, expected: dict[str, Tensor]) -> None:
    """Checks the number of detections, a match for each in any order, and mask IoUs of at least 0.99."""
    assert len(found) == len(expected["scores"])
    near = alike(found, expected)
    assert near.any(0).all() and near.any(1).all()
    if found.masks is None:
        assert "masks" not in expected
        return
    mine, theirs = torch.from_numpy(found.masks)[near.int().argmax(0)], expected["masks"][:, 0] > 0.5
    shared, union = (mine & theirs).sum((1, 2)), (mine | theirs).sum((1, 2))
    assert (shared >= 0.99 * union).all()


@pytest.fixture(scope="module", params=[False, True], ids=["boxes", "masks"])
def pair(request) -> tuple[nn.Module, Detector]:
    """Returns torchvision's narrow detector and resdet's, both with 300 detections per image."""
    torch.set_num_threads(1)
    images = twins.floats(twins.pictures(SIZES[0]))
    theirs = twins.spread_out(twins.narrow(request.param, box_detections_per_img=300), images[0])
    return precise(theirs, with_more(twins.ours(theirs)))


def with_more(model: Detector) -> Detector:
    model.roi_heads.config = replace(model.roi_heads.config, detections=300)
    return model


@torch.no_grad()
def test_single_images(pair):
    theirs, ours = pair
    images = twins.pictures(*SIZES)
    found = 0
    for image, result in zip(images, ours.predict(arrays(images))):
        same(result, theirs_of(theirs, [image])[0])
        found += len(result)
    assert found > 300


@torch.no_grad()
def test_a_batch_padded_to_its_largest_image(pair):
    theirs, ours = pair
    from resdet.images.decode import as_image
    from resdet.images.resize import resize

    images = twins.pictures(*SIZES, seed=1)
    resized = [resize(as_image(a), twins.SHORT, twins.LONG, "torchvision") for a in arrays(images)]
    batch = pad([torch.from_numpy(a) for a in resized], 32)
    assert batch.pixels.shape == (3, 3, 256, 224)
    results = results_of(ours, batch, SIZES)
    for result, expected in zip(results, theirs_of(theirs, images)):
        same(result, expected)
    assert sum(map(len, results)) > 300


@pytest.mark.parametrize("masks", [False, True])
@torch.no_grad()
def test_float32(masks):
    images = twins.pictures(*SIZES)
    theirs = twins.spread_out(twins.narrow(masks), twins.floats(images)[0])
    ours = twins.ours(theirs)
    for image, result in zip(images, ours.predict(arrays(images))):
        near = alike(result, theirs_of(theirs, [image])[0])
        assert len(result) > 50 and near.any(1).float().mean() > 0.95


@pytest.mark.parametrize("short, long", [(80, 400), (150, 177)])  # limited by the short side; by the long side
@torch.no_grad()
def test_other_sizes_of_test_images(pair, short, long, monkeypatch):
    theirs, ours = pair
    monkeypatch.setattr(theirs.transform, "min_size", (short,))
    monkeypatch.setattr(theirs.transform, "max_size", long)
    monkeypatch.setattr(ours, "input", replace(ours.input, min_size=short, max_size=long))
    image = twins.pictures((100, 161), seed=2)
    result = ours.predict(arrays(image))[0]
    assert len(result) > 20
    same(result, theirs_of(theirs, image)[0])


@pytest.mark.parametrize("name", ["fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2"])
@torch.no_grad()
def test_torchvision_models_from_a_file(name, tmp_path):
    """Loads a saved state dict by `resdet.load`; fewer proposals and detections than by default save time."""
    image = twins.pictures((121, 190))
    fewer = {"rpn_post_nms_top_n_test": PROPOSALS, "box_detections_per_img": DETECTIONS}
    theirs = twins.spread_out(twins.full(name, **fewer), twins.floats(image)[0])
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    ours = twins.small(resdet.load(tmp_path / "theirs.pth"))
    precise(theirs, ours)
    ours.rpn.config = replace(ours.rpn.config, post_nms=(2000, PROPOSALS))
    assert ours.roi_heads.config.detections == 100  # torchvision's default
    ours.roi_heads.config = replace(ours.roi_heads.config, detections=DETECTIONS)
    result = ours.predict(arrays(image))[0]
    assert len(result) == DETECTIONS
    same(result, theirs_of(theirs, image)[0])
