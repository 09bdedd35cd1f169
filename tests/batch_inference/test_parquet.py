"""Tests `resdet predict --parquet`: each image has one row despite damaged files, killed runs and several processes."""

import io
import json
import os
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from detection.heads import tiny
from narrow import shallow_nets

from resdet import hub
from resdet.backbones import create
from resdet.batch_inference import folder, run
from resdet.batch_inference.images import Address
from resdet.batch_inference.program import Program
from resdet.classification import Classifier
from resdet.errors import FileError
from resdet.images.normalize import Normalize
from resdet.results import parquet

WORDS = ("predict", "--weights", "net.pth", "photos", "--parquet", "out", "--part", 3)
NAMES = ["1.png", "2.png", "4.png", "4a.jpg", "5.png", "empty.png", "more/0.png", "more/3.png", "more/6.png"]
SIZES = [(48, 64), (64, 48), (40, 40), (48, 64), (70, 30), (48, 64), (33, 64)]


def use(model) -> None:
    """Replaces the loading of checkpoints by this model."""
    hub.load = lambda *_: model


@pytest.fixture(autouse=True)
def photos(tmp_path, monkeypatch):
    """Writes images to a folder and a subfolder, two of them damaged."""
    monkeypatch.setattr(hub, "load", hub.load)
    (tmp_path / "net.pth").write_bytes(b"weights")
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number, size in enumerate(SIZES):
        place = folder / "more" if number % 3 == 0 else folder
        cv2.imwrite(str(place / f"{number}.png"), rng.integers(256, size=(*size, 3), dtype=np.uint8))
    (folder / "4a.jpg").write_bytes(b"\xff\xd8\xff damaged")
    (folder / "empty.png").write_bytes(b"")
    (folder / "notes.txt").write_text("no image")
    return folder


def rows(folder: Path) -> list[dict]:
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def detector(masks: bool = True):
    with shallow_nets():
        return tiny.make("fpn", masks).eval()


def classifier() -> Classifier:
    torch.manual_seed(0)
    with shallow_nets():
        return Classifier(create("resnet18", num_classes=3), ["a", "b", "c"], Normalize(), 32, 32).eval()


def test_rows_match_the_results_of_the_model(tmp_path, command):
    model = detector()
    use(model)
    done = command(*WORDS, "--score", 0.2)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == [
        "_manifest.json",
        *(f"part-{number:06}.parquet" for number in range(3)),
    ]
    found = rows(tmp_path / "out")
    assert [row["image"] for row in found] == [f"photos/{name}" for name in NAMES]
    good = [row for row in found if row["error"] is None]
    for row, result in zip(good, model.predict([tmp_path / row["image"] for row in good], score=0.2)):
        assert (row["height"], row["width"]) == result.size and row["names"] == result.names and len(result)
        assert np.array_equal(np.array(row["boxes"], np.float32), result.boxes)
        assert np.array_equal(np.array(row["scores"], np.float32), result.scores)
        assert row["labels"] == result.labels.tolist() and row["category_ids"] == result.category_ids.tolist()
        assert row["masks"] == result.rles and row["keypoints"] is None
    bad = {row["image"]: row for row in found if row["error"]}
    assert list(bad) == ["photos/4a.jpg", "photos/empty.png"] and "empty file" in bad["photos/empty.png"]["error"]
    assert all(value is None for row in bad.values() for key, value in row.items() if key not in ("image", "error"))
    assert "2 of them unreadable" in done.stdout or done.stdout.count("1 of them unreadable") == 2


def test_linked_folders_are_entered_and_broken_links_are_rows(tmp_path, command, photos):
    """Links a folder twice below the root and once to a folder that contains the link; adds a hidden file."""
    photos.rename(tmp_path / "other")
    (tmp_path / "photos/deep").mkdir(parents=True)
    for name in ("photos/a", "photos/deep/b"):
        (tmp_path / name).symlink_to(tmp_path / "other/more")
    (tmp_path / "photos/deep/loop").symlink_to(tmp_path / "photos")
    (tmp_path / "photos/lost.jpg").symlink_to(tmp_path / "absent.jpg")
    (tmp_path / "photos/._lost.jpg").write_bytes(b"")
    (tmp_path / "photos/folder.jpg").mkdir()
    use(classifier())
    assert command(*WORDS).returncode == 0
    found = {row["image"]: row["error"] for row in rows(tmp_path / "out")}
    assert [*found] == [f"photos/{name}/{k}.png" for name in ("a", "deep/b") for k in (0, 3, 6)] + ["photos/lost.jpg"]
    assert "photos/lost.jpg: cannot read the file" in found.pop("photos/lost.jpg")
    assert not any(found.values())


