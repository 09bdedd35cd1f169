"""Tests the arguments of `resdet.load` and `resdet.build`."""

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


def test_overrides_of_an_experiment():
    experiment = resdet.config.load("shapes_resnet20", *SMALL)
    assert len(resdet.build(experiment, "model.num_classes=3").classes) == 3
    assert len(resdet.build(experiment).classes) == 2
    assert len(resdet.open_data(experiment, "val", "data.val_images=7")) == 7
    with pytest.raises(ConfigError, match="there is no key model.clases"):
        resdet.build(experiment, "model.clases=3")


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
