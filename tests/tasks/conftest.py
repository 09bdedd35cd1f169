"""Data that the runs in this folder share."""

import pytest
from tasks import runs


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder of a few generated scenes."""
    return runs.scenes(tmp_path_factory.mktemp("data") / "scenes")
