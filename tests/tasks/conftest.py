"""Provides the data of the runs in this folder."""

import pytest
from tasks import runs


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Generates a folder of a few scenes."""
    return runs.scenes(tmp_path_factory.mktemp("data") / "scenes")
