"""Checks every command on full and read-only disks and with invalid paths: a one-line error and no loss of files."""

import json
import re
import subprocess
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import cv2
import disks
import numpy as np
import pytest
import running
import torch
from tasks import runs

import resdet
from resdet import weights
from resdet.commands import reproduce
from resdet.data import array_cache
from resdet.engine.log import Log
from resdet.errors import DataError, FileError
from resdet.localization.data.proposals import ProposalFiles
from resdet.reproduce.records import Figure

pytestmark = pytest.mark.usefixtures("narrow")

LIMIT = 60  # bytes; every written file is larger


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """Writes a detector, a classifier, scenes, an image, and ground truth with results."""
    folder = tmp_path_factory.mktemp("there")
    scenes = runs.scenes(folder / "scenes")
    torch.manual_seed(0)
    detector = resdet.build(*runs.of(scenes)[1:], "model.num_classes=5")
    detector.category_ids = [1, 2, 4, 7, 11]
    weights.save(detector, folder / "detector.safetensors", "safetensors")
    classifier = resdet.build("shapes_resnet20", "model.backbone=cifar_resnet8", "model.num_classes=10")
    weights.save(classifier, folder / "classifier.safetensors", "safetensors")
    cv2.imwrite(str(folder / "photo.png"), np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    truth = json.loads((scenes / "annotations/val.json").read_text())
    found = [{**entry, "score": 0.5, "segmentation": None} for entry in truth["annotations"]]
    (folder / "results.json").write_text(json.dumps(found))
    return folder


def words_of(command: str, there: Path) -> list[str]:
    """Returns the arguments of a command, to which the test appends the output path."""
    detector, photo = there / "detector.safetensors", there / "photo.png"
    judged = ["evaluate", "--weights", detector, "--config", "shapes_mask_r18_fpn", *runs.of(there / "scenes")[2:]]
    truth = ["--annotations", there / "scenes/annotations/val.json", "--results", there / "results.json"]
    size = ["--train", 4, "--val", 2, "--size", 64]
    return {
        "shapes": ["data", "make", *size, "shapes"],
        "scenes": ["data", "make", *size, "shape_scenes"],
        "loc": ["data", "make", *size, "shape_loc"],
        "draw": ["predict", "--weights", detector, photo, "--score", 0, "--draw"],
        "predict": ["predict", "--weights", detector, photo, "--json"],
        "classify": ["predict", "--weights", there / "classifier.safetensors", photo, "--json"],
        "figures": [*judged, "--json"],
        "save": [*judged, "eval.score=0", "--save"],
        "results": ["evaluate", *truth, "--json"],
        "nets": ["nets", "resnet18", "--json"],
        "safetensors": ["convert", detector, "--to", "safetensors", "--out"],
        "detectron2": ["convert", detector, "--to", "detectron2", "--out"],
        "timm": ["convert", there / "classifier.safetensors", "--to", "timm", "--out"],
        "onnx": ["export", there / "classifier.safetensors", "--to", "onnx", "--out"],
        "program": ["export", there / "classifier.safetensors", "--to", "torch-export", "--out"],
        "train": ["train", *runs.of(there / "scenes"), "--out"],
        "reproduce": ["reproduce", "table6", "--smoke", "--out"],
    }[command]


FOLDERS = ["shapes", "scenes", "loc", "draw", "train"]
FILES = ["predict", "classify", "figures", "save", "results", "nets", "safetensors", "detectron2", "onnx", "program"]


def sentence(done) -> str:
    """Returns the only line on standard error apart from the log of a training run."""
    said = runs.sentence(done)
    assert len(said) < 400 and said.endswith(".")
    return said


@pytest.mark.parametrize("command", FOLDERS)
def test_a_failed_write_leaves_no_files(command, there, tmp_path):
    with disks.limited(LIMIT):
        said = sentence(runs.here(*words_of(command, there), tmp_path / "new"))
    assert re.search(rf"{tmp_path}/new\S* cannot be written \(File too large\): raise the limit on the size", said), (
        said
    )
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("command", FILES)
def test_the_old_file_is_kept(command, there, tmp_path):
    (tmp_path / "old.json").write_text("former")
    with disks.limited(LIMIT):
        said = sentence(runs.here(*words_of(command, there), tmp_path / "old.json"))
    assert f"{tmp_path}/old.json cannot be written (File too large); the old file is kept: raise" in said
    assert (tmp_path / "old.json").read_text() == "former" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("command", [*FOLDERS, *FILES, "timm", "reproduce"])
def test_invalid_paths_are_refused_before_any_work(command, there, tmp_path, monkeypatch):
    """Removes functions that load weights, set up training or evaluate, so that calling them fails."""
    monkeypatch.setattr("resdet.hub.load", None)
    monkeypatch.setattr("resdet.commands.train.tasks", None)
    monkeypatch.setattr("resdet.detection.evaluation.coco.match", None)
    (tmp_path / "file").write_text("precious")
    words = words_of(command, there)
    folder = tmp_path / "file" if command in [*FOLDERS, "reproduce"] else tmp_path / "file/a.json"
    blocked = f"{tmp_path}/file: cannot create the folder ({tmp_path}/file is not a folder): choose another one."
    assert blocked in sentence(runs.here(*words, folder))
    if command in FILES:
        assert f"{tmp_path} is a folder: give the path of a file." in sentence(runs.here(*words, tmp_path))
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.parametrize("command", [*FOLDERS, *FILES, "reproduce"])
def test_full_and_read_only_disks_are_refused_before_any_work(command, there, tmp_path, monkeypatch):
    monkeypatch.setattr("resdet.hub.load", None)
    monkeypatch.setattr("resdet.commands.train.tasks", None)
    monkeypatch.setattr("resdet.detection.evaluation.coco.match", None)
    with disks.tmpfs(tmp_path / "disk", 64) as disk:
        disks.fill(disk)
        target = disk / ("a" if command in [*FOLDERS, "reproduce"] else "a.json")
        said = sentence(runs.here(*words_of(command, there), target))
        assert f"{disk}/a cannot be written (No space left on device): free some space." in said.replace(".json", "")
        disks.make_read_only(disk)
        said = sentence(runs.here(*words_of(command, there), target))
        assert "cannot be written (Read-only file system): choose a folder with write permission." in said


@pytest.mark.parametrize(
    "command, left", [("shapes", 12), ("scenes", 12), ("loc", 12), ("draw", 4), ("safetensors", 99)]
)
def test_a_disk_that_fills_up_is_an_error(command, left, there, tmp_path):
    with disks.tmpfs(tmp_path / "disk", 200) as disk:
        disks.fill(disk, left)
        said = sentence(runs.here(*words_of(command, there), disk / "new/a"))
        assert re.search(rf"{disk}/new/a\S* cannot be written \(No space left on device\): free some space", said)
        assert not disks.leftovers(disk)


def test_generated_data_in_a_mounted_folder(tmp_path):
    """Writes into a mount point, which cannot be replaced by a renamed folder."""
    with disks.tmpfs(tmp_path / "disk", 2000) as disk:
        done = runs.here("data", "make", "shape_scenes", disk, "--train", 2, "--val", 1, "--size", 32)
        assert done.returncode == 0
        assert {path.name for path in disk.iterdir()} == {"train", "val", "annotations", "shape_scenes.json"}


def test_training_keeps_its_checkpoints_and_resumes(there, tmp_path):
    folder = tmp_path / "run"
    runs.train(folder, *runs.of(there / "scenes"))
    more = ["train", *runs.of(there / "scenes"), "--out", folder, "--resume", "train.length=4"]
    before = {path: path.read_bytes() for path in folder.glob("*.pth")}
    with disks.limited(50_000):
        said = sentence(runs.here(*more))
    told = r"run/(last|best).pth cannot be written \(File too large\); the old file is kept: raise the limit on "
    assert re.search(told + r"the size of files \(ulimit -f\), then resume from step 2 with --resume\.$", said), said
    assert before == {path: path.read_bytes() for path in folder.glob("*.pth")}
    assert not disks.leftovers(folder)
    assert runs.here(*more).returncode == 0
    assert runs.checkpoint(folder / "last.pth")["trainer"]["step"] == 4
    assert [line["step"] for line in runs.metrics(folder, "train")] == [1, 2, 3, 4]


def test_a_failed_line_of_metrics_is_an_error(tmp_path):
    log = Log(tmp_path)
    log.open(0)
    log.metrics(1, "train", {"loss": 1.0})
    before = (tmp_path / "metrics.jsonl").read_bytes()
    with disks.limited(len(before)), pytest.raises(FileError, match="metrics.jsonl cannot be written .*old file is"):
        log.metrics(2, "train", {"loss": 0.5})
    log.close()
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_metrics_are_kept_if_a_resumed_run_cannot_rewrite_them(tmp_path):
    lines = "".join(json.dumps({"step": step, "kind": "train"}) + "\n" for step in range(9))
    (tmp_path / "metrics.jsonl").write_text(lines)
    with disks.limited(20), pytest.raises(FileError, match="metrics.jsonl cannot be written"):
        Log(tmp_path).open(5)
    assert (tmp_path / "metrics.jsonl").read_text() == lines


def test_a_failed_figure_leaves_no_file(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "kind": "train", "error": 0.5}\n')
    setting = SimpleNamespace(weights=lambda name: str(tmp_path / "best.pth"), out=tmp_path / "figures", scale=1)
    with (
        disks.limited(LIMIT),
        pytest.raises(FileError, match=r"figures/figure6.svg cannot be written \(File too large"),
    ):
        reproduce.draw(Figure("figure6", "Figure 6", ("net",), "curves"), setting)
    assert not list((tmp_path / "figures").iterdir())


def test_an_index_that_cannot_be_saved_is_used(tmp_path, monkeypatch):
    """Fails to save the index beside its source, in the user's cache, and in a given folder."""
    monkeypatch.setenv("RESDET_CACHE", str(tmp_path / "cache"))
    (tmp_path / "source").write_text("")
    built = lambda: {"numbers": np.arange(1000)}
    with disks.limited(LIMIT):
        assert (array_cache.cached("a", [tmp_path / "source"], built)["numbers"] == np.arange(1000)).all()
    (tmp_path / "elsewhere").write_text("")
    assert (
        array_cache.cached("a", [tmp_path / "source"], built, tmp_path / "elsewhere/a")["numbers"] == range(1000)
    ).all()
    assert not [path for path in tmp_path.rglob("*.npy")]


def test_proposal_files_are_allocated_up_front(tmp_path):
    """Refuses files larger than the disk, because writing to their memory map later would kill the process."""
    with disks.tmpfs(tmp_path / "disk", 64) as disk:
        with pytest.raises(DataError, match="No space left on device"):
            ProposalFiles(disk / "a", 1000, 50)
        assert not list(disk.rglob("*.npy"))


@pytest.fixture
def full():
    """Opens /dev/full, where every write fails."""
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    file = open("/dev/full", "w")
    yield file
    with suppress(OSError):
        file.close()


CONFIG = ["config", "--config", "shapes_resnet20"]


def test_a_full_standard_output_is_an_error(full):
    """Runs the command in a new process, since the interpreter flushes its output again at exit."""
    words = [running.sys.executable, *running.COMMAND]
    options = {"cwd": running.REPOSITORY, "text": True}
    for more, printed in ((CONFIG, "stdout"), (["data", "make", "shapes", "setup.py"], "stderr")):
        other = {"stdout": "stderr", "stderr": "stdout"}[printed]
        done = subprocess.run([*words, *more], **options, **{printed: full, other: subprocess.PIPE})
        assert done.returncode == 2
        assert getattr(done, other) in (
            "",
            "resdet: the output cannot be written (No space left on device): free some space.\n",
        )
    assert subprocess.run([*words, *CONFIG], **options, stdout=subprocess.PIPE, stderr=full).returncode == 0


def test_a_full_standard_error_does_not_end_a_run(full, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stderr", full)
    Log(tmp_path).info("first step")
    Log(None).warn("a damaged image")