def test_rows_of_a_classifier(tmp_path, command):
    model = classifier()
    use(model)
    assert command(*WORDS, "--top", 2).returncode == 0
    for row in rows(tmp_path / "out"):
        if row["error"] is None:
            expected = model.predict(tmp_path / row["image"], top=2)
            assert row["names"] == expected.names and row["labels"] == expected.labels.tolist()
            assert row["scores"] == pytest.approx(expected.scores.tolist(), abs=1e-6)
            assert (row["height"], row["width"]) == cv2.imread(str(tmp_path / row["image"])).shape[:2]
            assert row["boxes"] is None and row["masks"] is None


def test_rows_of_keypoints(tmp_path, command):
    with shallow_nets():
        model = tiny.make("fpn", False, "model.keypoint={width: 8, convs: 1, names: [a, b, c]}").eval()
    use(model)
    assert command(*WORDS, "--score", 0).returncode == 0
    found = [row for row in rows(tmp_path / "out") if row["error"] is None]
    for row, result in zip(found, model.predict([tmp_path / row["image"] for row in found], score=0.0)):
        assert np.array_equal(np.array(row["keypoints"], np.float32), result.keypoints) and len(result)
        assert row["keypoint_names"] == result.keypoint_names


@pytest.mark.parametrize("setting", ["eval.flip=true", "eval.tile=32"])
def test_rows_of_flipped_and_tiled_predictions(tmp_path, command, setting):
    use(detector(masks=False))
    assert command("predict", "--weights", "net.pth", "photos/1.png", setting, "--json", "rows.json").returncode == 0
    assert command(*WORDS, setting).returncode == 0
    (expected,) = json.loads((tmp_path / "rows.json").read_text())
    row = rows(tmp_path / "out")[0]
    assert row["scores"] == [one["score"] for one in expected["detections"]]
    assert row["boxes"] == [one["box"] for one in expected["detections"]]


def test_a_killed_run_is_resumed(tmp_path, command, monkeypatch):
    """Checks that finished parts are kept unchanged and that incomplete files are removed."""
    use(classifier())
    write, written = run.write_rows, []

    def killed(path, rows):
        written.append(path.name)
        if len(written) == 2:
            (tmp_path / "out/.part-000001.parquet.77.tmp").write_bytes(b"half")
            raise KeyboardInterrupt
        write(path, rows)

    monkeypatch.setattr(run, "write_rows", killed)
    assert command(*WORDS).returncode == 130
    first = tmp_path / "out/part-000000.parquet"
    before = first.stat()
    assert command(*WORDS).returncode == 0
    assert written == [f"part-{number:06}.parquet" for number in (0, 1, 1, 2)]
    assert first.stat().st_mtime_ns == before.st_mtime_ns and not [*(tmp_path / "out").glob(".*")]
    assert [row["image"] for row in rows(tmp_path / "out")] == [f"photos/{name}" for name in NAMES]
    done = command(*WORDS)
    assert done.returncode == 0 and "3 of 3 parts finished before" in done.stdout and len(written) == 4


def test_incomplete_parts_are_not_visible(tmp_path):
    def interrupted():
        yield from ({"image": str(number)} for number in range(parquet.ROWS + 1))
        assert not (tmp_path / "part.parquet").exists()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        parquet.write_rows(tmp_path / "part.parquet", interrupted())
    assert not [*tmp_path.glob("*part*")]


@pytest.mark.parametrize(
    "words, difference",
    [
        (["--top", 2], "different top"),
        (["--mode", "exact"], "different mode"),
        (["net.pth"], "different images"),
        (["--part", 2], "different images_per_part"),
    ],
)
def test_a_folder_of_a_run_with_other_settings_is_rejected(tmp_path, command, words, difference):
    use(classifier())
    assert command(*WORDS).returncode == 0
    done = command(*WORDS, *words)
    assert done.returncode == 2 and difference in done.stderr and done.stderr.count("\n") == 1
    (tmp_path / "net.pth").write_bytes(b"other weights")
    assert "different weights" in command(*WORDS).stderr


