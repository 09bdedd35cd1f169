"""Checks elastic training: torchrun restarts a run, which resumes without --resume and with any number of processes."""

import json
import os
import threading
import time
from datetime import timedelta

import pytest
import torch.distributed as dist
from engine.cutting import assert_equal, content, metrics
from engine.torchrun import torchrun
from running import COMMAND, TINY, fork, forking, here, run

from resdet.engine import run_folder, run_record
from resdet.engine.rendezvous import meet
from resdet.engine.run_folder import claim_folder
from resdet.engine.trainer import Trainer
from resdet.errors import Error
from resdet.files.folder_lock import LOCK, try_lock

COMMON = [*TINY, "train.batch=16", "train.length=6", "train.log_every=1", "train.deterministic=true", "optim.lr=0.05"]
COMMON += ["data.train_images=32", "data.val_images=8", "train.loggers=[]"]
KILLED = [*COMMON, "train.callbacks=[engine.ender:Kill]", "train.length=8", "train.unit=steps"]
ELASTIC = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "1", *COMMAND)


def train(tmp_path, how, name, *options, **more):
    done = how(tmp_path, "train", *options, "--out", name, **more)
    assert done.returncode == 0, done.stderr
    return tmp_path / name


def losses(folder):
    return [line["cross_entropy"] for line in metrics(folder) if line["kind"] == "train"]


def assert_resumes_after_a_restart(tmp_path, said):
    """Compares the restarted run, whose rank 0 was killed two steps after a checkpoint, with an uninterrupted one."""
    whole = train(tmp_path, fork, "whole", *KILLED, ranks=2)
    assert "resuming from step 5" in said
    assert_equal(*(content(tmp_path / name / "last.pth")["model"] for name in ("whole", "cut")))
    assert metrics(whole) == metrics(tmp_path / "cut")


def test_a_run_restarted_by_torchruns_agent_resumes(tmp_path):
    assert_resumes_after_a_restart(tmp_path, torchrun(tmp_path, "train", *KILLED, "--out", "cut", ranks=2, restarts=1))


