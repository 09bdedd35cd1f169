"""Checks shards at a URL: same data as on disk, one download per image, faults retried or reported."""

import json
import re
import shutil
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest
import torch

from resdet import config
from resdet.batch_inference.images import list_images
from resdet.cli import main
from resdet.data.loader import Notes
from resdet.detection.data import shape_scenes
from resdet.detection.data.augment_config import SceneConfig
from resdet.detection.data.loader import SceneLoader
from resdet.errors import DataError, DownloadError
from resdet.files import remote, retry, storage


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Writes shards of scenes and of images with classes."""
    folder = tmp_path_factory.mktemp("shards")
    shape_scenes.write(folder / "files", 6, 3, 64, 0)
    assert main(["data", "shard", str(folder / "files"), str(folder / "scenes"), "--images-per-shard", "2"]) == 0
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (folder / "images" / split / name).mkdir(parents=True)
            image = np.random.default_rng(len(split)).integers(0, 256, (20, 30, 3), np.uint8)
            cv2.imwrite(str(folder / "images" / split / name / "a.jpg"), image)
    assert main(["data", "shard", str(folder / "images"), str(folder / "classes")]) == 0
    return folder


class Server(ThreadingHTTPServer):
    """A local file server with range requests; `faults` are applied to the next requests of shards."""

    daemon_threads = True

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.faults, self.requests, self.released = folder, [], [], threading.Event()
        self.address = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        path = self.server.folder / self.path.lstrip("/")
        fault = self.server.faults.pop(0) if self.server.faults and path.suffix == ".tar" else None
        if fault == "stall":
            self.server.released.wait()
            return
        if fault == "error" or not path.is_file():
            self.send_error(503 if fault else 404)
            return
        data = path.read_bytes()
        start, end = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", f"bytes=0-{len(data)}")).groups()
        part = data[int(start) : int(end) + 1]
        part = part[:-5] if fault == "short" else b"x" * len(part) if fault == "wrong" else part
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, *_):
        pass


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    monkeypatch.setenv("RESDET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(retry, "PAUSES", (0.0, 0.0))
    forget()


def forget():
    """Clears the caches of this process, to simulate a new one."""
    remote._mirror.cache_clear()
    remote.origin_of.cache_clear()


@pytest.fixture
def server(shards):
    pytest.importorskip("aiohttp")
    server = Server(shards)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()


@pytest.fixture(params=["http", "memory"])
def address(request, shards):
    if request.param == "http":
        return request.getfixturevalue("server").address
    memory = pytest.importorskip("fsspec").filesystem("memory")
    for path in shards.rglob("*"):
        if path.is_file():
            memory.pipe_file(f"/data/{path.relative_to(shards).as_posix()}", path.read_bytes())
    return "memory://data"


def open_scenes(root, split="train"):
    return config.load("custom.yaml", f"data.root={root}").data.open(split)


def images(source):
    return [bytes(source.image(i).data) for i in range(len(source))]


def tar_requests(server):
    return [path for path in server.requests if path.endswith(".tar")]


def kept(tmp_path):
    return sorted((tmp_path / "cache").rglob("*.tar"))


def test_detection_data_equal_those_on_disk(address, shards):
    for split in ("train", "val"):
        there, here = open_scenes(f"{address}/scenes", split), open_scenes(shards / "scenes", split)
        assert images(there) == images(here) and there.classes == here.classes
        np.testing.assert_array_equal(there.arrays["boxes"], here.arrays["boxes"])
    assert open_scenes(f"{address}/scenes").notes[0].startswith(f"{address}/scenes is in the format coco")


@pytest.mark.parametrize("name", ["folder", "imagenet"])
def test_classification_data_equal_those_on_disk(address, shards, name):
    for split in ("train", "val"):
        sources = [
            config.load("imagenet_r50.yaml", f"data.name={name}", f"data.root={root}").data.open(split)
            for root in (f"{address}/classes", shards / "classes")
        ]
        assert images(sources[0]) == images(sources[1])
        assert sources[0].labels.tolist() == sources[1].labels.tolist() == [0, 1]


def test_each_image_is_downloaded_once(server, tmp_path):
    source = open_scenes(f"{server.address}/scenes/")
    assert [source.header_size(i) for i in range(6)] == list(map(tuple, source.sizes.tolist()))
    assert tar_requests(server) == []  # opening the data downloads no images
    first = [images(source), len(tar_requests(server))]
    forget()
    assert [images(open_scenes(f"{server.address}/scenes")), len(tar_requests(server))] == first
    assert first[1] == 6
    kept(tmp_path)[0].unlink()
    assert images(open_scenes(f"{server.address}/scenes")) == first[0]
    assert len(tar_requests(server)) == 8


@pytest.mark.parametrize("count", [0, 1])
def test_the_cache_is_bounded(server, shards, tmp_path, monkeypatch, count):
    sizes = [shard["filesize"] for shard in json.loads((shards / "scenes/train/shards.json").read_text())["shardlist"]]
    bound = sum(sizes[:count]) + 1
    monkeypatch.setenv("RESDET_REMOTE_CACHE_GB", str(bound / 1e9))
    source = open_scenes(f"{server.address}/scenes")
    for _ in range(2):
        assert images(source) == images(open_scenes(shards / "scenes"))
    assert len(kept(tmp_path)) == count and sum(path.stat().st_size for path in kept(tmp_path)) <= bound
    assert len(tar_requests(server)) == 6 + 6 - 2 * count


def test_workers_read_from_a_url(server, shards):
    def batches(root, workers):
        loader = SceneLoader(
            open_scenes(root), SceneConfig(min_size=[48], max_size=64), 2, 0, torch.device("cpu"), Notes([].append),
            workers=workers,
        )  # fmt: skip
        return [batch for _, batch in zip(range(4), loader.batches(1))]

    open_scenes(f"{server.address}/scenes").image(0)  # opens a connection that workers must not share
    for one, other in zip(batches(f"{server.address}/scenes", 2), batches(shards / "scenes", 0), strict=True):
        assert torch.equal(one.images.pixels, other.images.pixels) and torch.equal(one.indices, other.indices)


@pytest.mark.parametrize("fault", ["error", "short", "wrong", "stall"])
def test_faults_are_retried(server, shards, monkeypatch, fault):
    source = open_scenes(f"{server.address}/scenes")
    if fault == "stall":
        monkeypatch.setattr(storage, "TIMEOUT", 4.0)
    server.faults += [fault]
    assert bytes(source.image(0).data) == images(open_scenes(shards / "scenes"))[0]
    assert len(tar_requests(server)) == 2


REASONS = {"error": "503", "short": "bytes came instead of", "wrong": "checksum", "stall": "no answer"}


@pytest.mark.parametrize("fault", REASONS)
def test_persistent_faults_are_errors(server, monkeypatch, fault):
    source = open_scenes(f"{server.address}/scenes")
    server.faults += [fault] * 9
    sentence = rf"\.tar cannot be downloaded \(.*{REASONS[fault]}.*\): check the address"
    with monkeypatch.context() as patch, pytest.raises(DownloadError, match=sentence):
        patch.setattr(storage, "TIMEOUT", 0.5 if fault == "stall" else storage.TIMEOUT)
        source.image(0)
    server.faults.clear()
    assert bytes(source.image(0).data)[:2] == b"\xff\xd8"


def test_new_shards_replace_the_mirror(server, shards, tmp_path):
    shutil.copytree(shards / "scenes", shards / "changing")
    before = images(open_scenes(f"{server.address}/changing"))
    shutil.rmtree(shards / "changing")
    shape_scenes.write(tmp_path / "other", 6, 3, 64, 1)
    assert main(["data", "shard", str(tmp_path / "other"), str(shards / "changing")]) == 0
    forget()
    after = images(open_scenes(f"{server.address}/changing"))
    assert after == images(open_scenes(tmp_path / "other")) != before


SIDE = {"url": "a", "filesize": 1, "sha256": ""}


@pytest.mark.parametrize(
    "index, sentence",
    [
        (None, "has no train/shards.json or val/shards.json: write shards with"),
        ({}, "shards.json is not an index of"),
        ({"shardlist": [{"url": "../a.tar", "filesize": 1}], "side": SIDE}, "shards.json names files outside"),
    ],
)
def test_a_missing_or_wrong_index_is_an_error(server, shards, tmp_path, index, sentence):
    folder = shards / tmp_path.name / "train"
    folder.mkdir(parents=True)
    if index is not None:
        (folder / "shards.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match=sentence):
        open_scenes(f"{server.address}/{tmp_path.name}")


def test_annotations_that_differ_from_the_index_are_refused(server, shards):
    shutil.copytree(shards / "scenes", shards / "edited")
    with open(shards / "edited" / "train" / "annotations.json", "r+b") as file:
        file.write(b" ")
    with pytest.raises(DownloadError, match="annotations.json differs from the checksum in its shards.json"):
        open_scenes(f"{server.address}/edited")


@pytest.mark.parametrize("package", ["fsspec", "gcsfs"])
def test_a_missing_package_is_an_error(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    storage._open_file_system.cache_clear()
    advice = r"pip install 'resdet\[remote\]' and the package of the storage, such as s3fs or gcsfs"
    with pytest.raises(DataError, match=rf"{package} .*\): {advice}"):
        open_scenes("gs://bucket/data")


def test_an_invalid_cache_size_is_an_error(monkeypatch):
    monkeypatch.setenv("RESDET_REMOTE_CACHE_GB", "much")
    with pytest.raises(DataError, match="RESDET_REMOTE_CACHE_GB is 'much': give a number of gigabytes"):
        open_scenes("memory://data")


def test_images_to_predict_are_retried(server, shards):
    """Checks that persistent faults raise a DownloadError, which stops the run, and a missing image a DataError."""
    path = next((shards / "scenes/train").glob("*.tar"))
    here = list_images([str(path)])[0]
    there = here._replace(path=f"{server.address}/scenes/train/{path.name}")
    server.faults += ["error", "short"]
    assert there.read().data == here.read().data
    server.faults += ["error"] * 9
    with pytest.raises(DownloadError, match="503"):
        there.read()
    server.faults.clear()
    with pytest.raises(DataError, match=r"absent.tar cannot be read"):
        there._replace(path=f"{server.address}/absent.tar").read()
    with pytest.raises(DataError, match=r"absent.jpg cannot be read"):
        there._replace(path=f"{server.address}/absent.jpg", place=0, size=0).read()
