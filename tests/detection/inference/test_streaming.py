"""Memory when predicting large images: one batch is held at a time, and masks are never stacked into one array."""

import json
import tracemalloc
import weakref
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from detection.heads import tiny
from localization.test_classify_and_locate import classifier, localizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from resdet import hub
from resdet.backbones.surgery import fold_norms
from resdet.batch_inference.program import Program
from resdet.classification import model as classifiers
from resdet.commands import predict
from resdet.detection.data.loader import EvaluationBatch
from resdet.detection.evaluation.evaluate import detect_batch
from resdet.detection.inference.predictor import pad
from resdet.detection.inference.tta import EnsembleDetector
from resdet.images.resize import resize_pixels
from resdet.localization.classify_and_locate import ClassifyAndLocate

HEIGHT, WIDTH = 600, 900
PIXELS = HEIGHT * WIDTH
SCORE = 0.2  # an untrained detector of three classes and background has scores of about 1/4
MANY = 40  # fewest masks per image


class Allocations(TorchDispatchMode):
    """Records the size in bytes of the largest tensor that an operator returns."""

    largest = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        found = function(*arguments, **(options or {}))
        tensors = [leaf for leaf in tree_leaves(found) if isinstance(leaf, torch.Tensor)]
        self.largest = max([self.largest, *(tensor.untyped_storage().nbytes() for tensor in tensors)])
        return found


def picture(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    return cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="module")
def model():
    model = tiny.make("fpn").eval()
    fold_norms(model)  # otherwise, each call scales the weights, which are larger than the images here
    return model


MAKE = {"detector": lambda model: model, "tester": lambda model: EnsembleDetector([model])}


@pytest.mark.parametrize("kind", MAKE)
def test_streams_keep_neither_results_nor_images(kind, model):
    results, pictures = [], []

    def images():
        for seed in range(3):
            pixels = picture(seed)
            pictures.append(weakref.ref(pixels))
            yield pixels
            del pixels

    for result in MAKE[kind](model).stream(images(), SCORE):
        results.append(weakref.ref(result))
        assert len(pictures) == len(results) and result.image is pictures[-1]()
        del result
        assert all(earlier() is None for earlier in (*results[:-1], *pictures[:-1]))
    assert len(results) == 3


@pytest.mark.parametrize("kind", MAKE)
def test_masks_are_never_stacked(kind, model):
    """No operator returns a tensor of more than 10 bytes per pixel of the image."""
    detector = MAKE[kind](model)
    with Allocations() as allocations:
        (result,) = detector.predict([picture(0)], SCORE)
    assert len(result) > MANY and len(result.rles) == len(result)
    assert allocations.largest < 10 * PIXELS < MANY * PIXELS
    assert result.masks.any((1, 2)).sum() > MANY / 2


def test_evaluation_never_stacks_masks(model):
    pictures = [picture(seed) for seed in range(3)]
    images = pad([torch.from_numpy(resize_pixels(pixels, 96, 64)) for pixels in pictures], 32)
    batch = EvaluationBatch(images, torch.arange(3), None)
    source = SimpleNamespace(sizes=np.array([[WIDTH, HEIGHT]] * 3))
    with torch.inference_mode(), Allocations() as allocations:
        results, indices, losses = detect_batch(model, source, batch, SCORE)
    assert indices == [0, 1, 2] and losses == {}
    assert all(len(result) > MANY and result.size == (HEIGHT, WIDTH) for result in results)
    assert allocations.largest < 10 * PIXELS
    for result, pixels in zip(results, pictures):
        (alone,) = model.predict([pixels], SCORE)
        assert abs(len(alone) - len(result)) <= 3


def test_the_command_writes_results_one_by_one(model, tmp_path, monkeypatch):
    """NumPy's peak memory is a few images, for any number of images and masks."""
    paths = [str(tmp_path / f"{seed}.png") for seed in range(3)]
    for seed, path in enumerate(paths):
        cv2.imwrite(path, picture(seed))
    monkeypatch.setattr(hub, "load", lambda path, mode, device, compile: model)
    monkeypatch.setattr(predict.distributed, "choose_device", lambda device, key: torch.device("cpu"))
    tracemalloc.start()
    try:
        predict.predict(Program(["a.pth"], score=SCORE), paths, str(tmp_path / "r.json"), str(tmp_path / "drawn"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    rows = json.loads((tmp_path / "r.json").read_text())
    assert rows == [result.to_dict() for result in model.predict(paths, SCORE)]
    assert all(len(row["detections"]) > MANY for row in rows) and len(list((tmp_path / "drawn").iterdir())) == 3
    assert peak < 10 * picture(0).nbytes < MANY * PIXELS


STREAMS = {
    "detector": (1, lambda model: model.stream),
    "tester": (1, lambda model: EnsembleDetector([model]).stream),
    "finder": (1, lambda model: ClassifyAndLocate([localizer()], [classifier()]).stream),
    "classifier": (2, lambda model: classifier().stream),
}


@pytest.mark.parametrize("kind", STREAMS)
def test_streams_read_images_lazily(kind, model, monkeypatch):
    monkeypatch.setattr(classifiers, "PREDICT_BATCH", 2)
    read, (most, stream) = [], STREAMS[kind]
    images = (read.append(seed) or picture(seed)[:64, :64] for seed in range(5))
    found = stream(model)(images)
    assert read == []
    next(found)
    assert len(read) == most
    assert len(list(found)) == 4 and len(read) == 5


@pytest.mark.parametrize("training", [True, False])
def test_streams_restore_the_training_mode_between_results(training):
    model = tiny.make("fpn", False).train(training)
    for _ in model.stream([picture(seed)[:64, :64] for seed in range(2)]):
        assert model.training is training
