"""Tests the reloading of changed model files, and that the previous model is kept if the new file is broken."""

import errno
import gc
import os
import weakref
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from threading import Event
from unittest.mock import Mock

import numpy as np
import pytest
from serve.serving import PATIENCE, Serving, StandIn, picture, until

from resdet.errors import ConfigError, WeightsError
from resdet.serve.app import build_app
from resdet.serve.limits import Limits
from resdet.serve.metrics import GAUGES, Metrics
from resdet.serve.models import Models, ServedModel, named, stamp_of
from resdet.serve.worker import Item


class Files:
    """Loads a stand-in for each version of a file; the text `broken` raises an error."""

    def __init__(self, path):
        self.path, self.loaded = path, []

    def write(self, text: str) -> None:
        before = stamp_of(str(self.path))
        self.path.write_text(text)
        while stamp_of(str(self.path)) == before:  # in case of a coarse clock of the file system
            os.utime(self.path)

    def load(self, path: str):
        if self.path.read_text() == "broken":
            raise WeightsError("best.pth is damaged: export it again.")
        self.loaded.append(StandIn())
        return self.loaded[-1].loaded()


@pytest.fixture
def files(tmp_path):
    files = Files(tmp_path / "best.pth")
    files.write("first")
    return files


@pytest.fixture
def served(files):
    served = ServedModel("best", str(files.path), files.load, Limits(max_wait=0), Metrics())
    served.worker.start()
    served.load()
    yield served
    served.worker.stop()
    served.worker.join(PATIENCE)


def test_a_changed_file_is_loaded_once_it_is_stable(served, files):
    served.reload_if_changed()
    assert len(files.loaded) == 1
    files.write("second")
    served.reload_if_changed()  # may be incomplete
    assert len(files.loaded) == 1
    served.reload_if_changed()
    served.reload_if_changed()
    assert len(files.loaded) == 2 and served.current.predictor is files.loaded[1]
    assert 'resdet_reloads_total{model="best",result="loaded"} 1' in served.metrics.text(dict.fromkeys(GAUGES, {}))


def test_a_broken_file_keeps_the_previous_model(served, files):
    """Checks that the API shows the error, and that a repaired file is loaded."""
    first = served.current
    files.write("broken")
    for _ in range(3):
        served.reload_if_changed()
    assert served.current is first
    with ThreadPoolExecutor(1) as pool:
        check_problem(Serving(build_app(Models([served]), served.limits, served.metrics, pool), None, None))
    files.write("mended")
    for _ in range(2):
        served.reload_if_changed()
    assert served.current is not first and served.problem is None


def check_problem(server) -> None:
    assert "is damaged" in server.get("/v1/models").json["models"][0]["problem"]
    assert server.get("/readyz").status == 200 and server.post(picture()).status == 200
    assert 'resdet_reloads_total{model="best",result="failed"} 1' in server.get("/metrics").body.decode()


def test_a_bug_while_loading_is_logged_with_its_traceback(served, files, caplog):
    """Checks that the API only shows the class of the error."""
    served.load_file = lambda path: {}[path]
    files.write("second")
    for _ in range(2):
        served.reload_if_changed()
    assert served.describe()["problem"] == "KeyError while loading." and "Traceback" in caplog.text


def test_a_deleted_file_keeps_the_model(served, files):
    first = served.current
    files.path.unlink()
    for _ in range(3):
        served.reload_if_changed()
    assert served.current is first and served.ready


def test_prepared_images_are_predicted_by_the_model_that_prepared_them(served, files):
    first, prepare = files.loaded[0], lambda: served.current.predictor
    first.started.clear()
    first.go_on.clear()
    items = []
    for _ in range(2):
        predictor = prepare()
        items.append(Item(predictor, predictor.prepare_image(np.zeros((4, 6, 3), np.uint8)), None, None))
        served.worker.submit(items[-1])
    assert first.started.wait(PATIENCE)
    served.current = StandIn().loaded()
    second = prepare()
    items.append(Item(second, second.prepare_image(np.zeros((4, 6, 3), np.uint8)), None, None))
    served.worker.submit(items[-1])
    first.go_on.set()
    wait([item.result for item in items], PATIENCE)
    assert sum(map(len, first.batches)) == 3 and sum(map(len, second.batches)) == 1  # one is the warmup


