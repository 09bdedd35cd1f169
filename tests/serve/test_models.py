"""Tests that images prepared one by one and predicted in batches yield the results of `predict` for each model."""

import numpy as np
import pytest
import torch
from detection.heads import tiny
from export.small import SHAPE, detector
from localization.test_classify_and_locate import classifier as classifier_of_two
from localization.test_classify_and_locate import localizer
from serve.serving import picture

import resdet
from resdet.errors import ConfigError
from resdet.export import Form, to_onnx
from resdet.images.decode import EncodedImage
from resdet.localization.classify_and_locate import ClassifyAndLocate
from resdet.serve.models import loader
from resdet.serve.worker import Item, run
from resdet.weights import save_weights

PICTURES = [picture(70, 100), picture(100, 70, ".jpg"), picture(64, 96, ".jpg"), picture(70, 100, ".bmp")]


def saved(model, path):
    save_weights.save(model, path, "safetensors")
    return str(path)


def exported(model, path, form):
    pytest.importorskip("onnxscript")
    to_onnx(model.eval(), path, form)
    return str(path)


def small_classifier():
    torch.manual_seed(0)
    return resdet.build("shapes_resnet20", "model.backbone=cifar_resnet8", "model.num_classes=4")


FILES = {
    "detector": lambda folder: saved(tiny.make("fpn", True, "data=coco"), folder / "a.safetensors"),
    "classifier": lambda folder: saved(small_classifier(), folder / "a.safetensors"),
    "exported classifier": lambda folder: exported(small_classifier(), folder / "a.onnx", Form(dynamic_batch=True)),
    "exported detector": lambda folder: exported(detector("c4", False), folder / "a.onnx", Form(SHAPE)),
}


def predicted(loaded, **options) -> list:
    """Returns the results of all images, predicted in one batch per shape."""
    items = [
        Item(loaded.predictor, loaded.predictor.prepare_image(EncodedImage(data, "a")), None, None) for data in PICTURES
    ]
    for item in items:
        item.score, item.top = options.get("score"), options.get("top")
    results = {}
    for group in {item.group for item in items}:
        batch = [item for item in items if item.group == group]
        results |= dict(zip(map(id, batch), run(batch)))
    return [results[id(item)] for item in items]


@pytest.mark.parametrize("kind", FILES)
def test_batched_results_match_predict(kind, tmp_path):
    path = FILES[kind](tmp_path)
    loaded = loader("cpu", "exact", "auto")(path)
    options = {"score": 0.2} if "score" in loaded.options else {"top": 2}
    expected = [resdet.load(path).predict(EncodedImage(data, "a"), **options) for data in PICTURES]
    results = predicted(loaded, **options)
    assert min(map(len, expected)) > 0
    for ours, theirs in zip(results, expected, strict=True):
        assert ours.names == theirs.names
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-4)
        if hasattr(theirs, "boxes"):
            np.testing.assert_allclose(ours.boxes, theirs.boxes, atol=2e-2)
            assert ours.size == theirs.size
        if getattr(theirs, "rles", None):
            assert (ours.masks == theirs.masks).mean() > 0.999


def test_a_localizer_is_served_with_a_classifier(tmp_path):
    where, what = (
        saved(localizer(), tmp_path / "where.safetensors"),
        saved(classifier_of_two(), tmp_path / "what.safetensors"),
    )
    loaded = loader("cpu", "exact", "auto", [what])(where)
    both = ClassifyAndLocate([resdet.load(where)], [resdet.load(what)])
    assert loaded.options == {"score", "top", "draw"}
    for ours, data in zip(predicted(loaded, top=1), PICTURES):
        theirs = both.predict(EncodedImage(data, "a"))
        assert ours.names == theirs.names[:1]
        np.testing.assert_allclose(ours.boxes, theirs.boxes[:1], atol=1e-3)
        np.testing.assert_allclose(ours.scores, theirs.scores[:1], atol=1e-5)


def test_classifiers_are_loaded_for_localizers_only(tmp_path):
    detector = saved(tiny.make("fpn"), tmp_path / "detector.safetensors")
    assert loader("cpu", "exact", "auto", [str(tmp_path / "none.safetensors")])(detector).options == {"score", "draw"}


def test_a_localizer_needs_a_classifier(tmp_path):
    with pytest.raises(ConfigError, match="--classifier"):
        loader("cpu", "exact", "auto")(saved(localizer(), tmp_path / "where.safetensors"))
