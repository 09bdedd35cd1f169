"""Tests prediction with exported ONNX files on images of any size, against the original models."""

import copy
import json

import cv2
import numpy as np
import pytest
import torch
from export.small import SHAPE, batch, detector, picture

import resdet
from resdet.batch_inference.program import Program
from resdet.commands.evaluate import evaluate
from resdet.commands.predict import predict
from resdet.detection.config import InputConfig
from resdet.errors import ConfigError, Error, WeightsError
from resdet.export import Form, onnx_model
from resdet.export.exporters import graph_of
from resdet.export.model import ExportedClassifier, masks_in_original, sides, suppress
from resdet.export.verify import compare_results
from resdet.ops.rle import decode

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def found(mask_rcnn):
    return onnx_model.load(mask_rcnn.path)


def test_predictions_match_the_checkpoint(mask_rcnn, found):
    """Uses an image that needs no padding: its short side is resized to 64, its long side to a multiple of 32."""
    image = picture(128, 192)
    (expected,), (ours,) = mask_rcnn.model.predict([image], 0.1), found.predict([image], 0.1)
    agrees, note = compare_results(expected, ours)
    assert agrees and len(expected), note
    assert ours.size == (128, 192) and ours.masks.shape[1:] == (128, 192) and ours.image is image
    assert set(ours.names) <= set(mask_rcnn.model.classes)
    assert len(ours.to_coco(7)) == len(ours)
    assert len(found.predict([image])[0]) == len(mask_rcnn.model.predict([image])[0])


def test_a_copy_shares_the_runtime(classifier):
    model = onnx_model.load(classifier.path)
    copied = copy.deepcopy(model)
    assert copied.runtime is model.runtime and copied is not model
    assert copied.predict(picture(40, 40)).names == model.predict(picture(40, 40)).names


@pytest.mark.parametrize("size", [(50, 40), (40, 50), (300, 200), (200, 900), (1, 1), (3, 700)])
def test_images_are_resized_and_padded_to_the_shape(found, size):
    """Checks that the resized image fills the upper left corner up to the shape, and that boxes are scaled back."""
    images, originals = found.prepare([picture(*size)])
    assert images.pixels.shape == (1, 3, *SHAPE) and originals == [size]
    height, width = images.sizes[0].int().tolist()
    assert height <= SHAPE[0] and width <= SHAPE[1]
    assert not images.pixels[0, :, height:].any() and not images.pixels[0, :, :, width:].any()
    if min(size) > 10:
        assert height / width == pytest.approx(size[0] / size[1], rel=0.1)
        assert height == SHAPE[0] or width == SHAPE[1]  # the trained short side is at least 64
    (result,) = found.predict([picture(*size)], 0.0)
    assert result.size == size and len(result) and result.masks.shape == (len(result), *size)
    assert (result.boxes >= 0).all() and (result.boxes <= np.array(size[::-1] * 2) + 1e-3).all()


def test_sides_are_limited_by_the_exported_shape():
    wanted = InputConfig(min_size=60, max_size=100)
    assert sides(120, 120, wanted, (64, 96)) == (60, 100)
    assert sides(200, 100, wanted, (64, 96)) == (48, 96)  # a width of 100 would exceed the shape
    assert sides(100, 200, wanted, (64, 96)) == (32, 64)  # a portrait image in a landscape shape
    assert sides(20, 47, wanted, (96, 96)) == (41, 96)  # 96 / 47 * 47 is less than 96 in floating point


def test_masks_pasted_in_the_graph_match_python(pasting):
    """Compares the masks with those pasted in Python, on an image of the exported shape."""
    found, image = onnx_model.load(pasting.path), picture(*SHAPE)
    (expected,), (ours,) = pasting.model.predict([image], 0.0), found.predict([image], 0.0)
    assert np.allclose(ours.boxes, expected.boxes, atol=1e-2) and np.array_equal(ours.labels, expected.labels)
    assert (ours.masks != expected.masks).mean() < 1e-4 and expected.masks.any()
    (larger,) = found.predict([image.repeat(2, 0).repeat(2, 1)], 0.0)
    assert larger.masks.shape[1:] == (2 * SHAPE[0], 2 * SHAPE[1])
    (fewer,) = found.predict([image], float(np.median(ours.scores)))
    assert 0 < len(fewer) < len(ours) and len(fewer.rles) == len(fewer)


def test_masks_pasted_in_the_graph_are_cut_to_the_image():
    """Scales a mask of an image of 4 x 6 pixels, padded to 8 x 8, to the double size."""
    mask = torch.zeros(1, 8, 8)
    mask[0, :2, :6] = 1
    (rle,) = masks_in_original(mask, (4, 6), (8, 12))
    expected = np.zeros((8, 12), bool)
    expected[:4] = True
    assert np.array_equal(decode(rle), expected)