def test_the_thread_loads_polls_and_stops(files):
    """Checks several models, and that a failure of the first load is reported."""
    served = [ServedModel(name, str(files.path), files.load, Limits(), Metrics()) for name in ("best", "other")]
    models = Models(served, poll=0.01)
    models.start()
    files_loaded(files, 2)
    files.write("second")
    files_loaded(files, 4)
    models.stop()
    models.join(PATIENCE)
    for model in served:
        model.worker.join(PATIENCE)
    assert not models.is_alive() and not any(model.worker.is_alive() for model in served)

    files.write("broken")
    failures, failed = [], Event()
    broken = ServedModel("best", str(files.path), files.load, Limits(), Metrics())
    models = Models([broken], failed=lambda error: (failures.append(error), failed.set()))
    models.start()
    assert failed.wait(PATIENCE) and "is damaged" in str(failures[0]) and not models.ready
    models.stop()


def files_loaded(files, count) -> None:
    until(lambda: len(files.loaded) >= count)


def test_models_are_exempt_from_garbage_collection_and_the_previous_one_is_freed(files):
    """Checks the first model and a new one, and that a previous model with a reference cycle is freed."""
    load = files.load

    def load_with_cycle(path):
        loaded = load(path)
        loaded.predictor.itself = loaded.predictor
        return loaded

    collected = lambda predictor: any(each is predictor for each in gc.get_objects())
    models = Models([ServedModel("best", str(files.path), load_with_cycle, Limits(), Metrics())], poll=0.01)
    models.start()
    for number, text in enumerate(("second", "third"), 1):
        files_loaded(files, number)
        until(lambda: not collected(files.loaded[-1]))
        former = weakref.ref(files.loaded[-1])
        files.write(text)
        files_loaded(files, number + 1)
        files.loaded[0:-1] = [None] * number
        until(lambda: former() is None)
    models.stop()
    models.join(PATIENCE)


def test_changes_are_found_after_storage_did_not_respond(served, files, monkeypatch):
    """Simulates a network file system whose connection is lost at one poll."""
    with monkeypatch.context() as lost:
        lost.setattr(Path, "stat", Mock(side_effect=OSError(errno.ESTALE, "stale file handle")))
        served.reload_if_changed()
    files.write("second")
    served.reload_if_changed()
    served.reload_if_changed()
    assert len(files.loaded) == 2


def test_the_target_of_a_link_is_watched(tmp_path):
    """Checks a link that is pointed at another file, as by a deployment, and a change of that file."""
    link, files = tmp_path / "current.pth", [tmp_path / "first.pth", tmp_path / "second.pth"]
    stamps = []
    for number, file in enumerate(files, 1):
        file.write_bytes(bytes(number))
        link.unlink(missing_ok=True)
        try:
            link.symlink_to(file)
        except OSError:
            pytest.skip("links need a privilege on Windows")
        stamps.append(stamp_of(str(link)))
    files[-1].write_bytes(bytes(9))
    assert len({*stamps, stamp_of(str(link))}) == 3


def test_both_files_of_openvino_are_watched(tmp_path):
    (tmp_path / "a.xml").write_text("graph")
    before = stamp_of(str(tmp_path / "a.xml"))
    (tmp_path / "a.bin").write_text("weights")
    assert stamp_of(str(tmp_path / "a.xml")) != before and stamp_of("torchvision/resnet50") == ()


def test_model_names_are_parsed():
    assert named(["runs/a/best.pth", "x=c=d.onnx"]) == {"best": "runs/a/best.pth", "x": "c=d.onnx"}
    for words in (["a/best.pth", "b/best.pth"], ["x=a", "x=b"], ["=a"]):
        with pytest.raises(ConfigError, match="NAME=PATH"):
            named(words)
