"""The lock of a folder between processes that end, start and take over. Exclusion is tested with runs."""

import pytest

from resdet.errors import FileError
from resdet.files import folder_lock
from resdet.files.folder_lock import LOCK, is_current, release, try_lock


def test_a_lock_that_was_taken_over_is_left_alone(tmp_path):
    folder = tmp_path / "run"
    lost = try_lock(folder)
    (folder / LOCK).unlink()
    lock = try_lock(folder)
    release(lost, folder)
    assert is_current(lock, folder)
    release(lock, folder)
    assert not folder.exists()


def test_a_folder_with_files_stays(tmp_path):
    lock = try_lock(tmp_path)
    (tmp_path / "a").touch()
    release(lock, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_lock_file_that_is_removed_while_it_is_locked(tmp_path, monkeypatch):
    """By a process that ends."""
    lock_or_fail, locked = folder_lock.lock_or_fail, []

    def late(file):
        lock_or_fail(file)
        if not locked:
            (tmp_path / LOCK).unlink()
        locked.append(file)

    monkeypatch.setattr(folder_lock, "lock_or_fail", late)
    lock = try_lock(tmp_path)
    assert len(locked) == 2 and is_current(lock, tmp_path)
    assert (tmp_path / LOCK).read_text().startswith("process ")
    release(lock, tmp_path)


def test_a_file_in_place_of_a_folder(tmp_path):
    (tmp_path / "a").touch()
    with pytest.raises(FileError, match="a: cannot write there .*give another folder"):
        try_lock(tmp_path / "a")
