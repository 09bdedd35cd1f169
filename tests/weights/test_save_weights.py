"""Checks that other libraries load saved files, that reading them back is exact, and that no file is half written."""

import errno

import pytest
import torch

from resdet import weights
from resdet.backbones import create
from resdet.backbones.complexity import on_paper
from resdet.errors import FileError, WeightsError
from resdet.fast import accelerate
from resdet.weights import save_weights
from resdet.weights.layouts import torchvision_classifiers
from resdet.weights.load_weights import as_checkpoint

models = pytest.importorskip("torchvision").models


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_round_trip_through_torchvision_is_exact(tmp_path, name):
    source = getattr(models, name)(num_classes=7)
    torch.save(source.state_dict(), tmp_path / "theirs.pth")
    net = create(name, 7)
    weights.load(net, tmp_path / "theirs.pth")
    weights.save(net, tmp_path / "ours.pth", layout="torchvision")
    written = torch.load(tmp_path / "ours.pth", weights_only=True)
    getattr(models, name)(num_classes=7).load_state_dict(written, strict=True)
    assert same(written, source.state_dict())
    again = create(name, 7)
    assert weights.load(again, tmp_path / "ours.pth").problems() == {}
    assert same(again.state_dict(), net.state_dict())


@pytest.mark.parametrize(
    "name, options, theirs",
    [
        ("resnet152", {}, "resnet152"),
        ("vgg16", {}, "vgg16"),
        ("vgg19", {}, "vgg19"),
        ("vgg16", {"norm": "bn"}, "vgg16_bn"),
        ("vgg19", {"norm": "bn"}, "vgg19_bn"),
    ],
)
def test_names_and_shapes_match_torchvision(name, options, theirs):
    with torch.device("meta"):
        expected = getattr(models, theirs)().state_dict()
    written = torchvision_classifiers.from_our_names(on_paper(name, 1000, **options), "torchvision")
    assert {n: t.shape for n, t in written.items()} == {n: t.shape for n, t in expected.items()}


@pytest.mark.parametrize("file", ["ours.pth", "ours.safetensors"])
def test_timm_loads_saved_files(tmp_path, file):
    timm = pytest.importorskip("timm")
    net = create("resnet18", 7)
    weights.save(net, tmp_path / file, layout="timm")
    theirs = timm.create_model("resnet18", num_classes=7, checkpoint_path=str(tmp_path / file))
    assert torch.equal(theirs.layer4[1].conv2.weight, net.conv5_x[1].conv2.conv.weight)
    assert torch.equal(theirs.fc.bias, net.fc.bias)


@pytest.mark.parametrize(
    "name, options, theirs",
    [
        *[(f"resnet{depth}", {}, f"resnet{depth}") for depth in (34, 50, 152)],
        ("vgg16", {}, "vgg16"),
        ("vgg19", {"norm": "bn"}, "vgg19_bn"),
    ],
)
def test_names_and_shapes_match_timm(name, options, theirs):
    """Compares names and shapes with timm's, whose VGGs store fc6 and fc7 as convolutions, and loads them back."""
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        expected = timm.create_model(theirs, num_classes=7).state_dict()
    net = on_paper(name, 7, **options)
    written = torchvision_classifiers.from_our_names(net, "timm")
    assert {n: t.shape for n, t in written.items()} == {n: t.shape for n, t in expected.items()}
    assert weights.load(on_paper(name, 7, **options), written).problems() == {}
    layout = weights.recognize(as_checkpoint(written))
    found = layout.settings(written, "a test")
    assert found["backbone"]["name"] == name and found["num_classes"] == 7


def test_timm_convolutions_become_linear_layers_exactly():
    linear = torch.arange(512 * 49.0 * 2).reshape(2, -1)
    state = {"pre_logits.fc1.weight": linear.unflatten(1, (512, 7, 7))}
    state |= {f"features.{n}.weight": torch.zeros(1, 1, 3, 3) for n in range(13)}
    assert torch.equal(torchvision_classifiers.vgg_to_our_names(state)["fc6.weight"], linear)


def test_torchvision_loads_a_net_with_frozen_norms(tmp_path):
    weights.save(create("resnet18", 7, norm="frozen"), tmp_path / "ours.pth")
    models.resnet18(num_classes=7).load_state_dict(torch.load(tmp_path / "ours.pth", weights_only=True), strict=True)


def test_safetensors_round_trip_of_any_net_in_any_memory_format(tmp_path):
    from safetensors.torch import load_file

    net = create("cifar_plain20", 10).to(memory_format=torch.channels_last)
    weights.save(net, tmp_path / "net.safetensors", layout="safetensors")
    assert same(load_file(tmp_path / "net.safetensors"), net.state_dict())
    again = create("cifar_plain20", 10)
    weights.load(again, tmp_path / "net.safetensors")
    assert same(again.state_dict(), net.state_dict())


