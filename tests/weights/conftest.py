"""Provides a local server in place of the publishers of weights."""

import hashlib
import io
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
import torchvision
from loopback import serving

from resdet.files import retry
from resdet.weights import detectron2_zoo


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Serves a folder on localhost; downloads are cached in tmp_path/cache."""
    monkeypatch.setattr(retry, "PAUSES", (0.01,))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("RESDET_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "published"
    folder.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self):
            server.asked.append(self.path)
            super().do_GET()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    server.asked, server.folder = [], folder
    with serving(server) as server.url:
        monkeypatch.setattr(detectron2_zoo, "URL", server.url)
        yield server


@pytest.fixture
def resnet18(published, monkeypatch):
    """torchvision's ResNet-18 with random weights, served as its IMAGENET1K_V1; `file`: the name of the file."""
    torch.manual_seed(0)
    net, written = torchvision.models.resnet18(), io.BytesIO()
    torch.save(net.state_dict(), written)
    net.file = f"resnet18-{hashlib.sha256(written.getvalue()).hexdigest()[:8]}.pth"
    (published.folder / net.file).write_bytes(written.getvalue())
    monkeypatch.setattr(torchvision.models.ResNet18_Weights.IMAGENET1K_V1.value, "url", f"{published.url}/{net.file}")
    return net
