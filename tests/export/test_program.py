"""Tests programs of torch.export: loaded without a model, their outputs equal the model's bitwise."""

import json
import os
import subprocess
import sys

import pytest
import torch
from export.small import KEYPOINTS, SHAPE, batch, detector
from running import REPOSITORY

from resdet.errors import Error
from resdet.export import Form, to_program
from resdet.export.exporters import graph_of
from resdet.export.program import DESCRIPTION, trace

pytest.importorskip("torchvision")

ELSEWHERE = """
import sys
import torch
import resdet.export

given = torch.load(sys.argv[2])
torch.save(torch.export.load(sys.argv[1]).module()(*given), sys.argv[3])
"""


def test_a_program_runs_in_another_process(tmp_path):
    """Runs a Mask R-CNN with masks and a dynamic batch size in a process that only loads the program."""
    model, form = detector("c4", True), Form(SHAPE, dynamic_batch=True)
    to_program(model, tmp_path / "model.pt2", form)
    torch.save(tuple(batch(3)), tmp_path / "given.pt")
    words = [sys.executable, "-c", ELSEWHERE, *(str(tmp_path / name) for name in ("model.pt2", "given.pt", "found.pt"))]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = torch.load(tmp_path / "found.pt")
    with torch.no_grad():
        expected = graph_of(model, form)(*batch(3))
    assert expected[3].any() and all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_program_with_nms_outside(tmp_path):
    model, form = detector("fpn", False, "model.box.canonical_size=15"), Form(SHAPE, nms="outside")
    program = to_program(model, tmp_path / "model.pt2", form)
    with torch.no_grad():
        expected = graph_of(model, form)(*batch())
        assert all(torch.equal(a, b) for a, b in zip(program.module()(*batch()), expected, strict=True))
    extra = {DESCRIPTION: ""}
    torch.export.load(tmp_path / "model.pt2", extra_files=extra)
    assert json.loads(extra[DESCRIPTION])["classes"] == model.classes


def test_a_program_with_keypoints(tmp_path):
    model, form = detector("fpn", False, KEYPOINTS), Form(SHAPE)
    program = to_program(model, tmp_path / "model.pt2", form)
    with torch.no_grad():
        expected = graph_of(model, form)(*batch())
        assert expected[4].shape == (1, expected[0].shape[1], 3, 56, 56)
        assert all(torch.equal(a, b) for a, b in zip(program.module()(*batch()), expected, strict=True))


class Looking(torch.nn.Module):
    """A module that cannot be traced, since its control flow depends on a pixel."""

    def forward(self, images, sizes):
        return images + 1 if images.sum() > 0 else images


def test_an_untraceable_model_is_reported():
    with pytest.raises(Error, match="torch.export cannot trace this model"):
        trace(Looking(), detector("c4", False), Form(SHAPE))