@pytest.mark.slow
def test_a_run_restarted_by_the_torchrun_command_resumes(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # where torchrun leaves its logs
    done = run(tmp_path, "train", *KILLED, "--out", "cut", launcher=ELASTIC)
    assert done.returncode == 0, done.stderr
    assert_resumes_after_a_restart(tmp_path, done.stderr)


@pytest.mark.parametrize("ranks, options", [(3, []), (2, ["train.batch=9", "train.accumulate=3"])])
def test_uneven_shares_give_the_loss_curve_of_one_process(tmp_path, ranks, options):
    """Splits a batch into 5, 5 and 6 images, or into 4 and 5 images in micro-batches, and compares with one process."""
    options = [*COMMON, "model.backbone.norm=gn", *options]
    one, several = train(tmp_path, here, "one", *options), train(tmp_path, fork, "several", *options, ranks=ranks)
    assert losses(several) == pytest.approx(losses(one), rel=1e-3)


def test_resuming_with_more_processes_keeps_the_loss_curve(tmp_path):
    options = [*COMMON, "model.backbone.norm=gn", "schedule.name=constant"]
    one = train(tmp_path, here, "one", *options)
    train(tmp_path, fork, "more", *options, "train.length=3", ranks=2)
    done = fork(tmp_path, "train", *options, "--out", "more", "--resume", ranks=3)
    assert done.returncode == 0, done.stderr
    assert "processes were 2 and are 3: a step still takes 16 images in all" in done.stderr
    assert losses(tmp_path / "more") == pytest.approx(losses(one), rel=1e-3)


def test_batch_too_small_for_the_processes_is_an_error(tmp_path):
    done = fork(tmp_path, "train", *COMMON, "train.batch=2", "train.accumulate=2", "--out", "run", ranks=2)
    assert done.returncode == 2 and "give at least 4" in done.stderr


@pytest.fixture(scope="module")
def plain(module_folder):
    """Trains a run of two processes with the default settings of train.ddp."""
    return train(module_folder("plain"), fork, "run", *COMMON, ranks=2)


EXACT = [["gradient_as_bucket_view=false", "bucket_cap_mb=0.01"], ["static_graph=true"]]


def test_ddp_settings_without_effect_on_the_gradients(tmp_path, plain):
    for number, keys in enumerate(EXACT):
        options = [*COMMON, *(f"train.ddp.{key}" for key in keys)]
        other = train(tmp_path, fork, f"other{number}", *options, ranks=2)
        assert_equal(*(content(run / "last.pth")["model"] for run in (plain, other)))


def test_compressed_gradients_keep_the_loss_close(tmp_path, plain):
    plain = losses(plain)
    powersgd = ["train.ddp.powersgd_start=3", "train.ddp.powersgd_rank=8"]
    for kind, tolerance in (("fp16", 0.02), ("bf16", 0.1), ("powersgd", 0.5)):
        options = [*COMMON, f"train.ddp.compress={kind}", *(powersgd if kind == "powersgd" else [])]
        found = losses(train(tmp_path, fork, kind, *options, ranks=2))
        assert found != plain and found == pytest.approx(plain, rel=tolerance)


def sleep_at_the_third_step():
    take_step = Trainer.take_step

    def slow(trainer, batch):
        if trainer.step == 3 and trainer.world.rank == 1:
            time.sleep(60)
        take_step(trainer, batch)

    Trainer.take_step = slow


@pytest.mark.slow
def test_a_hanging_process_ends_the_run_after_the_timeout(tmp_path):
    options = [*COMMON, "train.ddp.timeout=20", "train.evaluate_every=1000"]
    done = fork(tmp_path, "train", *options, "--out", "run", ranks=2, first=sleep_at_the_third_step)
    assert done.returncode == 2
    assert "Process 0 of 2 has lost another one after step 3" in done.stderr and "Traceback" not in done.stderr


def test_store_keys_of_an_earlier_start_are_ignored():
    store, names = dist.HashStore(), {}
    store.set_timeout(timedelta(seconds=60))
    store.set("arrived/1", "of a process that has ended")
    for start in range(2):
        join = lambda rank: names.update({(start, rank): meet(store, rank, 3, 60)})
        threads = [threading.Thread(target=join, args=(rank,)) for rank in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({names[start, rank] for rank in range(3)}) == 1
    assert names[0, 0] != names[1, 0]


def test_a_missing_process_is_an_error():
    with pytest.raises(dist.DistStoreError, match="process 1 did not arrive"):
        meet(dist.HashStore(), 0, 2, 0.1)


def run_of(folder, identity):
    folder.mkdir(parents=True)
    (folder / "last.pth").touch()
    (folder / "run.json").write_text(json.dumps({"torchrun": identity}))


def test_only_the_folder_of_the_same_torchrun_job_is_continued(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_of(tmp_path / "runs/x", "job 1")
    run_of(tmp_path / "runs/x-2", "job 2")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job 1")
    with claim_folder("x", None, False) as folder:
        assert folder.name == "x"
    with pytest.raises(Error, match="already holds a run"), claim_folder("x", "runs/x-2", False):
        pass
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    run_of(tmp_path / "unnamed", run_record.torchrun_id())
    for count, own in (("0", False), ("1", True)):
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", count)
        assert run_folder.is_own(tmp_path / "unnamed") == own


def hold(folder):
    with open(os.devnull, "w"):
        lock = try_lock(folder)
        assert lock
        time.sleep(60)


def test_the_lock_of_the_same_torchrun_job_is_taken_over(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job")
    run_of(tmp_path / "run", "job")
    holder = forking().Process(target=hold, args=(tmp_path / "run",))
    holder.start()
    try:
        while not (tmp_path / "run" / LOCK).exists() or not (tmp_path / "run" / LOCK).read_text():
            time.sleep(0.05)
        with claim_folder("run", str(tmp_path / "run"), False, patience=1) as folder:
            assert folder == tmp_path / "run" and str(os.getpid()) in (folder / LOCK).read_text()
    finally:
        holder.kill()
        holder.join()
