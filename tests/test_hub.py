"""Tests the `expect` argument of `resdet.load` and `resdet.build`, and the refusal to compile exported files."""

import pytest

import resdet
from resdet.classification import Classifier
from resdet.detection import Detector
from resdet.errors import ConfigError

SMALL = ["model.backbone=cifar_resnet8", "model.num_classes=2"]


def test_a_model_of_the_expected_class_is_returned(tmp_path):
    model = resdet.build("shapes_resnet20", *SMALL, expect=Classifier)
    resdet.weights.save(model, tmp_path / "a.safetensors", "safetensors")
    assert type(resdet.load(tmp_path / "a.safetensors", expect=Classifier)) is Classifier


def test_another_model_is_refused(tmp_path):
    model = resdet.build("shapes_resnet20", *SMALL)
    resdet.weights.save(model, tmp_path / "a.safetensors", "safetensors")
    with pytest.raises(ConfigError, match="a.safetensors: the model is of class Classifier, not Detector"):
        resdet.load(tmp_path / "a.safetensors", expect=Detector)
    with pytest.raises(ConfigError, match="shapes_resnet20: the model is of class Classifier, not Detector"):
        resdet.build("shapes_resnet20", *SMALL, expect=Detector)


@pytest.mark.parametrize("name", ["model.onnx", "model.xml"])
def test_exported_files_are_not_compiled(name):
    with pytest.raises(ConfigError, match="leave out compile=True"):
        resdet.load(name, mode="fast", compile=True)
