"""Tests the reader of both official layouts of CIFAR-10 on generated files, and on the original data where present."""

import hashlib
import io
import pickle
import tarfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from loopback import serving

from resdet.classification.data import cifar
from resdet.errors import DataError, DownloadError

CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()
FILES = ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]
PLACES = [Path(__file__).parents[3] / "datasets" / "cifar10", Path(__file__).parents[4] / "shared" / "data" / "cifar10"]


@pytest.fixture(scope="module")
def batches() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns a few images per file as [n, 3072], planes of red, green and blue, and their labels [n]."""
    rng = np.random.default_rng(0)
    counts = [3, 4, 2, 1, 5, 6]
    return {
        name: (rng.integers(0, 256, (count, 3072), np.uint8), rng.integers(0, 10, count))
        for name, count in zip(FILES, counts)
    }


def python_files(batches) -> dict[str, bytes]:
    files = {"batches.meta": pickle.dumps({"num_cases_per_batch": 3, "label_names": CLASSES, "num_vis": 3072}, 2)}
    for name, (pixels, labels) in batches.items():
        batch = {"batch_label": name, "labels": labels.tolist(), "data": pixels, "filenames": ["x.png"] * len(labels)}
        files[name] = pickle.dumps(batch, 2)
    return files


def binary_files(batches) -> dict[str, bytes]:
    files = {"batches.meta.txt": "\n".join([*CLASSES, "", ""]).encode(), "readme.html": b"<html>"}
    for name, (pixels, labels) in batches.items():
        files[f"{name}.bin"] = b"".join(bytes([label]) + image.tobytes() for image, label in zip(pixels, labels))
    return files


LAYOUTS = {"cifar-10-batches-py": python_files, "cifar-10-batches-bin": binary_files}
ARCHIVES = {"cifar-10-batches-py": "cifar-10-python.tar.gz", "cifar-10-batches-bin": "cifar-10-binary.tar.gz"}


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def write_archive(archive: Path, folder: str, files: dict[str, bytes]) -> Path:
    with tarfile.open(archive, "w:gz") as tar:
        for name, data in files.items():
            item = tarfile.TarInfo(f"{folder}/{name}")
            item.size = len(data)
            tar.addfile(item, io.BytesIO(data))
    return archive


def check(root: Path, batches) -> None:
    for split, names in {"train": FILES[:5], "test": FILES[5:]}.items():
        found = cifar.read(root, split)
        assert found.images.dtype == np.uint8 and found.labels.dtype == np.int64 and found.classes == CLASSES
        assert found.images.flags.c_contiguous
        np.testing.assert_array_equal(found.labels, np.concatenate([batches[name][1] for name in names]))
        # Official description: "the first 1024 bytes are the red channel values, the next 1024 the green, and the final
        # 1024 the blue", row by row.
        pixels = np.concatenate([batches[name][0] for name in names])
        for channel in range(3):
            for row in (0, 1, 31):
                start = 1024 * channel + 32 * row
                np.testing.assert_array_equal(found.images[:, channel, row], pixels[:, start : start + 32])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_folders(layout, tmp_path, batches):
    folder = write_folder(tmp_path / layout, LAYOUTS[layout](batches))
    check(tmp_path, batches)
    check(folder, batches)
    check(folder.rename(tmp_path / "renamed"), batches)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_archives(layout, tmp_path, batches):
    write_archive(tmp_path / ARCHIVES[layout], layout, LAYOUTS[layout](batches))
    check(tmp_path, batches)
    assert sorted(file.name for file in (tmp_path / layout).iterdir()) == sorted(LAYOUTS[layout](batches))


def test_both_layouts_agree(tmp_path, batches):
    write_folder(tmp_path / "a" / "cifar-10-batches-py", python_files(batches))
    write_folder(tmp_path / "b" / "cifar-10-batches-bin", binary_files(batches))
    a, b = cifar.read(tmp_path / "a", "train"), cifar.read(tmp_path / "b", "train")
    np.testing.assert_array_equal(a.images, b.images)
    np.testing.assert_array_equal(a.labels, b.labels)


def test_a_missing_data_set_names_the_download_command(tmp_path):
    with pytest.raises(DataError, match="holds no CIFAR-10: run `resdet data get cifar10`"):
        cifar.read(tmp_path, "train")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("missing", ["data_batch_4", "batches.meta"])
def test_a_missing_file(layout, missing, tmp_path, batches):
    folder = write_folder(tmp_path / layout, LAYOUTS[layout](batches))
    (file,) = folder.glob(f"{missing}*")
    file.unlink()
    with pytest.raises(DataError, match=rf"{file.name} is missing: .*resdet data get cifar10"):
        cifar.read(tmp_path, "train")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_label_out_of_range_names_file_and_record(layout, tmp_path, batches):
    pixels, labels = batches["data_batch_2"]
    spoiled = {**batches, "data_batch_2": (pixels, np.array([1, 2, 10, 3]))}
    write_folder(tmp_path / layout, LAYOUTS[layout](spoiled))
    with pytest.raises(DataError, match=r"data_batch_2(\.bin)?, record 2: the label 10 is not in 0..9"):
        cifar.read(tmp_path, "train")


def test_a_negative_label_is_refused(tmp_path, batches):
    spoiled = {**batches, "data_batch_2": (batches["data_batch_2"][0], np.array([1, -1, 9, 3]))}
    write_folder(tmp_path / "cifar-10-batches-py", python_files(spoiled))
    with pytest.raises(DataError, match="record 1: the label -1 is not in 0..9"):
        cifar.read(tmp_path, "train")


@pytest.mark.parametrize("length", [0, 3072, 3073 + 1])
def test_a_binary_file_of_odd_size(length, tmp_path, batches):
    files = {**binary_files(batches), "test_batch.bin": bytes(length)}
    write_folder(tmp_path / "cifar-10-batches-bin", files)
    with pytest.raises(DataError, match=f"test_batch.bin has {length} bytes"):
        cifar.read(tmp_path, "test")


def test_a_truncated_pickle(tmp_path, batches):
    files = python_files(batches)
    files["test_batch"] = files["test_batch"][:5000]
    write_folder(tmp_path / "cifar-10-batches-py", files)
    with pytest.raises(DataError, match="test_batch is damaged or not a pickle"):
        cifar.read(tmp_path, "test")


PIXELS = np.zeros((2, 3072), np.uint8)


@pytest.mark.parametrize(
    "batch, sentence",
    [
        ([1, 2], "has no data and labels"),
        ({"data": PIXELS, "fine_labels": [0, 1]}, "has no data and labels"),
        ({"data": PIXELS, "labels": [0]}, "has 1 labels for 2 images"),
        ({"data": PIXELS[:0], "labels": []}, "has 0 labels for 0 images"),
        ({"data": PIXELS, "labels": [0, "cat"]}, "not a list of integers"),
        ({"data": PIXELS, "labels": 1}, "not a list of integers"),
        ({"data": PIXELS[:, 1:], "labels": [0, 1]}, "not bytes"),
        ({"data": PIXELS.astype(np.float32), "labels": [0, 1]}, "not bytes"),
        ({"data": "pixels", "labels": [0, 1]}, "not bytes"),
    ],
)
def test_pickles_of_other_content_are_rejected(batch, sentence, tmp_path, batches):
    write_folder(tmp_path / "cifar-10-batches-py", {**python_files(batches), "test_batch": pickle.dumps(batch)})
    with pytest.raises(DataError, match=f"test_batch.*{sentence}"):
        cifar.read(tmp_path, "test")


@pytest.mark.parametrize(
    "meta, sentence", [({}, "no list of label_names"), ({"label_names": ["cat"]}, "names 1 classes instead of 10")]
)
def test_an_invalid_meta_file_is_rejected(meta, sentence, tmp_path, batches):
    write_folder(tmp_path / "cifar-10-batches-py", {**python_files(batches), "batches.meta": pickle.dumps(meta)})
    with pytest.raises(DataError, match=f"batches.meta.*{sentence}"):
        cifar.read(tmp_path, "test")


@pytest.fixture
def base_url(tmp_path, monkeypatch):
    """Serves the files of tmp_path/published and returns the URL."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "published").mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=tmp_path / "published"))
    with serving(server) as address:
        yield address


