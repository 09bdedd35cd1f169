"""Tests prediction on a Ray cluster against prediction in one process, also after a worker is killed."""

import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from detection.heads import tiny

import resdet
from resdet import hub
from resdet.batch_inference import run
from resdet.batch_inference.program import Program
from resdet.errors import Error
from resdet.interop import ray as adapter
from resdet.weights import save_weights


@pytest.fixture
def program(tmp_path) -> Program:
    model = resdet.build("shapes_resnet20", "model.backbone=cifar_resnet8", "model.num_classes=3")
    save_weights.save(model, tmp_path / "net.safetensors", "safetensors")
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for number in range(12):
        cv2.imwrite(str(tmp_path / f"photos/{number:02}.png"), rng.integers(256, size=(36, 40, 3), dtype=np.uint8))
    (tmp_path / "photos/bad.jpg").write_bytes(b"\xff\xd8\xff damaged")
    return Program([str(tmp_path / "net.safetensors")], top=2)


def rows(folder: Path) -> list[dict]:
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


@pytest.mark.parametrize(
    "call",
    [
        lambda program, folder: adapter.predict_to_parquet(program, [str(folder / "photos")], folder / "out"),
        lambda program, folder: adapter.map_images(None, program.weights),
    ],
)
def test_missing_ray_is_an_error(program, tmp_path, monkeypatch, call):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(Error, match=r"pip install 'ray\[data\]'"):
        call(program, tmp_path)


def test_wrong_options_are_refused_before_ray_starts(program, tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(adapter, "ray_data", lambda: None)
    monkeypatch.setattr(adapter, "cluster", lambda: started.append(1))
    sources = [str(tmp_path / "photos")]
    with pytest.raises(Error, match="omit --score"):
        adapter.predict_to_parquet(replace(program, score=0.5, compile=True), sources, tmp_path / "out")
    detector = tiny.make("c4", False).eval()
    monkeypatch.setattr(hub, "load", lambda path, mode, device, compile: detector)
    with pytest.raises(Error, match=r"net.safetensors has no class 'cat': choose from disc, square, bar"):
        adapter.predict_to_parquet(replace(program, top=None, classes=["cat"]), sources, tmp_path / "out")
    assert not started


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    environment = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        logging_level="error",
        log_to_driver=False,
        runtime_env={"env_vars": environment},
    )
    yield ray
    ray.shutdown()


def test_rows_after_a_killed_worker_equal_one_process(cluster, program, tmp_path, capsys):
    sources = [str(tmp_path / "photos")]
    run.predict_to_parquet(program, sources, tmp_path / "alone", 2)
    os.remove(tmp_path / "alone/part-000003.parquet")  # as after a killed run
    killed: list[int] = []

    def kill() -> None:
        while not killed and not (tmp_path / "out/part-000006.parquet").exists():
            if pids := mapping_workers():
                os.kill(pids[0], signal.SIGKILL)
                killed.append(pids[0])
            time.sleep(0.05)

    killer = threading.Thread(target=kill)
    killer.start()
    adapter.predict_to_parquet(program, sources, tmp_path / "out", 2, workers=2)
    killer.join()
    run.predict_to_parquet(program, sources, tmp_path / "alone", 2)
    assert not [*(tmp_path / "out").glob(".*")]
    assert killed and rows(tmp_path / "out") == rows(tmp_path / "alone") and len(rows(tmp_path / "out")) == 13


def mapping_workers() -> list[int]:
    """Returns the process ids of the actors below this process that write parts."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"PartWriter" in path.read_bytes() and descends(int(path.parent.name)):
                found.append(int(path.parent.name))
        except OSError:  # the process has ended
            continue
    return found


def descends(pid: int) -> bool:
    while pid > 1 and pid != os.getpid():
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pid == os.getpid()


def test_map_images_of_a_dataset(cluster, program, tmp_path):
    """Maps encoded images read by Ray and compares the rows with those of one process."""
    sources = [str(tmp_path / "photos")]
    run.predict_to_parquet(program, sources, tmp_path / "alone", 13)
    images = cluster.data.read_binary_files(sources, include_paths=True)
    mapped = adapter.map_images(images, program.weights, top=2, batch=13)
    found = {Path(row["image"]).name: row for row in mapped.take_all()}
    for expected in rows(tmp_path / "alone"):
        row = found.pop(Path(expected["image"]).name)
        assert row["names"] == expected["names"] and bool(row["error"]) == bool(expected["error"])
        assert row["scores"] == pytest.approx(expected["scores"], abs=1e-5)
    assert not found
