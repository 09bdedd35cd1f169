"""Data that the runs in this folder share."""

import pytest
from tasks import runs


@pytest.fixture(scope="module")
def root(module_folder):
    """A folder of a few generated scenes."""
    return runs.scenes(module_folder("data") / "scenes")
