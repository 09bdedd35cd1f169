"""Tests models built from configs, and trained models loaded from files."""

import numpy as np
import pytest
import torch

import resdet
from resdet import config
from resdet.classification.build import build_classifier
from resdet.errors import ConfigError, WeightsError
from resdet.files.atomic import write_torch


def trained(classes: list[str], *overrides: str):
    """Returns a classifier whose norms, weights and per-pixel mean differ from a new one's."""
    torch.manual_seed(0)
    count = f"model.num_classes={len(classes)}"
    experiment = config.load("shapes_resnet20.yaml", "model.backbone=cifar_resnet8", count, *overrides)
    model = build_classifier(experiment, classes, torch.rand(3, 32, 32) * 255, torch.tensor([50.0, 60.0, 70.0]))
    model.train()(images())
    return model.eval()


def images() -> torch.Tensor:
    return torch.randint(0, 256, (4, 3, 32, 32), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def save(model, path, /, **changes):
    content = {"model": model.state_dict(), "experiment": model.experiment, "classes": model.classes}
    write_torch(path, {**content, "step": 10, "figures": {"top1": 0.5}, **changes})


def test_test_crops_may_be_larger_than_training_crops():
    """torchvision's V2 recipe trains on 176 pixels and tests on 224-pixel crops at a short side of 232."""
    with torch.device("meta"):
        model = resdet.build("imagenet_r50_modern.yaml", "model.num_classes=10")
    assert (model.size, model.short) == (224, 232) and model.experiment["data"]["size"] == 176
    with pytest.raises(ConfigError, match="data.test_size is 240 and data.short 232"):
        config.load("imagenet_r50_modern.yaml", "data.test_size=240")


@pytest.mark.parametrize(
    ("size", "test_size", "short"), [("64", "null", 73), ("224", "null", 256), ("224", "300", 343), ("224", "96", 256)]
)
def test_the_center_crop_of_a_folder_shows_most_of_the_image_at_any_size(size, test_size, short):
    overrides = f"data.size={size}", f"data.test_size={test_size}"
    with torch.device("meta"):
        model = resdet.build("folder.yaml", "model.backbone=resnet18", "model.num_classes=2", *overrides)
    assert (model.size, model.short) == (int(size if test_size == "null" else test_size), short)


def test_a_checkpoint_restores_the_model(tmp_path):
    model = trained(["dog", "cat", "emu"], "model.label_smoothing=0.1")
    save(model, tmp_path / "best.pth")
    loaded = resdet.load(tmp_path / "best.pth")
    assert not loaded.training and loaded.classes == ["dog", "cat", "emu"] and loaded.label_smoothing == 0.1
    assert loaded.experiment == model.experiment and (loaded.size, loaded.short) == (32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(images()), model(images()))
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    (result,) = loaded.predict([picture], top=1)
    with torch.no_grad():
        scores = model(torch.from_numpy(picture).permute(2, 0, 1)[None]).softmax(1)[0]
    assert result.names == [model.classes[scores.argmax()]]
    assert result.scores[0] == pytest.approx(scores.max().item(), abs=1e-6)


def test_checkpoints_keep_the_crop_of_the_data_set(tmp_path):
    model = trained(["a", "b"], "data=shapes", "data.size=48", "data.short=64")
    save(model, tmp_path / "best.pth")
    loaded = resdet.load(tmp_path / "best.pth")
    assert (loaded.size, loaded.short) == (48, 64)


def test_a_checkpoint_that_does_not_fit_its_config_is_refused(tmp_path):
    model = trained(["a", "b"])
    state = model.state_dict()
    del state["backbone.conv1.conv.weight"]
    save(model, tmp_path / "best.pth", model=state)
    with pytest.raises(WeightsError, match=r"best\.pth.*not in the file: conv1\.conv\.weight \[16, 3, 3, 3\]"):
        resdet.load(tmp_path / "best.pth")


def test_a_checkpoint_with_an_unknown_config_key_is_refused(tmp_path):
    model = trained(["a", "b"])
    model.experiment["optim"]["warp"] = 9
    save(model, tmp_path / "best.pth")
    with pytest.raises(ConfigError, match=r"best\.pth: there is no key optim\.warp"):
        resdet.load(tmp_path / "best.pth")


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_torchvision_files_become_models_with_imagenet_classes(tmp_path, name):
    models = pytest.importorskip("torchvision").models
    torch.manual_seed(0)
    theirs = getattr(models, name)().eval()
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    model = resdet.load(tmp_path / "theirs.pth")
    assert model.classes == models.get_model_weights(name).IMAGENET1K_V1.meta["categories"]
    preset = models.get_model_weights(name).IMAGENET1K_V1.transforms()
    assert [model.size] == preset.crop_size and [model.short] == preset.resize_size
    pixels = images()
    mean, std = (torch.tensor(values)[:, None, None] for values in (preset.mean, preset.std))
    with torch.no_grad():
        expected = theirs((pixels / 255 - mean) / std)
        assert (model(pixels) - expected).abs().max() < 1e-4 * expected.abs().max()


def test_files_with_other_classes_have_numbers_as_names(tmp_path):
    models = pytest.importorskip("torchvision").models
    torch.save({"state_dict": models.resnet18(num_classes=3).state_dict()}, tmp_path / "theirs.pth")
    assert resdet.load(tmp_path / "theirs.pth").classes == ["0", "1", "2"]


def test_files_of_an_unknown_model_are_refused(tmp_path):
    model = trained(["a", "b"])
    resdet.weights.save(model.backbone, tmp_path / "net.safetensors", layout="safetensors")
    with pytest.raises(WeightsError, match="net.safetensors.*resdet.weights.load"):
        resdet.load(tmp_path / "net.safetensors")
    with pytest.raises(WeightsError, match="no such file"):
        resdet.load(tmp_path / "nowhere.pth")


def test_building_from_a_name_and_from_an_experiment():
    model = resdet.build("shapes_resnet20.yaml", "model.num_classes=20", "model.backbone=cifar_plain8")
    assert model.backbone.fc.out_features == len(model.classes) == 20
    experiment = config.load("shapes_resnet20", "model.num_classes=4")
    built = resdet.build(experiment)
    assert built.classes == ["0", "1", "2", "3"]
    assert config.from_dict(built.experiment) == experiment


def test_building_needs_a_number_of_classes():
    with pytest.raises(ConfigError, match="model.num_classes"):
        resdet.build("shapes_resnet20.yaml", "model.num_classes=null")


def test_the_number_of_classes_must_match_the_config():
    experiment = config.load("shapes_resnet20.yaml")
    with pytest.raises(ConfigError, match="model.num_classes is 10 and the data has 2 classes"):
        build_classifier(experiment, ["a", "b"])


def test_safetensors_hold_the_whole_model(tmp_path):
    model = trained(["a", "b"])
    resdet.weights.save(model, tmp_path / "model.safetensors", layout="safetensors")
    loaded = resdet.load(tmp_path / "model.safetensors")
    assert loaded.classes == ["a", "b"] and loaded.experiment == model.experiment
    with torch.no_grad():
        assert torch.equal(loaded(images()), model(images()))


def test_frozen_stages_are_not_trained_but_saved(tmp_path):
    """Freezes two of four stages of a CIFAR model: the stem and conv2_x."""
    model = trained(["a", "b"], "model.freeze_stages=2")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    sum(model.train().losses(images(), torch.tensor([0, 1, 0, 1])).values()).backward()
    optimizer.step()
    changed = {
        name.split(".")[1] for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])
    }
    assert changed == {"conv3_x", "conv4_x", "fc"}
    save(model.eval(), tmp_path / "best.pth")
    with torch.no_grad():
        assert torch.equal(resdet.load(tmp_path / "best.pth")(images()), model(images()))


def test_frozen_models_convert_to_torchvision():
    from torchvision.models import resnet18

    from resdet.weights.layouts.torchvision_classifiers import from_our_names

    model = resdet.build("imagenet_r18", "model.backbone.shortcut=B", "model.num_classes=3", "model.freeze_stages=2")
    resnet18(num_classes=3).load_state_dict(from_our_names(model, "torchvision"))
