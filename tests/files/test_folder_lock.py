"""Checks the lock of a folder when processes end, start and take over; tests of runs check that it excludes others."""

import pytest

from resdet.errors import FileError
from resdet.files import folder_lock
from resdet.files.folder_lock import LOCK, in_use, is_current, release, try_lock


def test_releasing_a_lost_lock_keeps_the_new_one(tmp_path):
    folder = tmp_path / "run"
    lost = try_lock(folder)
    (folder / LOCK).unlink()
    lock = try_lock(folder)
    release(lost, folder)
    assert is_current(lock, folder)
    release(lock, folder)
    assert not folder.exists()


def test_release_keeps_a_folder_with_files(tmp_path):
    lock = try_lock(tmp_path)
    (tmp_path / "a").touch()
    release(lock, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_release_keeps_a_link_to_an_empty_folder(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    release(try_lock(tmp_path / "link"), tmp_path / "link")
    assert [*(tmp_path / "link").iterdir()] == []


def test_a_removed_lock_file_is_locked_again(tmp_path, monkeypatch):
    """Removes the lock file right after it is locked, like a process that ends."""
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


def test_a_file_in_place_of_a_folder_is_refused(tmp_path):
    (tmp_path / "a").touch()
    with pytest.raises(FileError, match="a: cannot write there .*give another folder"):
        try_lock(tmp_path / "a")


def test_a_lock_released_while_its_owner_is_looked_up_is_not_an_error(tmp_path):
    assert in_use(tmp_path).endswith("is in use by another process: wait until it ends, or give another folder.")
    lock = try_lock(tmp_path)
    assert "is in use by process " in in_use(tmp_path)
    release(lock, tmp_path)
