"""Checks published models given by name: lookup, a single download, its verification, and the error when offline."""

import hashlib
import pickle
import re
from pathlib import Path

import pytest
import torch
import torchvision

import resdet
from resdet.commands import convert, export
from resdet.errors import DownloadError, WeightsError
from resdet.weights import detectron2_zoo, zoo

CONFIG = "COCO-Detection/faster_rcnn_R_50_FPN_3x"


def test_torchvision_file_names_contain_a_checksum():
    for name in zoo.TORCHVISION:
        weights = list(torchvision.models.get_model_weights(name))
        assert all(re.search(r"-[0-9a-f]{8}\.pth$", member.url) for member in weights), name


def test_detectron2_entries():
    """Checks the form of the run ids and MD5 prefixes, and two entries of detectron2's model zoo page."""
    models = detectron2_zoo.MODELS
    assert all(re.fullmatch(r"\d{9}", run) and re.fullmatch(r"[0-9a-f]{6}", md5) for run, md5, _ in models.values())
    assert len({model.run for model in models.values()}) == len(models)
    mask, keypoint = (
        models[f"COCO-{name}"]
        for name in ("InstanceSegmentation/mask_rcnn_R_50_FPN_3x", "Keypoints/keypoint_rcnn_R_50_FPN_1x")
    )
    assert mask == ("137849600", "f10217", {"box AP": 41.0, "mask AP": 37.2})
    assert keypoint == ("137261548", "04e291", {"box AP": 53.6, "keypoint AP": 64.0})


def test_keypoint_rcnn_weights_are_of_the_last_epoch(monkeypatch):
    """Checks that Keypoint R-CNN does not default to COCO_LEGACY, an early epoch that torchvision lists first."""
    asked = []
    monkeypatch.setattr(zoo, "fetch", lambda url, place, **digest: asked.append((url, digest)))
    zoo.locate("torchvision/keypointrcnn_resnet50_fpn")
    url = "https://download.pytorch.org/models/keypointrcnn_resnet50_fpn_coco-fc266e95.pth"
    assert asked == [(url, {"sha256": "fc266e95", "md5": None})]
    zoo.locate("torchvision/keypointrcnn_resnet50_fpn.COCO_LEGACY")
    assert asked[1][0].endswith("9f466800.pth")


def test_a_file_takes_precedence_over_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision/resnet18").write_bytes(b"mine")
    assert zoo.locate("torchvision/resnet18").read_bytes() == b"mine"
    assert zoo.locate("runs/best.pth").name == "best.pth"


def test_a_torchvision_model_by_name(published, resnet18):
    for name in ("torchvision/resnet18", "torchvision/resnet18.IMAGENET1K_V1"):
        model = resdet.load(name)
        assert model.classes[0] == "tench"
        assert torch.equal(model.backbone.fc.weight, resnet18.fc.weight)
    assert len(published.asked) == 1


def test_default_outputs_have_the_version_of_a_published_model():
    """Checks that two versions of a model are not written to one file."""
    name = "torchvision/resnet50.IMAGENET1K_V2"
    assert export.default_path(Path(name), ".onnx") == Path("resnet50.IMAGENET1K_V2.onnx")
    assert convert.default_path(name, "timm") == Path("resnet50.IMAGENET1K_V2.timm.pth")
    assert convert.default_path(__file__, "safetensors") == Path(__file__).with_suffix(".safetensors")


def test_a_detectron2_model_by_name(published, tmp_path, monkeypatch):
    """Verifies the MD5 prefix in the name of a detectron2 file."""
    content = pickle.dumps({"model": {"a": [1.0]}})
    digest = hashlib.md5(content).hexdigest()[:6]
    place = published.folder / CONFIG / "137849458"
    place.mkdir(parents=True)
    (place / "model_final_280758.pkl").write_bytes(content)
    with pytest.raises(DownloadError, match="expected md5 280758"):
        zoo.locate(f"detectron2/{CONFIG}")
    monkeypatch.setitem(detectron2_zoo.MODELS, CONFIG, detectron2_zoo.Model("137849458", digest, {}))
    (place / "model_final_280758.pkl").rename(place / f"model_final_{digest}.pkl")
    for name in (CONFIG, f"{CONFIG}.yaml"):
        path = zoo.locate(f"detectron2/{name}")
        assert path.read_bytes() == content and path.is_relative_to(tmp_path / "cache")
    assert published.asked[-1] == f"/{CONFIG}/137849458/model_final_{digest}.pkl"
    assert len(published.asked) == 2


@pytest.mark.parametrize("name", [f"detectron2/{CONFIG}", "torchvision/resnet18"])
def test_the_error_when_offline_names_the_path(name, published, monkeypatch, tmp_path):
    member = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.value
    monkeypatch.setattr(member, "url", f"{published.url}/resnet18-f37072fd.pth")
    with pytest.raises(DownloadError, match=f"manually to {tmp_path}/cache/weights/.*(pkl|pth).$"):
        resdet.load(name)


@pytest.mark.parametrize(
    "name, hint",
    [
        ("torchvision/resnet81", "did you mean resnet18?"),
        ("torchvision/maskrcnn_resnet50_fpn_v3", "did you mean maskrcnn_resnet50_fpn_v2?"),
        ("torchvision/resnet18.IMAGENET1K_V3", "did you mean IMAGENET1K_V1?"),
        ("detectron2/COCO-Detection/faster_rcnn_R_50_FPN_2x", "did you mean COCO-Detection/faster_rcnn_R_50_FPN_"),
        ("detectron2/retinanet", "choose from COCO-Detection/"),
        ("maskrcnn_resnet50_fpn_v2", "to use the published model, write torchvision/maskrcnn_resnet50_fpn_v2."),
        ("COCO-Detection/faster_rcnn_R_50_FPN_3x", "write detectron2/COCO-Detection/faster_rcnn_R_50_FPN_3x."),
    ],
)
def test_similar_names_are_suggested(name, hint):
    with pytest.raises(WeightsError, match=re.escape(hint)):
        resdet.load(name)
