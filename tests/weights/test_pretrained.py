"""Checks ImageNet weights given by name: they are downloaded once and verified, or the error names their path."""

import hashlib
import io
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
import torchvision

import resdet
from resdet.errors import ConfigError, DownloadError, WeightsError
from resdet.files import download
from resdet.weights import pretrained

DETECTOR = ("shapes_mask_r18_fpn.yaml", "model.num_classes=3", "model.mask=null", "model.neck.width=16")


class Handler(SimpleHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serves tmp_path/published on localhost; downloads are cached in tmp_path/cache."""
    monkeypatch.setattr(download, "PAUSES", (0.01,))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("RESDET_CACHE", str(tmp_path / "cache"))
    (tmp_path / "published").mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path / "published")))
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def net():
    torch.manual_seed(0)
    return torchvision.models.resnet18()


@pytest.fixture
def publish(server, tmp_path, monkeypatch):
    """Publishes a state dict; its file name ends with the first digits of `digest`, as torchvision's file names do."""

    def publish(state, digest=None):
        written = io.BytesIO()
        torch.save(state, written)
        name = f"resnet18-{(digest or hashlib.sha256(written.getvalue()).hexdigest())[:8]}.pth"
        (tmp_path / "published" / name).write_bytes(written.getvalue())
        weights = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.value
        monkeypatch.setattr(weights, "url", f"http://127.0.0.1:{server.server_port}/models/../{name}")
        return name

    return publish


def test_weights_are_downloaded_once(server, publish, net, tmp_path):
    name = publish(net.state_dict())
    for _ in range(2):
        model = resdet.build(*DETECTOR)
        report = pretrained.load(model, "torchvision", "resnet18")
        assert torch.equal(model.backbone.conv1.conv.weight, net.conv1.weight)
        assert torch.equal(model.backbone.conv5_x[1].conv2.conv.weight, net.layer4[1].conv2.weight)
        assert report.loaded == len([n for n in net.state_dict() if not n.startswith("fc")])
    assert len(server.asked) == 1
    assert (tmp_path / "cache/weights" / name).read_bytes() == (tmp_path / "published" / name).read_bytes()


def test_a_wrong_checksum_is_refused(server, publish, net, tmp_path):
    name = publish(net.state_dict(), digest="0" * 64)
    with pytest.raises(DownloadError, match="not the published file"):
        pretrained.fetch_torchvision("resnet18")
    assert not (tmp_path / "cache/weights" / name).exists()


def test_a_failed_download_names_the_path(server, publish, net, tmp_path):
    """Checks that the error names the path for a manual download, and that a file at this path is used."""
    name = publish(net.state_dict())
    whole = (tmp_path / "published" / name).read_bytes()
    (tmp_path / "published" / name).unlink()
    place = tmp_path / "cache/weights" / name
    with pytest.raises(DownloadError, match=f"manually to {place}"):
        pretrained.load(resdet.build(*DETECTOR), "torchvision", "resnet18")
    place.write_bytes(whole)
    pretrained.load(resdet.build(*DETECTOR), "torchvision", "resnet18")


def test_weights_unknown_to_torchvision_are_an_error():
    with pytest.raises(ConfigError, match="model.pretrained.*plain18"):
        pretrained.fetch_torchvision("plain18")


def test_conv5_in_the_box_head_is_loaded(publish, net):
    publish(net.state_dict())
    sizes = "model.rpn.anchors.sizes=[[16, 32, 64]]"
    model = resdet.build(*DETECTOR[:-1], "model.features=c4", sizes)
    report = pretrained.load(model, "torchvision", "resnet18")
    assert report.loaded == len([n for n in net.state_dict() if not n.startswith("fc")]) and not report.missing
    loaded = {tensor.data_ptr() for tensor in model.backbone_tensors().values()}
    head = dict(model.roi_heads.stages[0].head.named_parameters())
    assert len(head) == 15 and all(tensor.data_ptr() in loaded for tensor in head.values())
    wanted = net.layer4[1].conv2.weight
    assert any(torch.equal(tensor, wanted) for tensor in head.values() if tensor.shape == wanted.shape)


def test_a_file_of_another_net_is_refused(tmp_path):
    torch.save(torchvision.models.resnet34().state_dict(), tmp_path / "resnet34.pth")
    with pytest.raises(WeightsError, match="not in the model"):
        pretrained.load(resdet.build(*DETECTOR), str(tmp_path / "resnet34.pth"), "resnet18")
