"""Models cast to other types predict as in float32, within the precision of the type."""

import copy

import cv2
import numpy as np
import pytest
import torch
from detection.heads import tiny
from localization.test_classify_and_locate import classifier, localizer
from localization.test_rcnn_model import build_rcnn
from torch import nn

from resdet.detection.heads.anchors import Anchors
from resdet.detection.inference.config import TTAConfig
from resdet.detection.inference.tta import EnsembleDetector
from resdet.images.normalize import Normalize

pytestmark = pytest.mark.usefixtures("narrow")

CASTS = {
    "double": nn.Module.double,
    "bfloat16": nn.Module.bfloat16,
    "half": nn.Module.half,
    "to": lambda model: model.to("cpu", torch.bfloat16),
}


@pytest.fixture(params=CASTS)
def cast(request):
    return lambda model: CASTS[request.param](copy.deepcopy(model))


@pytest.fixture(scope="module")
def picture():
    noise = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return cv2.resize(noise, (96, 72), interpolation=cv2.INTER_CUBIC)


def close(found, expected) -> bool:
    """Checks that most boxes are within a pixel of a box of the same class, and scores within 0.02."""
    assert found.boxes.dtype == found.scores.dtype == np.float32
    apart = np.abs(expected.boxes[:, None] - found.boxes).max(2)
    apart[expected.labels[:, None] != found.labels] = np.inf
    count = min(len(found), len(expected))
    scores = np.abs(found.scores[:count] - expected.scores[:count])
    return count >= 0.9 * len(expected) > 4 and np.median(apart.min(1)) < 1 and scores.max() < 0.02


@pytest.mark.parametrize("family", ["fpn", "c4"])
def test_detectors(family, cast, picture):
    model = tiny.make(family)
    found, expected = (net.predict([picture], 0.2)[0] for net in (cast(model), model))
    assert close(found, expected)
    assert found.masks.any() or not expected.masks.any()


def test_detectors_with_test_time_augmentation(picture):
    """Uses mirrored images, and scales merged by maxout."""
    model, settings = tiny.make("c4"), TTAConfig(flip=True, scales=[48, 64])
    cast = copy.deepcopy(model).bfloat16()
    found, expected = (EnsembleDetector([net], settings).predict([picture], 0.2)[0] for net in (cast, model))
    assert close(found, expected)


def test_classifiers(cast, picture):
    model = classifier()
    found, expected = (net.predict([picture], top=2)[0] for net in (cast(model), model))
    assert sorted(found.names) == sorted(expected.names)
    assert np.abs(found.scores - expected.scores).max() < 0.05


def test_localizers(cast, picture):
    """Compares scores alone, as the best of several almost equal boxes may change."""
    model = localizer()
    found, expected = (net.predict([picture], [[0, 1]])[0] for net in (cast(model), model))
    assert found.boxes.dtype == np.float32 and found.labels.tolist() == [0, 1]
    assert np.isfinite(found.boxes).all() and np.abs(found.scores - expected.scores).max() < 0.05


def test_rcnn_localizers(cast, picture, tmp_path):
    model = build_rcnn(localizer(), tmp_path)
    found, expected = (net.predict([picture], [[0, 1]])[0] for net in (cast(model), model))
    assert np.isfinite(found.boxes).all() and np.abs(found.scores - expected.scores).max() < 0.05


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.half, torch.float64])
def test_anchors_and_statistics_keep_float32_precision(dtype):
    """Casts the modules, moves them to another device and casts them back to float32."""
    normalize, anchors = Normalize((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)), Anchors([[32.0]], [0.5], False)
    mean, cell = normalize.mean.clone(), anchors.cell0.clone()
    both = nn.ModuleList([normalize, anchors]).to(dtype)
    assert normalize.mean.dtype == anchors.cell0.dtype == torch.promote_types(dtype, torch.float32)
    assert torch.equal(normalize.mean.float(), mean) and torch.equal(anchors.cell0.float(), cell)
    assert normalize(torch.zeros(1, 3, 2, 2, dtype=torch.uint8)).dtype == dtype
    both.to("meta")
    assert normalize.dtype == dtype and normalize.mean.is_meta and anchors.cell0.is_meta
    both.float()
    assert normalize.dtype == torch.float32


def test_a_type_set_by_hand_is_kept_by_a_move():
    normalize = Normalize()
    normalize.dtype = torch.bfloat16
    assert normalize.to("cpu")(torch.zeros(1, 3, 2, 2)).dtype == torch.bfloat16
