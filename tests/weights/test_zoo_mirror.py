"""Checks RESDET_ZOO, a folder or URL with copies of the published files, which are verified by checksum."""

import hashlib
import re

import pytest
import torchvision
from weights.test_zoo import CONFIG

import resdet
from resdet.errors import DownloadError
from resdet.weights import detectron2_zoo, zoo

CONTENT = b"the weights"
SECRET = hashlib.md5(CONTENT).hexdigest()[:6]
FILE = f"model_final_{SECRET}.pkl"
OFFICIAL = f"http://127.0.0.1:9/{CONFIG}/137849458/{FILE}"  # no server listens on this port


@pytest.fixture
def model(monkeypatch, tmp_path):
    """Registers a detectron2 model whose publisher cannot be reached, and returns its name."""
    monkeypatch.setattr(detectron2_zoo, "URL", "http://127.0.0.1:9")
    monkeypatch.setitem(detectron2_zoo.MODELS, CONFIG, detectron2_zoo.Model("137849458", SECRET, {}))
    monkeypatch.setenv("RESDET_CACHE", str(tmp_path / "cache"))
    return f"detectron2/{CONFIG}"


def test_a_mirror_folder(model, tmp_path, monkeypatch):
    """Checks that a file in the folder is used in place, without a copy in the cache."""
    monkeypatch.setenv("RESDET_ZOO", str(tmp_path / "zoo"))
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo" / FILE).write_bytes(CONTENT)
    assert zoo.locate(model) == tmp_path / "zoo" / FILE
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("content, problem", [(None, "no such file"), (b"other", f"expected md5 {SECRET}, received ")])
def test_a_mirror_folder_with_a_missing_or_wrong_file(model, content, problem, tmp_path, monkeypatch):
    monkeypatch.setenv("RESDET_ZOO", str(tmp_path))
    if content:
        (tmp_path / FILE).write_bytes(content)
    with pytest.raises(DownloadError) as raised:
        zoo.locate(model)
    message = str(raised.value)
    assert message.startswith(f"{tmp_path / FILE}: {problem}") and f"put the file of {OFFICIAL} there." in message


def test_a_mirror_server(published, model, monkeypatch):
    monkeypatch.setenv("RESDET_ZOO", f"{published.url}/")
    monkeypatch.setattr(detectron2_zoo, "URL", "http://127.0.0.1:9")
    (published.folder / FILE).write_bytes(CONTENT)
    for _ in range(2):
        assert zoo.locate(model).read_bytes() == CONTENT
    assert published.asked == [f"/{FILE}"]  # requested once by file name, then read from the cache


@pytest.mark.parametrize("content, problem", [(None, "cannot be downloaded"), (b"other", "is not the published file")])
def test_a_mirror_server_with_a_missing_or_wrong_file(published, model, content, problem, tmp_path, monkeypatch):
    monkeypatch.setenv("RESDET_ZOO", published.url)
    monkeypatch.setattr(detectron2_zoo, "URL", "http://127.0.0.1:9")
    if content:
        (published.folder / FILE).write_bytes(content)
    with pytest.raises(DownloadError) as raised:
        zoo.locate(model)
    place = tmp_path / "cache/weights/detectron2" / CONFIG.replace("/", "_") / FILE
    message = raised.value.args[0]  # before the message is shortened
    assert f"{published.url}/{FILE} {problem}" in message
    assert f"put the file of {OFFICIAL} in the mirror RESDET_ZOO, or at {place}." in message
    assert not place.exists()


def test_a_mirror_with_a_file_url(model, tmp_path, monkeypatch):
    monkeypatch.setenv("RESDET_ZOO", (tmp_path / "zoo").as_uri())
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo" / FILE).write_bytes(CONTENT)
    assert zoo.locate(model).read_bytes() == CONTENT


def test_a_cached_file_needs_no_mirror(model, tmp_path, monkeypatch):
    place = tmp_path / "cache/weights/detectron2" / CONFIG.replace("/", "_") / FILE
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)
    monkeypatch.setenv("RESDET_ZOO", str(tmp_path / "nowhere"))
    assert zoo.locate(model) == place


def test_a_torchvision_model_from_a_mirror_folder(published, resnet18, monkeypatch):
    monkeypatch.setenv("RESDET_ZOO", str(published.folder))
    assert resdet.load("torchvision/resnet18").classes[0] == "tench"
    assert published.asked == []


def test_vgg16_features_are_refused():
    """Refuses torchvision's VGG-16 features, whose file has NaN in the linear layers."""
    assert "IMAGENET1K_FEATURES" in torchvision.models.VGG16_Weights.__members__
    with pytest.raises(resdet.Error, match=re.escape("has no supported weights 'IMAGENET1K_FEATURES'")):
        zoo.locate("torchvision/vgg16.IMAGENET1K_FEATURES")
