"""Saving: other libraries load what we write, we read it back bit by bit, and no file is ever half written."""

import pytest
import torch

from resdet import weights
from resdet.backbones import create
from resdet.backbones.counting import on_paper
from resdet.errors import WeightsError
from resdet.weights import saving

models = pytest.importorskip("torchvision").models


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_torchvision_loads_what_is_saved_and_it_comes_back_bit_by_bit(tmp_path, name):
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
def test_names_and_shapes_are_torchvisions(name, options, theirs):
    with torch.device("meta"):
        expected = getattr(models, theirs)().state_dict()
    written = saving.to_torchvision(on_paper(name, 1000, **options).state_dict())
    assert {n: t.shape for n, t in written.items()} == {n: t.shape for n, t in expected.items()}


def test_timm_loads_what_is_saved(tmp_path):
    timm = pytest.importorskip("timm")
    weights.save(create("resnet18", 7), tmp_path / "ours.pth", layout="timm")
    written = torch.load(tmp_path / "ours.pth", weights_only=True)
    timm.create_model("resnet18", num_classes=7).load_state_dict(written, strict=True)


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
def test_nets_that_torchvision_does_not_have_are_not_written_as_if_it_had(tmp_path, name, options):
    """A file that no torchvision net loads, or loads and computes something else from, is worse than none."""
    with pytest.raises(WeightsError):
        weights.save(create(name, 7, **options), tmp_path / "net.pth", layout="torchvision")
    assert not (tmp_path / "net.pth").exists()


def test_an_unknown_layout_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="torchvision, timm"):
        weights.save(create("cifar_resnet20", 7), tmp_path / "net.pth", layout="caffe3")


def test_an_interrupted_save_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "net.pth"
    path.write_bytes(b"the old file")

    def full_disk(state, target):
        target.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError):
        weights.save(create("resnet18", 7), path)
    assert path.read_bytes() == b"the old file" and list(tmp_path.iterdir()) == [path]


def test_a_save_replaces_the_old_file_and_makes_the_folder(tmp_path):
    path = tmp_path / "new" / "net.safetensors"
    for classes in (7, 9):
        weights.save(create("cifar_resnet20", classes), path, layout="safetensors")
    assert weights.read(path).state["fc.bias"].shape == (9,)
    assert list(path.parent.iterdir()) == [path]
