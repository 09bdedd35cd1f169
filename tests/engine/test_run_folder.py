"""Checks that only one run at a time writes into a folder."""

import json
import os
import signal

import pytest

from resdet.engine import run_folder
from resdet.engine.log import Log
from resdet.engine.run_folder import claim_folder
from resdet.errors import Error
from resdet.files.folder_lock import try_lock


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def in_a_fork(action):
    """Runs the action in a forked process; returns its id and a reader of its output."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return child, os.fdopen(reader)
    os.close(reader)
    with os.fdopen(writer, "w", buffering=1) as told:
        try:
            action(told)
        except Error as error:
            print(error, file=told)
    os._exit(0)


def hold(name, out=None, resume=False):
    """Returns an action that claims a folder until its process is killed."""

    def action(told):
        with claim_folder(name, out, resume) as folder:
            (folder / "run.json").touch()
            print(folder, file=told)
            signal.pause()

    return action


def end(child):
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_runs_that_start_together_get_different_folders():
    held = [in_a_fork(hold("x")) for _ in range(8)]
    folders = [told.readline().strip() for _, told in held]
    assert sorted(folders) == sorted(["runs/x", *(f"runs/x-{number}" for number in range(2, 9))])
    for child, _ in held:
        end(child)
    with claim_folder("x", None, True) as folder:
        assert str(folder) == "runs/x-8"
    with claim_folder("x", None, False) as folder:
        assert str(folder) == "runs/x-9"


def occupy(told):
    """Claims a folder like a run that is still opening its data."""
    with claim_folder("x", None, False) as folder:
        print(folder, file=told)
        signal.pause()


def test_a_run_that_has_just_started_keeps_its_folder():
    child, told = in_a_fork(occupy)
    assert told.readline() == "runs/x\n"
    with claim_folder("x", None, False) as folder:
        assert str(folder) == "runs/x-2"
    end(child)


def test_a_run_that_ends_before_its_folder_is_locked_keeps_it(monkeypatch):
    def late(folder):
        lock = try_lock(folder)
        if folder.name == "x":
            (folder / "run.json").touch()
        return lock

    monkeypatch.setattr(run_folder, "try_lock", late)
    with claim_folder("x", None, False) as folder:
        assert folder.as_posix() == "runs/x-2"
    assert os.listdir("runs/x") == ["run.json"]


def test_a_deleted_run_does_not_hide_later_ones(tmp_path, monkeypatch):
    """Deletes the second of three runs: resumes, restarts and new runs still follow the third."""
    for name in ("x", "x-3", "x-1", "x-03", "x-9-copy", "y-4"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "run.json").touch()
    (tmp_path / "runs/x-5").mkdir()  # without a run
    with claim_folder("x", None, True) as folder:
        assert folder.as_posix() == "runs/x-3"
    with claim_folder("x", None, False) as folder:
        assert folder.as_posix() == "runs/x-4"
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job")
    (tmp_path / "runs/x-3/run.json").write_text('{"torchrun": "job"}')
    with claim_folder("x", None, False) as folder:
        assert folder.as_posix() == "runs/x-3"


def test_a_name_has_no_run_at_first():
    with claim_folder("a/x", None, True) as folder:
        assert folder.as_posix() == "runs/a/x"


@pytest.mark.parametrize("resume", [False, True])
def test_a_second_writer_is_refused(resume):
    child, told = in_a_fork(hold("x", "out"))
    assert told.readline() == "out\n"
    with pytest.raises(Error, match=rf"^out is in use by process {child} on \S+: wait until"):
        with claim_folder("x", "out", resume):
            pass
    end(child)
    with claim_folder("x", "out", resume):  # a killed process releases its lock
        pass


def test_a_refused_run_leaves_no_lock(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/last.pth").touch()
    with pytest.raises(Error, match="^out already holds a run"), claim_folder("x", "out", False):
        pass
    assert os.listdir("out") == ["last.pth"]


def test_an_empty_folder_is_removed():
    with pytest.raises(ZeroDivisionError), claim_folder("x", None, False) as folder:
        assert folder.is_dir()
        raise ZeroDivisionError
    assert not folder.exists()
    with claim_folder("x", None, False) as folder:
        (folder / "run.json").touch()
    assert os.listdir(folder) == ["run.json"]


def test_a_file_instead_of_a_folder_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(Error, match=r"^file: cannot write there \(File exists\)"),
        claim_folder("x", "file", False),
    ):
        pass


def test_leftovers_of_a_killed_run_are_removed(tmp_path):
    gone = [".last.pth.123.tmp", ".best.pth.123.456.tmp", "pictures/.1.jpg.7.tmp", "1_rpn/.best.pth.99.tmp"]
    kept = [".mine.tmp", "notes.123.tmp", "pictures/1.jpg"]
    for name in gone + kept:
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).touch()
    with claim_folder("x", "out", True):
        pass
    assert not any((tmp_path / "out" / name).exists() for name in gone)
    assert all((tmp_path / "out" / name).exists() for name in kept)


GARBAGE = [
    b"\xff\xfe\x00",
    b"[" * 100_000,
    b'{"step": 3, "kind": "tr',
    b"null",
    b'{"step": "x", "kind": "val"}',
    b"{}",
    b"",
]


def test_damaged_lines_of_the_metrics_are_dropped(tmp_path, capsys):
    lines = [{"step": step, "kind": kind} for step in (1, 2, 3) for kind in ("train", "val")]
    sound = [json.dumps(line).encode() for line in lines]
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join([*sound[:3], *GARBAGE, *sound[3:], sound[0][:9]]))
    log = Log(tmp_path)
    log.open(2)
    log.close()
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == lines[:4]
    assert f"metrics.jsonl: dropped {len(GARBAGE) + 1} damaged lines" in capsys.readouterr().err
    log.open(2, evaluation_due=True)
    log.close()
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == lines[:3]