@pytest.mark.parametrize("layout", LAYOUTS)
def test_get_then_read(layout, tmp_path, base_url, batches):
    archive = write_archive(tmp_path / "published" / ARCHIVES[layout], layout, LAYOUTS[layout](batches))
    root, data = tmp_path / "datasets" / "cifar10", archive.read_bytes()
    wanted = {"url": f"{base_url}/{archive.name}", "md5": hashlib.md5(data).hexdigest(), "size": len(data)}
    assert cifar.get(root, **wanted) == root / layout
    check(root, batches)
    archive.unlink()
    assert cifar.get(root, **wanted) == root / layout  # without another download


def test_get_rejects_a_file_of_another_size(tmp_path, base_url, batches):
    write_archive(tmp_path / "published" / "cifar-10-python.tar.gz", "cifar-10-batches-py", python_files(batches))
    with pytest.raises(DownloadError, match="170498071"):
        cifar.get(tmp_path / "root", url=f"{base_url}/cifar-10-python.tar.gz")
    with pytest.raises(DataError, match="holds no CIFAR-10"):
        cifar.read(tmp_path / "root", "train")


def test_the_original_data():
    """Compares the numbers of images per class and the mean of the training set with the published values."""
    root = next((place for place in PLACES if any(place.glob("cifar-10-*"))), None)
    if root is None:
        pytest.skip("CIFAR-10 is not at datasets/cifar10: run `resdet data get cifar10`")
    train, test = cifar.read(root, "train"), cifar.read(root, "test")
    assert np.bincount(train.labels).tolist() == [5000] * 10 and np.bincount(test.labels).tolist() == [1000] * 10
    np.testing.assert_allclose(train.images.mean((0, 2, 3)), [125.307, 122.950, 113.865], atol=1e-3)
