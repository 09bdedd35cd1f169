"""Tests the benchmark suites of detectors at small sizes: both libraries do the same work with the same results."""

import copy
from itertools import islice

import numpy as np
import pytest
import torch

from resdet.bench import detect, detect_train, detection, evaluate, index, ops
from resdet.bench.detection import CANDIDATES, SCORE, tensor_of, twins
from resdet.fast import accelerate
from resdet.timing import MEGABYTES, measure

pytest.importorskip("torchvision")

HEIGHT, WIDTH, BODY = 96, 128, "resnet18"

pytestmark = pytest.mark.usefixtures("narrow_heads")


@pytest.fixture(scope="module", params=[False, True], ids=["Faster", "Mask"])
def pair(request, narrow_heads):
    torch.set_num_threads(1)
    return twins(request.param, HEIGHT, WIDTH, BODY)


def picture() -> np.ndarray:
    return detection.sample_image(HEIGHT, WIDTH)


@torch.no_grad()
def test_random_weights_yield_as_many_detections_as_trained_ones(pair):
    theirs, _ = pair
    logits = []
    hook = theirs.roi_heads.box_predictor.cls_score.register_forward_hook(lambda *call: logits.append(call[2]))
    found = theirs([tensor_of(picture())])[0]
    hook.remove()
    assert (logits[0].softmax(1)[:, 1:] > SCORE).sum() == pytest.approx(CANDIDATES, abs=10)
    assert len(found["boxes"]) == 100


def test_detectors_with_different_results_are_not_compared(pair):
    """Compares in float64, where rounding changes fewer detections than in float32."""
    theirs, ours = (copy.deepcopy(net).double() for net in pair)
    with torch.no_grad():
        expected = theirs([tensor_of(picture()).double()])[0]
    result = ours.predict([picture()])[0]
    assert "100 of 100" in detect.agreement(expected, result)
    with pytest.raises(RuntimeError, match="do not agree"):
        detect.agreement(expected | {"boxes": expected["boxes"] + 1}, result)


@pytest.mark.parametrize("masks", [False, True])
def test_inference_cases(masks):
    """Runs the first three of four cases; the last one, the fast mode, would be compiled."""
    cases = detect.cases_of(masks, HEIGHT, WIDTH, BODY)
    for number, case in enumerate(islice(cases, 3)):
        assert case.note.startswith("same weights: ") == (number == 0)
        (theirs,), (ours,) = case.sides["torchvision"](), case.sides["resdet"]()
        assert len(ours) == pytest.approx(len(theirs["boxes"]), abs=5)


def test_fast_mode_detections_are_close_to_the_exact_ones():
    _, model = twins(False, HEIGHT, WIDTH, BODY)
    plain = model.predict([picture()])[0]
    fast = accelerate(model, torch.bfloat16, compile=False).predict([picture()])[0]
    assert next(model.backbone.parameters()).dtype == torch.bfloat16
    surest = slice(20)
    apart = np.abs(plain.boxes[surest, None] - fast.boxes[None]).max(2)
    apart[plain.labels[surest, None] != fast.labels] = np.inf
    assert (apart.min(1) < 8).mean() > 0.5  # with another image, less than a tenth would match


def test_training_cases(pair):
    """Runs the first two of four cases; the last one would be compiled."""
    cases = detect_train.cases_of(*pair, detect_train.Inputs.make(HEIGHT, WIDTH, 1))
    for number, case in enumerate(islice(cases, 2)):
        assert ("mask head" in case.note) == (pair[1].draws_masks and number == 0)
        assert case.count == 1
        for side in case.sides.values():
            side()


def test_losses_of_both_libraries_are_close(pair):
    """Tolerates 15 %, since each library samples anchors and regions randomly."""
    inputs = detect_train.Inputs.make(HEIGHT, WIDTH, 2)
    torch.manual_seed(0)
    with torch.no_grad():
        theirs = detect_train.TorchvisionLoss(pair[0])(inputs.images, inputs.targets)
        ours = detect_train.ResdetLoss(pair[1])(inputs.batch.images, inputs.batch.targets)
    pair[0].eval(), pair[1].eval()
    assert ours.item() == pytest.approx(theirs.item(), rel=0.15)


def test_operations_of_both_libraries_match():
    cases = list(ops.cases(boxes=300, regions=24, channels=8))
    assert [case.unit for case in cases] == ["ms"] * 7
    for case in cases[:3]:
        theirs, (kept, valid) = case.sides["torchvision"](), case.sides["resdet"]()
        assert kept[valid].tolist() == theirs.tolist(), case.name
    for case in cases[3:]:
        theirs, ours = case.sides["torchvision"](), case.sides["resdet"]()
        pairs = zip(theirs, ours) if isinstance(theirs, tuple) else [(theirs, ours)]
        tolerance = {"rtol": 2e-2, "atol": 5e-2} if "bf16" in case.name else {"rtol": 1e-4, "atol": 1e-4}
        for their, our in pairs:
            torch.testing.assert_close(our.float(), their.float(), **tolerance)


def test_evaluators_agree_before_they_are_timed(monkeypatch):
    cases = list(evaluate.cases(boxes=20, masks=5))
    assert [case.name for case in cases] == ["bbox: 20 images, 2000 detections", "segm: 5 images, 500 detections"]
    assert all("all twelve metrics within" in case.note for case in cases)
    monkeypatch.setattr(evaluate, "by_pycocotools", lambda *_: np.full(12, 0.5))
    with pytest.raises(RuntimeError, match="differ"):
        list(evaluate.cases(boxes=5, masks=5))


def test_time_and_memory_of_the_index_are_measured():
    for case in index.cases(images=300, workers=2):
        measured = measure(case, 1, lambda text: None)
        assert list(measured) == ["pycocotools", "resdet"]
        assert all(figures[0] > 0 for figures in measured.values())
    assert case.unit == MEGABYTES