def test_a_whole_model_is_saved_as_its_backbone(tmp_path):
    import resdet

    model = resdet.build("shapes_resnet20.yaml", "model.backbone=resnet18")
    weights.save(model, tmp_path / "net.pth")
    models.resnet18(num_classes=10).load_state_dict(torch.load(tmp_path / "net.pth", weights_only=True), strict=True)


@pytest.mark.parametrize(
    "name, options",
    [
        ("cifar_resnet20", {}),
        ("plain18", {}),
        ("resnet18", {"shortcut": "A"}),
        ("resnet18", {"shortcut": "C"}),
        ("resnet50", {"stride_in": "1x1"}),
    ],
)
def test_nets_unknown_to_torchvision_are_not_written(tmp_path, name, options):
    """Refuses nets that torchvision cannot load or would compute differently."""
    with pytest.raises(WeightsError):
        weights.save(create(name, 7, **options), tmp_path / "net.pth", layout="torchvision")
    assert not (tmp_path / "net.pth").exists()


def whole_model(*overrides: str):
    """Builds a classifier with custom classes and pixel statistics."""
    import resdet

    model = resdet.build("imagenet_r18", "model.backbone.shortcut=B", "model.num_classes=3", *overrides)
    model.classes = ["ant", "bee", "cow"]
    model.normalize.set(torch.tensor([100.0, 110.5, 120.1]), torch.tensor([50.0, 60.0, 70.7]))
    return model.eval()


@pytest.mark.parametrize(
    "layout, file",
    [
        ("torchvision", "a.pth"),
        ("torchvision", "a.safetensors"),
        ("timm", "a.pth"),
        ("detectron2", "a.pth"),
        ("detectron2", "a.pkl"),
        ("safetensors", "a.safetensors"),
    ],
)
def test_round_trip_of_a_model_in_any_layout(tmp_path, layout, file):
    """Compares weights and pixel statistics bitwise, classes and config."""
    import resdet

    model = whole_model()
    weights.save(model, tmp_path / file, layout)
    again = resdet.load(tmp_path / file)
    assert again.classes == model.classes and again.experiment == model.experiment
    expected = {n: t for n, t in model.state_dict().items() if not n.endswith("num_batches_tracked")}
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in expected.items())


@pytest.mark.parametrize("layout", save_weights.LAYOUTS)
def test_a_model_in_fast_mode_is_refused(tmp_path, layout):
    model = accelerate(whole_model())
    with pytest.raises(WeightsError, match="A model in fast mode has no norms to save: load it with mode='exact'"):
        weights.save(model, tmp_path / "a.pth", layout)
    assert not any(tmp_path.iterdir())


def test_torchvision_loads_the_file_of_a_whole_model(tmp_path):
    weights.save(whole_model(), tmp_path / "a.pth", "torchvision")
    models.resnet18(num_classes=3).load_state_dict(torch.load(tmp_path / "a.pth"), strict=True)


def test_a_detectron2_pickle_contains_only_arrays(tmp_path):
    import pickle

    model = whole_model()
    weights.save(model, tmp_path / "a.pkl", "detectron2")
    content = pickle.loads((tmp_path / "a.pkl").read_bytes())
    assert "__author__" in content  # without it, detectron2's checkpointer matches names heuristically
    kernel = content["model"]["stem.conv1.weight"]
    assert type(kernel).__name__ == "ndarray" and (kernel == model.backbone.conv1.conv.weight.detach().numpy()).all()


def test_timm_has_no_detectors(tmp_path):
    from detection.heads import twins

    with pytest.raises(WeightsError, match="timm has no detectors"):
        weights.save(twins.ours(twins.narrow()), tmp_path / "a.pth", "timm")


@pytest.mark.parametrize("layout, file", [("torchvision", "a.pth"), ("safetensors", "a.safetensors")])
def test_round_trip_of_a_detector(tmp_path, layout, file):
    from detection.heads import twins

    import resdet

    model = twins.ours(twins.narrow(masks=True))
    model.classes, model.category_ids = list("abcdef"), [3, 5, 7, 9, 11, 13]
    model.normalize.set(torch.tensor([123.68, 116.779, 103.939]), torch.ones(3))
    weights.save(model, tmp_path / file, layout)
    again = resdet.load(tmp_path / file)
    assert again.classes == model.classes and again.category_ids == model.category_ids
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_an_unknown_layout_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="torchvision, timm"):
        weights.save(create("cifar_resnet20", 7), tmp_path / "net.pth", layout="caffe3")


def test_an_interrupted_save_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "net.pth"
    path.write_bytes(b"the old file")

    def full_disk(state, target):
        target.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(FileError, match="the old file is kept"):
        weights.save(create("resnet18", 7), path)
    assert path.read_bytes() == b"the old file" and list(tmp_path.iterdir()) == [path]


def test_a_save_replaces_the_old_file_and_makes_the_folder(tmp_path):
    path = tmp_path / "new" / "net.safetensors"
    for classes in (7, 9):
        weights.save(create("cifar_resnet20", classes), path, layout="safetensors")
    assert weights.read(path).state["fc.bias"].shape == (9,)
    assert list(path.parent.iterdir()) == [path]
