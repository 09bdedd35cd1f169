"""RESDET_ZOO: a folder or an address with the publishers' files, which are verified as their own are."""

import hashlib
import re

import pytest
import torchvision
from weights.test_zoo import CONFIG, publish_torchvision, published  # noqa: F401

import resdet
from resdet.errors import DownloadError
from resdet.weights import detectron2_zoo, zoo

CONTENT = b"the weights"
SECRET = hashlib.md5(CONTENT).hexdigest()[:6]
FILE = f"model_final_{SECRET}.pkl"
OFFICIAL = f"http://127.0.0.1:9/{CONFIG}/137849458/{FILE}"  # nothing listens there


@pytest.fixture
def model(monkeypatch, tmp_path):
    """A model of detectron2's with this content, whose publisher cannot be reached."""
    monkeypatch.setattr(detectron2_zoo, "URL", "http://127.0.0.1:9")
    monkeypatch.setitem(detectron2_zoo.MODELS, CONFIG, detectron2_zoo.Model("137849458", SECRET, {}))
    monkeypatch.setenv("RESDET_CACHE", str(tmp_path / "cache"))
    return f"detectron2/{CONFIG}"


def test_a_folder(model, tmp_path, monkeypatch):
    """The file is used where it is, and not copied."""
    monkeypatch.setenv("RESDET_ZOO", str(tmp_path / "zoo"))
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo" / FILE).write_bytes(CONTENT)
    assert zoo.locate(model) == tmp_path / "zoo" / FILE
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("content, problem", [(None, "no such file"), (b"other", f"expected md5 {SECRET}, received ")])
def test_a_folder_without_the_file(model, content, problem, tmp_path, monkeypatch):
    monkeypatch.setenv("RESDET_ZOO", str(tmp_path))
    if content:
        (tmp_path / FILE).write_bytes(content)
    with pytest.raises(DownloadError) as raised:
        zoo.locate(model)
    message = str(raised.value)
    assert message.startswith(f"{tmp_path / FILE}: {problem}") and f"put the file of {OFFICIAL} there." in message


def test_a_server(published, model, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("RESDET_ZOO", f"{published.url}/")
    monkeypatch.setattr(detectron2_zoo, "URL", "http://127.0.0.1:9")
    (published.folder / FILE).write_bytes(CONTENT)
    for _ in range(2):
        assert zoo.locate(model).read_bytes() == CONTENT
    assert published.asked == [f"/{FILE}"]  # by its name only; the second time it comes from the cache


@pytest.mark.parametrize("content, problem", [(None, "cannot be downloaded"), (b"other", "is not the published file")])
def test_a_server_without_the_file(published, model, content, problem, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("RESDET_ZOO", published.url)
    monkeypatch.setattr(detectron2_zoo, "URL", "http://127.0.0.1:9")
    if content:
        (published.folder / FILE).write_bytes(content)
    with pytest.raises(DownloadError) as raised:
        zoo.locate(model)
    place = tmp_path / "cache/weights/detectron2" / CONFIG.replace("/", "_") / FILE
    message = raised.value.args[0]  # before it is shortened
    assert f"{published.url}/{FILE} {problem}" in message
    assert f"put the file of {OFFICIAL} in the mirror RESDET_ZOO, or at {place}." in message
    assert not place.exists()


def test_an_address_of_files(model, tmp_path, monkeypatch):
    monkeypatch.setenv("RESDET_ZOO", (tmp_path / "zoo").as_uri())
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo" / FILE).write_bytes(CONTENT)
    assert zoo.locate(model).read_bytes() == CONTENT


def test_what_is_in_the_cache_needs_no_mirror(model, tmp_path, monkeypatch):
    place = tmp_path / "cache/weights/detectron2" / CONFIG.replace("/", "_") / FILE
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)
    monkeypatch.setenv("RESDET_ZOO", str(tmp_path / "nowhere"))
    assert zoo.locate(model) == place


def test_a_net_of_torchvisions_from_a_folder(published, tmp_path, monkeypatch):  # noqa: F811
    publish_torchvision(published, monkeypatch)
    monkeypatch.setenv("RESDET_ZOO", str(published.folder))
    assert resdet.load("torchvision/resnet18").classes[0] == "tench"
    assert published.asked == []


def test_features_alone_are_no_model():
    """torchvision's VGG-16 without its linear layers, which are NaN in the file."""
    assert "IMAGENET1K_FEATURES" in torchvision.models.VGG16_Weights.__members__
    with pytest.raises(resdet.Error, match=re.escape("has no supported weights 'IMAGENET1K_FEATURES'")):
        zoo.locate("torchvision/vgg16.IMAGENET1K_FEATURES")
