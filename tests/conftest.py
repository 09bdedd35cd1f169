"""Fixtures that several test folders share."""

import json
import os
import shutil
from functools import partial
from pathlib import Path

import pytest
import running
import torch
from narrow import narrow_resnets, shallow_nets

# `make test` runs several small tests at once, which more threads would slow down.
THREADS = int(os.environ.get("OMP_NUM_THREADS", 1))
torch.set_num_threads(THREADS)  # applies to session and module fixtures too


@pytest.fixture(autouse=True)
def few_threads():
    torch.set_num_threads(THREADS)


@pytest.fixture
def command(tmp_path):
    """Runs `resdet …` in an empty folder and in this process; returns a CompletedProcess. See `running.here`."""
    return partial(running.here, tmp_path)


@pytest.fixture
def fork(tmp_path):
    """Runs `resdet …` in an empty folder and in forked processes; returns a CompletedProcess. See `running.fork`."""
    return partial(running.fork, tmp_path)


@pytest.fixture
def start(tmp_path):
    """Starts `resdet …` in an empty folder and in a new interpreter; returns the Popen. See `running.process`."""
    return partial(running.process, tmp_path)


@pytest.fixture
def tiny() -> list[str]:
    """Returns the arguments of a training run that takes a few seconds."""
    return list(running.TINY)


@pytest.fixture(scope="module")
def module_folder(request, tmp_path_factory):
    """Returns a function that makes folders, which are removed after the module's tests unless one has failed."""
    made, failed = [], request.session.testsfailed

    def make(name: str) -> Path:
        made.append(tmp_path_factory.mktemp(name))
        return made[-1]

    yield make
    if request.session.testsfailed == failed:
        for folder in made:
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def narrow():
    """Builds narrow ResNets in all tests of a module. See `narrow.narrow_resnets`."""
    with narrow_resnets():
        yield


@pytest.fixture(scope="module")
def shallow():
    """Builds models with small graphs in all tests of a module. See `narrow.shallow_nets`."""
    with shallow_nets():
        yield


@pytest.fixture
def results(tmp_path):
    """Writes COCO files of one object and one matching detection; returns the command-line options that name them."""
    image = {"id": 1, "file_name": "a.jpg", "width": 40, "height": 30}
    thing = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0}
    truth = {"images": [image], "annotations": [thing], "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "results.json").write_text(json.dumps([{**thing, "score": 0.9}]))
    return ["--annotations", tmp_path / "truth.json", "--results", tmp_path / "results.json"]
