"""Checks that archives are unpacked completely, in part, or not at all."""

import io
import os
import random
import tarfile
import zipfile
from pathlib import Path

import pytest

from resdet.errors import DataError
from resdet.files.archive import unpack

PAYLOAD = random.Random(0).randbytes(300_000)
FILES = {"set/a.txt": b"a", "set/deep/b.txt": b"b", "settings.txt": b"c"}


def tar_item(name: str, **fields) -> tarfile.TarInfo:
    item = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(item, field, value)
    return item


def write_tar(path: Path, files: dict[str, bytes], *items: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for name, data in files.items():
            tar.addfile(tar_item(name, size=len(data)), io.BytesIO(data))
        for item in items:
            tar.addfile(item)
    return path


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as zipped:
        for name, data in files.items():
            zipped.writestr(name, data)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("name, write", [("x.tar", write_tar), ("x.tar.gz", write_tar), ("x.zip", write_zip)])
def test_unpacks_all_or_one_folder(tmp_path, name, write):
    archive = write(tmp_path / name, FILES)
    assert contents(unpack(archive, tmp_path / "all")) == FILES
    assert contents(unpack(archive, tmp_path / "one", "set")) == {"a.txt": b"a", "deep/b.txt": b"b"}
    assert sorted(os.listdir(tmp_path)) == ["all", "one", name]


def test_an_existing_folder_is_not_changed(tmp_path):
    archive = write_tar(tmp_path / "x.tar", FILES)
    (tmp_path / "all").mkdir()
    assert contents(unpack(archive, tmp_path / "all")) == {}


@pytest.mark.parametrize(
    "item",
    [
        tar_item("../evil"),
        tar_item("set/../../evil"),
        tar_item("set/link", type=tarfile.SYMTYPE, linkname="../../evil"),
        tar_item("set/link", type=tarfile.SYMTYPE, linkname="/etc"),
        tar_item("set/link", type=tarfile.LNKTYPE, linkname="../evil"),
        tar_item("set/pipe", type=tarfile.FIFOTYPE),
    ],
    ids=lambda item: f"{item.name} {item.linkname}",
)
def test_unsafe_items_are_refused_and_leave_no_files(tmp_path, item):
    archive = write_tar(tmp_path / "x.tar", FILES, item)
    with pytest.raises(DataError, match="x.tar cannot be unpacked"):
        unpack(archive, tmp_path / "here" / "all")
    assert sorted(os.listdir(tmp_path)) == ["here", "x.tar"] and os.listdir(tmp_path / "here") == []


@pytest.mark.parametrize("name, write", [("x.tar", write_tar), ("x.zip", write_zip)])
def test_absolute_names_become_relative(tmp_path, name, write):
    """Unpacks absolute names as relative ones, as tar and unzip do."""
    inside = str(tmp_path / "evil")
    archive = write(tmp_path / name, {inside: b"x"})
    assert contents(unpack(archive, tmp_path / "all")) == {inside[1:]: b"x"}
    assert not Path(inside).exists()


def test_parent_folders_in_zip_names_are_removed(tmp_path):
    archive = write_zip(tmp_path / "x.zip", {"../evil": b"x"})
    assert contents(unpack(archive, tmp_path / "here" / "all")) == {"evil": b"x"}
    assert sorted(os.listdir(tmp_path)) == ["here", "x.zip"]


@pytest.mark.parametrize("name, write", [("x.tar", write_tar), ("x.tar.gz", write_tar), ("x.zip", write_zip)])
@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 3], lambda data: b"<html>no</html>"], ids=["truncated", "a page"]
)
def test_damaged_archives_are_refused(tmp_path, name, write, damage):
    archive = write(tmp_path / name, {"set/big": PAYLOAD})
    archive.write_bytes(damage(archive.read_bytes()))
    with pytest.raises(DataError, match=f"{name} cannot be unpacked .*: delete it and download it again"):
        unpack(archive, tmp_path / "all")
    assert os.listdir(tmp_path) == [name]


def test_a_wrong_checksum_is_refused(tmp_path):
    archive = write_tar(tmp_path / "x.tar.gz", {"set/big": PAYLOAD})
    data = bytearray(archive.read_bytes())
    data[-6] ^= 1  # a byte of the checksum
    archive.write_bytes(data)
    with pytest.raises(DataError, match="delete it and download it again"):
        unpack(archive, tmp_path / "all")


def test_missing_archives_and_folders_are_errors(tmp_path):
    with pytest.raises(DataError, match="nowhere.tar: no such file"):
        unpack(tmp_path / "nowhere.tar", tmp_path / "all")
    with pytest.raises(DataError, match="contains no folder sets"):
        unpack(write_tar(tmp_path / "x.tar", FILES), tmp_path / "all", "sets")


@pytest.mark.parametrize("offset, value", [(6, 1), (8, 77)], ids=["encrypted", "compression"])
def test_encrypted_and_unknown_compression_is_refused(tmp_path, offset, value):
    """Sets a field of the local header and its copy in the central directory, which is two bytes further on."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.txt", "text")
    data = bytearray(buffer.getvalue())
    data[offset] = data[data.index(b"PK\x01\x02") + offset + 2] = value
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(DataError, match="x.zip cannot be unpacked"):
        unpack(tmp_path / "x.zip", tmp_path / "folder")
