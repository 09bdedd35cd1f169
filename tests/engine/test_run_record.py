"""Checks the record of a run's settings."""

import subprocess

import pytest

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
