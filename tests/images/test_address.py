"""Tests images at addresses: downloaded from a local server and from a file system of fsspec."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import fsspec
import numpy as np
import pytest
import torch
from detection.heads import tiny
from loopback import serving

from resdet.commands.predict import open_sources
from resdet.errors import DataError
from resdet.files import retry
from resdet.images import address
from resdet.images.address import is_image_address, stem_of
from resdet.images.decode import as_image
from resdet.images.inputs import images_in, is_single
from resdet.results.stream import show
from resdet.serve import client

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
PNG = cv2.imencode(".png", PIXELS[:, :, ::-1])[1].tobytes()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.server.failures:
            self.server.failures -= 1
            return self.send_error(503)
        if not self.path.startswith("/photo.png"):
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(PNG)))
        self.end_headers()
        self.wfile.write(PNG)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(retry, "PAUSES", (0.01,))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.failures = 0
    with serving(server) as server.url:
        yield server


@pytest.mark.parametrize(
    "name, expected",
    [
        ("http://host/a.jpg", True),
        ("https://host/folder/a.PNG?width=640&name=b.mp4#c", True),
        ("s3://bucket/a.tif", True),
        ("s3://bucket/a #1?.tif", True),
        ("s3://bucket/a.tif?versionId=1", True),
        ("http://host/a?name=b.jpg", False),
        ("https://host/a.mp4", False),
        ("rtsp://host/a.jpg", False),
        ("folder/a.jpg", False),
        ("http://[host/a.jpg", True),
    ],
)
def test_an_address_is_an_image_by_the_suffix_of_its_path(name, expected):
    assert is_image_address(name) is expected


def test_images_are_downloaded_again_after_a_fault(server):
    server.failures = 1
    name = f"{server.url}/photo.png?size=large"
    assert open_sources([name]) == [name] and list(images_in(name)) == [name] and is_single(name)
    image = as_image(name)
    assert (image.decode() == PIXELS).all() and image.name == name
    assert stem_of(name) == "photo"


def test_a_client_of_a_server_sends_the_image(server):
    assert client.read(f"{server.url}/photo.png?size=large") == ("photo.png", PNG)


@pytest.mark.parametrize(
    "path, reason", [("/absent.png", "HTTP Error 404: Not Found"), (":70000/a.png", "check the address")]
)
def test_an_absent_image_is_one_sentence(server, path, reason):
    with pytest.raises(DataError, match=reason) as error:
        as_image(server.url + path)
    assert str(error.value).startswith(f"{server.url}{path} cannot be read (")


def test_a_file_that_is_too_large_is_refused(server, monkeypatch):
    monkeypatch.setattr(address, "LARGEST", len(PNG))
    assert as_image(f"{server.url}/photo.png").size == (8, 6)
    monkeypatch.setattr(address, "LARGEST", len(PNG) - 1)
    with pytest.raises(DataError, match="has more than 0 MB"):
        as_image(f"{server.url}/photo.png")


@pytest.mark.parametrize("name", ["photo", "photo #1?"])
def test_other_file_systems_are_read_by_fsspec(name):
    with fsspec.open(f"memory://folder/{name}.png", "wb") as file:
        file.write(PNG)
    assert (as_image(f"memory://folder/{name}.png").decode() == PIXELS).all()
    assert stem_of(f"memory://folder/{name}.png") == name
    with pytest.raises(DataError, match=r"absent\.png cannot be read"):
        as_image("memory://folder/absent.png")


def test_an_image_at_an_address_is_drawn(server, tmp_path, capsys):
    detector = tiny.make("fpn", False).eval()
    with torch.inference_mode():
        (row,) = show(detector, [f"{server.url}/photo.png"], 0.0, tmp_path)
    assert row["image"] == f"{server.url}/photo.png"
    assert [path.name for path in tmp_path.iterdir()] == ["0001_photo.jpg"]
    (row,) = show(detector, [f"{server.url}/absent.png"], 0.0, tmp_path)
    assert "404" in row["error"]
