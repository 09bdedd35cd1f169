"""Tests which failures of remote storage are retried, without a network."""

from types import SimpleNamespace

import pytest

from resdet.errors import DataError, DownloadError
from resdet.files import retry, storage

RETRIES = 2


def missing(status: int) -> FileNotFoundError:
    """The error that fsspec's HTTP file system raises for any fault."""
    error = FileNotFoundError("a.jpg")
    error.__cause__ = Exception()
    error.__cause__.status = status
    return error


@pytest.mark.parametrize(
    "error, raised, sentence, requests",
    [
        (ImportError("No module named 's3fs'"), DataError, "pip install 'resdet.remote.'", 1),
        (DataError("s3://a has no protocol."), DataError, "s3://a has no protocol.", 1),
        (FileNotFoundError("a.jpg"), FileNotFoundError, "a.jpg", 1),
        (missing(404), FileNotFoundError, "a.jpg", 1),
        (missing(503), DownloadError, "cannot be downloaded .a.jpg", 1 + RETRIES),
        (PermissionError("denied"), DownloadError, "cannot be downloaded .denied", 1),
        (IsADirectoryError("a folder"), DownloadError, "cannot be downloaded .a folder", 1),
        (NotADirectoryError("a file"), DownloadError, "cannot be downloaded .a file", 1),
        (ConnectionResetError("reset"), DownloadError, "cannot be downloaded .reset", 1 + RETRIES),
        (RuntimeError(), DownloadError, "cannot be downloaded .RuntimeError", 1 + RETRIES),
    ],
)
def test_temporary_failures_are_retried(monkeypatch, error, raised, sentence, requests):
    asked = []

    def cat_file(address):
        asked.append(address)
        raise error

    monkeypatch.setattr(retry, "PAUSES", (0.0,) * RETRIES)
    monkeypatch.setattr(storage, "_file_system", lambda address: SimpleNamespace(cat_file=cat_file))
    with pytest.raises(raised, match=sentence):
        storage.fetch("s3://photos/a.jpg")
    assert len(asked) == requests
