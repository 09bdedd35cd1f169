"""torch and torchvision that do not fit each other: a sentence instead of a traceback from inside."""

import sys

import pytest

from resdet.errors import Error
from resdet.optional import torchvision


class Broken:
    """An importer that fails as a mismatched torchvision does."""

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist\nmore")


def test_a_pair_that_does_not_fit(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(
        Error, match=r"torch \S+ and torchvision \S+ are incompatible .*nms does not exist\): run pip install"
    ):
        torchvision()


def test_a_pair_that_fits():
    assert torchvision().models.resnet18
