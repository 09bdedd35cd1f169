"""Tests rows of `resdet reproduce` end to end with small settings on generated data."""

import json

import pytest

from resdet.reproduce.tables import FIGURES, ROWS


def test_a_row_of_cifar(tmp_path, command):
    done = command("reproduce", "table6", "--row", "resnet20", "--smoke", "--out", "out")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out/table6/resnet20.json").read_text())
    logged = json.loads((tmp_path / "out/cifar10_resnet20/metrics.jsonl").read_text().splitlines()[-1])
    assert found["ours"]["error"] == pytest.approx(100 * logged["error"], abs=0.01)
    assert found["difference"] == {} and found["data"] == "generated, in miniature: no result"

    done = command("reproduce", "table6", "--row", "resnet20", "--smoke", "--out", "out")
    assert done.returncode == 0 and "steps of" not in done.stderr  # nothing is trained again


def test_invalid_arguments_are_reported(tmp_path, command):
    for words, sentence in (
        (["reproduce"], "see --list"),
        (["reproduce", "table60"], "did you mean table6?"),
        (["reproduce", "table2", "--row", "plain18"], "put train or ILSVRC2012_img_train.tar"),
    ):
        done = command(*words)
        assert done.returncode == 2 and sentence in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_trainings_in_several_processes(tmp_path, command):
    done = command("reproduce", "table6", "--row", "resnet20", "--smoke", "--processes", "2", "--out", "out")
    assert done.returncode == 0, done.stderr
    assert "(2 processes)" in done.stdout + done.stderr
    assert (tmp_path / "out/table6/resnet20.json").exists()


@pytest.mark.slow
def test_every_row_and_figure(tmp_path, start):
    started = start("reproduce", "--smoke", "--out", "out")
    output, errors = started.communicate(timeout=900)
    assert started.returncode == 0, errors
    for row in ROWS:
        found = json.loads((tmp_path / f"out/{row.table}/{row.name}.json").read_text())
        assert set(found["ours"]) >= set(row.paper)
    for name, figure in FIGURES.items():
        assert all((tmp_path / f"out/{name}.{kind}").stat().st_size > 500 for kind in ("svg", "png"))
        least = 1 if figure.kind == "detections" else 2  # a hardly trained detector may find nothing
        assert len((tmp_path / f"out/{name}.csv").read_text().splitlines()) >= least
