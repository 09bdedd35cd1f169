"""Provides the data of the runs in this folder."""

import pytest
from tasks import runs


@pytest.fixture(scope="module")
def root(module_folder):
    """Generates a folder of a few scenes."""
    return runs.scenes(module_folder("data") / "scenes")
