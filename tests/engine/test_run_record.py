"""Checks the record of a run's settings."""

import subprocess

import pytest
import torch

from resdet.engine import run_record


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """Moves the package to a checkout with one commit."""
    git = lambda *words: subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", str(tmp_path), *words], check=True
    )
    (tmp_path / "file").write_text("1")
    try:
        git("init", "--quiet")
    except FileNotFoundError:
        pytest.skip("needs git")
    git("add", "file")
    git("commit", "--quiet", "--message", "x")
    monkeypatch.setattr(run_record, "__file__", str(tmp_path / "resdet" / "engine" / "run_record.py"))
    return tmp_path


def test_the_revision_of_a_modified_checkout_has_a_plus(checkout):
    clean = run_record.git_revision()
    assert len(clean) == 40 and set(clean) <= set("0123456789abcdef")
    (checkout / "file").write_text("2")
    assert run_record.git_revision() == f"{clean}+"


def test_a_package_without_checkout_has_no_revision(tmp_path, monkeypatch):
    monkeypatch.setattr(run_record, "__file__", str(tmp_path / "resdet" / "engine" / "run_record.py"))
    assert run_record.git_revision() is None


def test_a_checkout_without_git_has_no_revision(checkout, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert run_record.git_revision() is None


def test_a_checkout_that_git_refuses_has_no_revision(checkout, monkeypatch):
    monkeypatch.setenv("GIT_DIR", "missing")  # git fails as in the checkout of another user
    assert run_record.git_revision() is None


def start(folder):
    return run_record.recorded(folder, "name: x", 0, torch.device("cpu"), 1)


@pytest.mark.parametrize("wrote", [[], ["tensorboard/events"], ["metrics.jsonl"], ["last.pth"], ["1_rpn/last.pth"]])
def test_the_record_of_a_run_that_has_not_begun_is_removed(tmp_path, wrote):
    with pytest.raises(ValueError, match="refused"), start(tmp_path):
        for name in wrote:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        raise ValueError("refused")
    has_begun = wrote not in ([], ["tensorboard/events"])
    assert [(tmp_path / name).exists() for name in ("config.yaml", "run.json")] == [has_begun] * 2


def test_the_record_of_an_earlier_start_is_kept(tmp_path):
    with start(tmp_path):
        pass
    with pytest.raises(ValueError, match="refused"), start(tmp_path):
        raise ValueError("refused")
    assert (tmp_path / "config.yaml").exists() and (tmp_path / "run.json").exists()