def test_classifications_match_the_checkpoint(classifier):
    images = [picture(50, 70), picture(32, 32, 1), picture(40, 33, 2)]
    found = onnx_model.load(classifier.path)
    for ours, expected in zip(found.predict(images, 3), classifier.model.predict(images, 3), strict=True):
        assert ours.names == expected.names and ours.labels.tolist() == expected.labels.tolist()
        assert np.allclose(ours.scores, expected.scores, atol=1e-6)
        assert ours.image is expected.image is not None


def test_resdet_predict_accepts_exported_files(mask_rcnn, classifier, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "mine.png"), picture(*SHAPE))
    program = Program([str(mask_rcnn.path)], score=0.1)
    predict(program, [str(tmp_path)], tmp_path / "rows.json", tmp_path / "drawn")
    (expected,) = onnx_model.load(mask_rcnn.path).predict([tmp_path / "mine.png"], 0.1)
    assert capsys.readouterr().out == f"{expected}\n" and len(list((tmp_path / "drawn").iterdir())) == 1
    assert json.loads((tmp_path / "rows.json").read_text()) == [expected.to_dict()]
    predict(Program([str(classifier.path)], top=2), [str(tmp_path / "mine.png")])
    assert "mine.png: class" in capsys.readouterr().out


def test_invalid_files_and_foreign_models_are_rejected(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"not a model")
    with pytest.raises(WeightsError, match="nowhere.onnx: no such file"):
        onnx_model.load(tmp_path / "nowhere.onnx")
    with pytest.raises(WeightsError, match="a.onnx is not a valid ONNX file"):
        onnx_model.load(tmp_path / "a.onnx")
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "another's", [x], [y])
    opset = onnx.helper.make_opsetid("", 18)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10), tmp_path / "b.onnx")
    with pytest.raises(WeightsError, match="b.onnx was not exported by resdet"):
        onnx_model.load(tmp_path / "b.onnx")


def test_a_missing_runtime_is_reported(monkeypatch, mask_rcnn):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(Error, match="pip install onnxruntime$"):
        onnx_model.load(mask_rcnn.path)


@pytest.mark.parametrize("family", ["fpn", "cascade"], ids=["a box for each class", "one for all"])
def test_nms_outside_matches_nms_inside(family):
    model, images = detector(family, False), batch(2)
    with torch.no_grad():
        boxes, scores = graph_of(model, Form(SHAPE, nms="outside"))(*images)
        expected = model.detect(images, 0.1)[0]
    assert boxes.shape[2] == (3 if family == "fpn" else 1)
    box = model.roi_heads.config
    found = suppress(boxes, scores, 0.1, box.candidates, box.nms, box.detections)
    assert expected.valid.any() and torch.equal(found.valid, expected.valid)
    for ours, theirs in zip(found, expected):
        assert torch.allclose(ours[expected.valid], theirs[expected.valid], atol=1e-4)


def test_padded_proposals_are_never_detections():
    """The graph gives invalid detections a score of 0."""
    boxes = torch.tensor([[[[0.0, 0.0, 9.0, 9.0]], [[20.0, 20.0, 29.0, 29.0]]]])
    found = suppress(boxes, torch.tensor([[[0.5], [0.0]]]), 0.0, 2, 0.5, 2)
    assert found.valid.tolist() == [[True, False]]


def test_an_exported_file_is_evaluated_on_the_data_of_its_config(classifier):
    """The metadata of the file contains the config of its checkpoint."""
    metrics = evaluate([str(classifier.path)], overrides=["data.val_images=20"])
    assert 0 <= metrics["error"] <= 1 and metrics.keys() == {"loss", "error", "top5_error"}


def test_an_exported_file_of_another_class_is_rejected(classifier):
    assert resdet.load(classifier.path, expect=ExportedClassifier).exported
    with pytest.raises(ConfigError, match="is of class ExportedClassifier, not Detector"):
        resdet.load(classifier.path, expect=resdet.detection.Detector)


def test_an_exported_classifier_for_a_localizer_is_rejected_in_fast_mode(classifier, tmp_path):
    localizer = resdet.build("imagenet_loc_r101.yaml", "model.backbone=cifar_resnet8", "model.num_classes=10")
    resdet.weights.save(localizer, tmp_path / "localizer.safetensors", "safetensors")
    with pytest.raises(ConfigError, match="model.onnx is not a classifier with the localizer's 10 classes"):
        evaluate([str(tmp_path / "localizer.safetensors")], classifiers=[str(classifier.path)], mode="fast")
