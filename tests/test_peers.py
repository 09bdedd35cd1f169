"""Tests the error for incompatible versions of torch and torchvision."""

import sys

import pytest

from resdet.errors import Error
from resdet.optional import torchvision


class Broken:
    """An importer that fails like an incompatible torchvision."""

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist\nmore")


def test_incompatible_versions_are_refused(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(
        Error, match=r"torch \S+ and torchvision \S+ are incompatible .*nms does not exist\): run pip install"
    ):
        torchvision()


def test_compatible_versions_are_imported():
    assert torchvision().models.resnet18