def test_all_that_results_depend_on_is_in_the_settings(tmp_path):
    """Of an OpenVINO model, the weights are a second file; the way to compile a model changes no result."""
    for name in ("net.xml", "net.bin"):
        (tmp_path / name).write_bytes(b"first")
    first = Program([str(tmp_path / "net.xml")])
    settings = first.settings()
    changes: list[dict[str, Any]] = [
        {"top": 2},
        {"score": 0.5},
        {"overrides": ["eval.nms=0.3"]},
        {"mode": "exact"},
        {"classifiers": [str(tmp_path / "net.pth")]},
    ]
    for change in changes:
        assert replace(first, **change).settings() != settings, change
    assert replace(first, compile=False).settings() == settings
    (tmp_path / "net.bin").write_bytes(b"second")
    assert first.settings() != settings


def test_a_folder_without_results_takes_other_settings(tmp_path, command):
    """Corrects a command that failed before its first part."""
    use(classifier())
    done = command(*WORDS, "--score", 0.5)
    assert done.returncode == 2 and "omit --score" in done.stderr
    assert command(*WORDS).returncode == 0 and len(rows(tmp_path / "out")) == len(NAMES)


def test_a_folder_with_other_parquet_files_is_rejected(tmp_path, command):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.parquet").write_bytes(b"")
    done = command(*WORDS)
    assert done.returncode == 2 and "holds other Parquet files" in done.stderr


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["7"], "7 is a video or a camera"),
        (["photos.tar.gz"], "photos.tar.gz: no such file or folder"),
        (["none/*.jpg"], "none/*.jpg matches no file"),
        (["--json", "rows.json"], "--json is for few images"),
        (["--part", 0], "--part: 0 is not a whole number of 1 or more"),
        (["--score", 0.5], "omit --score"),
    ],
)
def test_invalid_options_are_rejected(command, words, sentence):
    use(classifier())
    done = command(*WORDS, *words)
    assert done.returncode == 2 and sentence in done.stderr and "Traceback" not in done.stderr


def test_processes_share_the_parts(tmp_path, command, fork):
    """Checks that the files equal those of one process and that each part is written once."""
    use_classifier()
    assert command(*WORDS).returncode == 0
    alone = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.parquet")}
    shared = [*WORDS[:5], "shared", *WORDS[6:]]
    done = fork(*shared, ranks=2, first=use_classifier)
    assert done.returncode == 0, done.stderr
    for number in range(3):
        assert done.stdout.count(f"part-{number:06}.parquet: 3 images") == 1
    assert {path.name: path.read_bytes() for path in (tmp_path / "shared").glob("*.parquet")} == alone


def use_classifier() -> None:
    use(classifier())


def test_processes_that_list_different_images_are_refused(tmp_path, fork):
    """An image is added after the first process has listed the folder: parts of the two lists would not fit."""
    done = fork(*WORDS, ranks=2, first=add_an_image_in_the_second_process)
    assert done.returncode == 2 and "photos: images were added or removed" in done.stderr
    assert not rows(tmp_path / "out")


def add_an_image_in_the_second_process() -> None:
    use_classifier()
    if os.environ["RANK"] == "1":
        listed = run.list_images
        run.list_images = lambda sources: [Address("photos/0.png"), *listed(sources)]


def test_a_folder_is_in_use_until_the_last_process_ends(tmp_path, fork):
    """The second process writes its part once the first one has ended; a command of its own tries to lock before."""
    done = fork(*WORDS, "--part", 5, ranks=2, first=let_the_main_process_end_first)
    assert done.returncode == 0, done.stderr
    assert (
        tmp_path / "tried"
    ).read_text() == "out is in use by another process: wait until it ends, or give another folder."
    names = [path.name for path in sorted((tmp_path / "out").iterdir())]
    assert names == ["_manifest.json", "part-000000.parquet", "part-000001.parquet"]


def let_the_main_process_end_first() -> None:
    use_classifier()
    if os.environ["RANK"] == "0":
        whole, run.predict_to_parquet = run.predict_to_parquet, lambda *given: (whole(*given), Path("ended").touch())
    else:
        write, run.write_part = run.write_part, lambda *given: (lock_meanwhile(), write(*given))[1]


