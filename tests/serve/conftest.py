"""Provides a fixture that starts servers in the test's process."""

import gc

import pytest

pytest.importorskip("starlette", reason="resdet[serve] is not installed")
pytest.importorskip("uvicorn", reason="resdet[serve] is not installed")


@pytest.fixture
def serve():
    from serve.serving import Servers

    servers = Servers()
    yield servers
    servers.stop()


@pytest.fixture(autouse=True)
def collectable():
    """Undoes `freeze` of the server's thread."""
    threshold = gc.get_threshold()
    yield
    gc.set_threshold(*threshold)
    gc.unfreeze()
