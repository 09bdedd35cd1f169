"""Tests the output folder of `resdet predict --parquet`: killed runs, other settings and several processes."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from batch_inference.runs import NAMES, WORDS, classifier, rows, use, use_classifier

from resdet.batch_inference import folder, run
from resdet.batch_inference.images import Address
from resdet.batch_inference.program import Program
from resdet.errors import FileError

pytestmark = pytest.mark.usefixtures("photos")


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


def test_a_setting_that_the_manifest_of_an_earlier_version_lacks_is_its_default(tmp_path, command):
    use_classifier()
    assert command(*WORDS).returncode == 0
    path = tmp_path / "out/_manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["settings"]["classes"]
    path.write_text(json.dumps(manifest))
    done = command(*WORDS)
    assert done.returncode == 0 and "3 of 3 parts finished before" in done.stdout
    done = command(*WORDS, "--classes", "cat")
    assert done.returncode == 2 and "with different classes:" in done.stderr


def test_all_that_results_depend_on_is_in_the_settings(tmp_path):
    """Checks that the weights of an OpenVINO model, a second file, count, and that the compile option does not."""
    for name in ("net.xml", "net.bin"):
        (tmp_path / name).write_bytes(b"first")
    first = Program([str(tmp_path / "net.xml")])
    settings = first.settings()
    changes: list[dict[str, Any]] = [
        {"top": 2},
        {"score": 0.5},
        {"overrides": ["eval.nms=0.3"]},
        {"classes": ["person"]},
        {"mode": "exact"},
        {"classifiers": [str(tmp_path / "net.pth")]},
    ]
    for change in changes:
        assert replace(first, **change).settings() != settings, change
    assert replace(first, compile=False).settings() == settings
    one, other = (replace(first, classes=names).settings() for names in (["car", "person"], ["person", "car"]))
    assert one == other
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


def test_processes_that_list_different_images_are_refused(tmp_path, fork):
    """Adds an image after the first process has listed the folder, which would make the parts inconsistent."""
    done = fork(*WORDS, ranks=2, first=add_an_image_in_the_second_process)
    assert done.returncode == 2 and "photos: images were added or removed" in done.stderr
    assert not rows(tmp_path / "out")


def add_an_image_in_the_second_process() -> None:
    use_classifier()
    if os.environ["RANK"] == "1":
        listed = run.list_images
        run.list_images = lambda sources: [Address("photos/0.png"), *listed(sources)]


def test_a_folder_is_in_use_until_the_last_process_ends(tmp_path, fork):
    """The second process writes its part after the first has ended; before that, another command tries to lock."""
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