def lock_meanwhile() -> None:
    """Tries to lock the folder in a forked process, since POSIX locks do not exclude the process that holds them."""
    while not Path("ended").exists():
        time.sleep(0.05)
    child = os.fork()
    if child == 0:
        try:
            with folder.locked(Path("out")):
                Path("tried").write_text("locked")
        except FileError as error:
            Path("tried").write_text(str(error))
        os._exit(0)
    os.waitpid(child, 0)


def packed_tar(folder: Path) -> str:
    with tarfile.open(folder / "photos.tar", "w") as tar:
        for name in NAMES:
            tar.add(folder / "photos" / name, name)
        tar.addfile(tarfile.TarInfo("0.cls"), io.BytesIO())
    return "photos.tar"


def packed_parquet(folder: Path) -> str:
    """Writes the images in the format of Hugging Face datasets, in several row groups."""
    content = [{"bytes": (folder / "photos" / name).read_bytes(), "path": None} for name in NAMES]
    table = pa.table({"label": [0] * len(NAMES), "data": content, "file_name": NAMES})
    pq.write_table(table, folder / "photos.parquet", row_group_size=4)
    return "photos.parquet"


def remote(folder: Path) -> str:
    pytest.importorskip("fsspec")
    return (folder / "photos").as_uri()


def remote_tar(folder: Path) -> str:
    pytest.importorskip("fsspec")
    packed_tar(folder)
    return (folder / "photos.tar").as_uri()


@pytest.mark.parametrize("pack", [packed_tar, packed_parquet, remote, remote_tar])
def test_archives_and_remote_sources_give_the_same_rows(tmp_path, command, pack):
    use(classifier())
    assert command(*WORDS).returncode == 0
    expected = rows(tmp_path / "out")
    done = command("predict", "--weights", "net.pth", pack(tmp_path), "--parquet", "packed", "--part", 3)
    assert done.returncode == 0, done.stderr
    found = rows(tmp_path / "packed")
    assert all(row["image"].endswith(name) and "photos" in row["image"] for row, name in zip(found, NAMES))
    without = lambda table: [{**row, "image": None, "error": bool(row["error"])} for row in table]
    assert without(found) == without(expected)


def test_a_compressed_archive_is_refused(tmp_path, command):
    use(classifier())
    for name in ("photos.tar.gz", "photos.ZIP"):
        (tmp_path / name).write_bytes(b"")
        done = command(*WORDS, name)
        assert done.returncode == 2 and f"{name} is compressed: unpack it" in done.stderr


def test_globs_and_suffixes_in_upper_case(tmp_path, command):
    use(classifier())
    Path(tmp_path / packed_tar(tmp_path)).rename(tmp_path / "PHOTOS.TAR")
    Path(tmp_path / packed_parquet(tmp_path)).rename(tmp_path / "photos.Parquet")
    assert command(*WORDS[:3], "photos/*.png", "*.TAR", "*.Parquet", *WORDS[4:]).returncode == 0
    found = [row["image"] for row in rows(tmp_path / "out")]
    files = [f"photos/{name}" for name in NAMES if name.endswith(".png") and "/" not in name]
    assert sorted(found) == sorted(
        [f"{pack}:{name}" for pack in ("PHOTOS.TAR", "photos.Parquet") for name in NAMES] + files
    )


@pytest.mark.parametrize("name", ["absent.tar", "absent.parquet", "file:///absent", "madeup://absent"])
def test_missing_sources_are_reported(command, name):
    use(classifier())
    done = command("predict", "--weights", "net.pth", name, "--parquet", "out")
    assert done.returncode == 2 and name in done.stderr and done.stderr.count("\n") == 1


def test_the_documentation_lists_the_columns():
    text = (Path(__file__).parents[2] / "docs/detection.md").read_text(encoding="utf-8")
    for field in parquet.schema():
        kind = str(field.type).replace("item: ", "").replace("<", "\\<")
        assert f"| `{field.name}` | {kind} |" in text
    assert f"version {parquet.VERSION}" in text


def test_a_folder_in_use_is_rejected(tmp_path, command):
    """Locks the folder in another process, since POSIX locks do not exclude the process that holds them."""
    use(classifier())
    (tmp_path / "out").mkdir()
    code = (
        "import sys; from resdet.system import lock_or_fail; file = open('out/.lock', 'a+'); lock_or_fail(file); "
        "print('locked', flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment, **pipes) as holder:
        assert holder.stdout.readline() == "locked\n"
        done = command(*WORDS)
        holder.stdin.close()
    assert done.returncode == 2 and "in use by another process" in done.stderr
