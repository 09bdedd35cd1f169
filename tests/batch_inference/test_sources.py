"""Tests the sources of `resdet predict --parquet`: folders, globs, archives, Parquet files and addresses."""

import io
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from batch_inference.runs import NAMES, WORDS, classifier, rows, use

pytestmark = pytest.mark.usefixtures("photos")


def test_linked_folders_are_entered_and_broken_links_are_rows(tmp_path, command, photos):
    """Links a folder twice below the root and once to a folder that contains the link; adds a hidden file."""
    photos.rename(tmp_path / "other")
    (tmp_path / "photos/deep").mkdir(parents=True)
    for name in ("photos/a", "photos/deep/b"):
        (tmp_path / name).symlink_to(tmp_path / "other/more")
    (tmp_path / "photos/deep/loop").symlink_to(tmp_path / "photos")
    (tmp_path / "photos/lost.jpg").symlink_to(tmp_path / "absent.jpg")
    (tmp_path / "photos/._lost.jpg").write_bytes(b"")
    (tmp_path / "photos/folder.jpg").mkdir()
    use(classifier())
    assert command(*WORDS).returncode == 0
    found = {row["image"]: row["error"] for row in rows(tmp_path / "out")}
    assert [*found] == [f"photos/{name}/{k}.png" for name in ("a", "deep/b") for k in (0, 3, 6)] + ["photos/lost.jpg"]
    assert "photos/lost.jpg: cannot read the file" in found.pop("photos/lost.jpg")
    assert not any(found.values())


def packed_tar(folder: Path) -> str:
    with tarfile.open(folder / "photos.tar", "w") as tar:
        for name in NAMES:
            tar.add(folder / "photos" / name, name)
        tar.addfile(tarfile.TarInfo("0.cls"), io.BytesIO())
    return "photos.tar"


def packed_parquet(folder: Path) -> str:
    """Writes the images in the format of Hugging Face datasets, in several row groups."""
    content = [{"bytes": (folder / "photos" / name).read_bytes(), "path": None} for name in NAMES]
    table = pa.table({"label": [0] * len(NAMES), "data": content, "file_name": NAMES})
    pq.write_table(table, folder / "photos.parquet", row_group_size=4)
    return "photos.parquet"


def remote(folder: Path) -> str:
    pytest.importorskip("fsspec")
    return (folder / "photos").as_uri()


def remote_tar(folder: Path) -> str:
    pytest.importorskip("fsspec")
    packed_tar(folder)
    return (folder / "photos.tar").as_uri()


@pytest.mark.parametrize("pack", [packed_tar, packed_parquet, remote, remote_tar])
def test_archives_and_remote_sources_give_the_same_rows(tmp_path, command, pack):
    use(classifier())
    assert command(*WORDS).returncode == 0
    expected = rows(tmp_path / "out")
    done = command("predict", "--weights", "net.pth", pack(tmp_path), "--parquet", "packed", "--part", 3)
    assert done.returncode == 0, done.stderr
    found = rows(tmp_path / "packed")
    assert all(row["image"].endswith(name) and "photos" in row["image"] for row, name in zip(found, NAMES))
    without = lambda table: [{**row, "image": None, "error": bool(row["error"])} for row in table]
    assert without(found) == without(expected)


def test_a_compressed_archive_is_refused(tmp_path, command):
    use(classifier())
    for name in ("photos.tar.gz", "photos.ZIP"):
        (tmp_path / name).write_bytes(b"")
        done = command(*WORDS, name)
        assert done.returncode == 2 and f"{name} is compressed: unpack it" in done.stderr


def test_globs_and_suffixes_in_upper_case(tmp_path, command):
    use(classifier())
    Path(tmp_path / packed_tar(tmp_path)).rename(tmp_path / "PHOTOS.TAR")
    Path(tmp_path / packed_parquet(tmp_path)).rename(tmp_path / "photos.Parquet")
    assert command(*WORDS[:3], "photos/*.png", "*.TAR", "*.Parquet", *WORDS[4:]).returncode == 0
    found = [row["image"] for row in rows(tmp_path / "out")]
    files = [f"photos/{name}" for name in NAMES if name.endswith(".png") and "/" not in name]
    assert sorted(found) == sorted(
        [f"{pack}:{name}" for pack in ("PHOTOS.TAR", "photos.Parquet") for name in NAMES] + files
    )


@pytest.mark.parametrize("name", ["absent.tar", "absent.parquet", "file:///absent", "madeup://absent"])
def test_missing_sources_are_reported(command, name):
    use(classifier())
    done = command("predict", "--weights", "net.pth", name, "--parquet", "out")
    assert done.returncode == 2 and name in done.stderr and done.stderr.count("\n") == 1
