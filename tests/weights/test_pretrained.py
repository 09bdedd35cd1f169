"""Checks ImageNet weights given by name: they are downloaded once and verified, or the error names their path."""

import pytest
import torch
import torchvision

import resdet
from resdet.errors import ConfigError, DownloadError, WeightsError
from resdet.weights import pretrained

DETECTOR = ("shapes_mask_r18_fpn.yaml", "model.num_classes=3", "model.mask=null", "model.neck.width=16")


def test_weights_are_downloaded_once(published, resnet18):
    for _ in range(2):
        model = resdet.build(*DETECTOR)
        report = pretrained.load(model, "torchvision", "resnet18")
        assert torch.equal(model.backbone.conv1.conv.weight, resnet18.conv1.weight)
        assert torch.equal(model.backbone.conv5_x[1].conv2.conv.weight, resnet18.layer4[1].conv2.weight)
        assert report.loaded == len([n for n in resnet18.state_dict() if not n.startswith("fc")])
    assert published.asked == [f"/{resnet18.file}"]


def test_a_wrong_checksum_is_refused(published, resnet18, tmp_path):
    (published.folder / resnet18.file).write_bytes(b"other weights")
    with pytest.raises(DownloadError, match="not the published file"):
        pretrained.fetch_torchvision("resnet18")
    assert not (tmp_path / "cache/weights" / resnet18.file).exists()


def test_a_failed_download_names_the_path(published, resnet18, tmp_path):
    """Checks that the error names the path for a manual download, and that a file at this path is used."""
    place = tmp_path / "cache/weights" / resnet18.file
    moved = (published.folder / resnet18.file).rename(tmp_path / "elsewhere.pth")
    with pytest.raises(DownloadError, match=f"manually to {place}"):
        pretrained.load(resdet.build(*DETECTOR), "torchvision", "resnet18")
    moved.rename(place)
    pretrained.load(resdet.build(*DETECTOR), "torchvision", "resnet18")


def test_weights_unknown_to_torchvision_are_an_error():
    with pytest.raises(ConfigError, match="model.pretrained.*plain18"):
        pretrained.fetch_torchvision("plain18")


def test_conv5_in_the_box_head_is_loaded(resnet18):
    sizes = "model.rpn.anchors.sizes=[[16, 32, 64]]"
    model = resdet.build(*DETECTOR[:-1], "model.features=c4", sizes)
    report = pretrained.load(model, "torchvision", "resnet18")
    assert report.loaded == len([n for n in resnet18.state_dict() if not n.startswith("fc")]) and not report.missing
    loaded = {tensor.data_ptr() for tensor in model.backbone_tensors().values()}
    head = dict(model.roi_heads.stages[0].head.named_parameters())
    assert len(head) == 15 and all(tensor.data_ptr() in loaded for tensor in head.values())
    wanted = resnet18.layer4[1].conv2.weight
    assert any(torch.equal(tensor, wanted) for tensor in head.values() if tensor.shape == wanted.shape)


def test_a_file_of_another_net_is_refused(tmp_path):
    torch.save(torchvision.models.resnet34().state_dict(), tmp_path / "resnet34.pth")
    with pytest.raises(WeightsError, match="not in the model"):
        pretrained.load(resdet.build(*DETECTOR), str(tmp_path / "resnet34.pth"), "resnet18")
