"""Tests whole models in onnxruntime against the originals, their metadata, and the rejection of unsupported exports."""

import copy
import dataclasses
import json

import pytest
import torch
from export.small import KEYPOINTS, SHAPE, assert_agrees, batch, detector, picture

from resdet.detection.inference.predictor import results_of
from resdet.errors import ConfigError, Error
from resdet.export import Form, onnx_model, to_onnx
from resdet.export.verify import compare_results, exact

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")


def check(model, path, count: int = 1) -> None:
    assert_agrees(model, onnx_model.load(path), count)


def test_mask_rcnn_matches_the_model(mask_rcnn):
    check(*mask_rcnn)


def test_mask_rcnn_c4_matches_the_model(pasting):
    check(*pasting)


def test_keypoints_match_the_model(tmp_path):
    model = detector("fpn", True, KEYPOINTS)
    to_onnx(model, tmp_path / "model.onnx", Form(SHAPE, masks="inside", dynamic_batch=True))
    exported = onnx_model.load(tmp_path / "model.onnx")
    assert_agrees(model, exported, 2)
    result = exported.predict(picture(*SHAPE), 0.0)
    assert result.keypoint_names == ["left", "right", "top"] and result.skeleton == [(0, 1), (1, 2)]
    assert result.rles is not None and result.keypoints.shape == (len(result), 3, 3)


SLOW = [
    ("dc5", False, [KEYPOINTS, "model.input.resize=torchvision"], Form(SHAPE)),
    ("cascade", False, ["model.box.sampling=0"], Form(SHAPE, nms="outside")),
    ("dc5", True, ["model.input.resize=torchvision"], Form(SHAPE, masks="inside")),
    ("fpn", False, ["model.rpn.anchors.style=torchvision", "model.box.aligned=false"], Form(SHAPE, nms="outside")),
    ("cascade", True, ["model.neck.norm=gn", "model.input.resize=pillow"], Form(SHAPE)),
    ("mnc", True, [], Form(SHAPE)),
]


@pytest.mark.slow
@pytest.mark.parametrize("family, masks, overrides, form", SLOW)
def test_detectors_of_each_family_match_the_model(family, masks, overrides, form, tmp_path):
    model = detector(family, masks, *overrides)
    to_onnx(model, tmp_path / "model.onnx", form)
    check(model, tmp_path / "model.onnx")


def test_a_cascade_with_nms_outside_and_dynamic_batch(tmp_path):
    model = detector("cascade", False, "model.box.ious=[0.5, 0.6]")
    to_onnx(model, tmp_path / "model.onnx", Form(SHAPE, nms="outside", dynamic_batch=True))
    for count in (1, 3):
        check(model, tmp_path / "model.onnx", count)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["fpn", "c4", "cascade"])
def test_detectors_with_dynamic_batch(family, tmp_path):
    model = detector(family, True)
    to_onnx(model, tmp_path / "model.onnx", Form(SHAPE, dynamic_batch=True))
    for count in (1, 3):
        check(model, tmp_path / "model.onnx", count)


def test_a_classifier_takes_any_number_of_images(classifier):
    images = torch.randint(256, (5, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = onnx_model.load(classifier.path)
    for count in (1, 5):
        with torch.inference_mode():
            expected = classifier.model(images[:count])
        assert torch.allclose(found(images[:count]), expected, atol=1e-5)


def test_metadata_and_ports_of_the_file(mask_rcnn):
    """Reads the metadata, inputs and outputs with the onnx package."""
    file = onnx.load(mask_rcnn.path)
    onnx.checker.check_model(file)
    told = {entry.key: json.loads(entry.value) for entry in file.metadata_props if entry.key.startswith("resdet.")}
    model = mask_rcnn.model
    assert told["resdet.classes"] == model.classes and told["resdet.category_ids"] == model.category_ids
    assert told["resdet.input"] == dataclasses.asdict(model.input) and told["resdet.shape"] == list(SHAPE)
    assert told["resdet.score"] == model.score and told["resdet.experiment"] == model.experiment
    dims = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim] for value in file.graph.output}
    assert dims["boxes"] == [1, 100, 4] and dims["masks"] == [1, 100, 28, 28] and dims["valid"] == [1, 100]
    assert [value.name for value in file.graph.input] == ["images", "sizes", "score"]
    domains = {node.domain for node in file.graph.node}
    assert domains <= {"", "ai.onnx"}  # no custom operators


def test_the_score_threshold_is_an_optional_input(mask_rcnn):
    images = batch()
    given = {"images": images.pixels.contiguous().numpy(), "sizes": images.sizes.numpy()}
    session = onnx_model.load(mask_rcnn.path).runtime.session
    valid = session.run(["valid"], given)[0]
    with torch.inference_mode():
        assert valid.sum() == mask_rcnn.model(images).valid.sum()
    assert session.run(["valid"], given | {"score": torch.tensor(0.9999).numpy()})[0].sum() == 0


def test_unsupported_exports_are_rejected(tmp_path, classifier):
    with pytest.raises(ConfigError, match="multiples of 32, such as 128x96"):
        to_onnx(detector("c4", False), tmp_path / "a.onnx", Form((100, 96)))
    with pytest.raises(ConfigError, match="use --nms inside"):
        to_onnx(detector("c4", True), tmp_path / "a.onnx", Form(SHAPE, nms="outside"))
    with pytest.raises(ConfigError, match="use --nms inside"):
        to_onnx(detector("fpn", False, KEYPOINTS), tmp_path / "a.onnx", Form(SHAPE, nms="outside"))
    with pytest.raises(ConfigError, match="only takes 32x32"):
        to_onnx(classifier.model, tmp_path / "a.onnx", Form(SHAPE))
    with pytest.raises(Error, match="A Linear cannot be exported"):
        to_onnx(torch.nn.Linear(1, 1), tmp_path / "a.onnx")
    with pytest.raises(ConfigError, match=r"computes in torch\.bfloat16: load it in exact mode"):
        to_onnx(copy.deepcopy(classifier.model).bfloat16(), tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def test_missing_packages_are_reported(monkeypatch, tmp_path, classifier):
    monkeypatch.setattr("resdet.export.onnx.find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(Error, match=r"pip install onnxscript\.$"):
        to_onnx(classifier.model, tmp_path / "a.onnx")


@pytest.mark.slow
def test_resnet50_with_a_hundred_detections(tmp_path):
    """Uses random weights of the scale of trained ones, with torchvision's settings."""
    from resdet.bench.detection import sample_image, twins

    _, model = twins(True, 320, 416, "resnet50")
    to_onnx(model, tmp_path / "model.onnx", Form((320, 416)))
    found = onnx_model.load(tmp_path / "model.onnx")
    images, sizes = found.prepare([sample_image(320, 416)])
    with torch.inference_mode():
        (expected,) = results_of(exact(model), images, sizes, 0.05)
    agrees, note = compare_results(expected, found.results_of(images, sizes, 0.05)[0])
    assert agrees and len(expected) == 100, note
