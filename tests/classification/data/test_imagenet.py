"""Tests the ImageNet reader on generated data of three classes in each supported layout, and the index of tar files."""

import io
import os
import pickle
import tarfile

import numpy as np
import pytest

from resdet.classification.data.imagenet import class_words, devkit_ids, imagenet
from resdet.data.tar_index import TarImages
from resdet.errors import DataError
from resdet.files.tar_member import OPEN_FILES

BY_DEVKIT_ID = ["n03000001", "n01000001", "n02000001"]  # ILSVRC2012_ID 1, 2, 3
SORTED = sorted(BY_DEVKIT_ID)
WORDS = {"n03000001": "crane, hoist", "n01000001": "tench, Tinca tinca", "n02000001": "crane"}
TRUTH = [3, 1, 2, 2]  # the development kit's IDs of the four validation images
VAL_LABELS = [1, 2, 0, 0]  # computed by hand: ID 3 is n02…, index 1 in sorted order
VAL_NAMES = [f"ILSVRC2012_val_{i:08d}" for i in range(1, 5)]
TRAIN = {f"{synset}/{synset}_{i}.JPEG": f"{synset} {i}".encode() for synset in BY_DEVKIT_ID for i in (1, 2, 10)}
DEVKIT_TAR = "ILSVRC2012_devkit_t12.tar.gz"


def write(root, files):
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


def tar(files, mode="w", **options) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, **options) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def devkit(truth=TRUTH, ids=(1, 2, 3)):
    """Returns the two files of the development kit; meta.mat also has an inner node of WordNet after the classes."""
    from scipy.io import savemat

    fields = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    rows = [(float(i), synset, WORDS[synset], 0.0) for i, synset in zip(ids, BY_DEVKIT_ID)]
    rows.append((4.0, "n00001740", "entity", 3.0))
    buffer = io.BytesIO()
    savemat(buffer, {"synsets": np.array(rows, fields).reshape(-1, 1)})
    lines = "".join(f"{i}\n" for i in truth).encode()
    folder = "ILSVRC2012_devkit_t12/data/"
    return {folder + "meta.mat": buffer.getvalue(), folder + "ILSVRC2012_validation_ground_truth.txt": lines}


def class_tars():
    return {
        f"{synset}.tar": tar({name.split("/")[1]: data for name, data in TRAIN.items() if name.startswith(synset)})
        for synset in BY_DEVKIT_ID
    }


def webdataset(shard):
    names = sorted(TRAIN)[shard::2]
    files = {}
    for name in names:
        key = name.split("/")[1].removesuffix(".JPEG")
        files |= {f"{key}.jpg": TRAIN[name], f"{key}.cls": str(SORTED.index(name[:9])).encode(), f"{key}.json": b"{}"}
    return tar(files)


def val_files(folder=""):
    return {f"{folder}{name}.JPEG": name.encode() for name in VAL_NAMES}


KAGGLE_VAL = b"ImageId,PredictionString\n" + b"".join(
    f"{name},{BY_DEVKIT_ID[i - 1]} 85 1 499 272 {BY_DEVKIT_ID[i - 1]} 1 2 3 4 \n".encode()
    for name, i in reversed(list(zip(VAL_NAMES, TRUTH)))
)
KAGGLE_WORDS = b"".join(f"{synset} {WORDS[synset]}\n".encode() for synset in SORTED)

TRAIN_LAYOUTS = {
    "folders": lambda: {f"train/{name}": data for name, data in TRAIN.items()},
    "kaggle": lambda: {f"ILSVRC/Data/CLS-LOC/train/{name}": data for name, data in TRAIN.items()},
    "official tar": lambda: {"ILSVRC2012_img_train.tar": tar(class_tars())},
    "official tar in train": lambda: {"train/ILSVRC2012_img_train.tar": tar(class_tars())},
    "class tars": lambda: {f"train/{name}": data for name, data in class_tars().items()},
    "tar of folders": lambda: {"train/all.tar": tar({f"./train/{name}": data for name, data in TRAIN.items()})},
    "webdataset": lambda: {"train/0.tar": webdataset(0), "train/1.tar": webdataset(1), **devkit()},
}


@pytest.mark.parametrize("layout", TRAIN_LAYOUTS)
def test_every_layout_of_train_yields_the_same_images_and_labels(tmp_path, layout):
    write(tmp_path, TRAIN_LAYOUTS[layout]())
    images = imagenet(tmp_path, "train")
    assert images.classes == SORTED and images.labels.dtype == np.int64
    read = {images.image(i).data: SORTED[images.labels[i]] for i in range(len(images))}
    assert read == {data: name[:9] for name, data in TRAIN.items()}
    assert images.image(0).name == images.name(0)
    assert pickle.loads(pickle.dumps(images)).image(4).data == images.image(4).data


def validation(root):
    images = imagenet(root, "val")
    assert images.classes == SORTED
    assert [images.image(i).data.decode() for i in range(len(images))] == VAL_NAMES
    return images.labels.tolist()


@pytest.mark.parametrize(
    "files",
    [
        lambda: val_files("val/") | devkit(),
        lambda: val_files("val/") | {DEVKIT_TAR: tar(devkit(), "w:gz")},
        lambda: {"ILSVRC2012_img_val.tar": tar(dict(reversed(val_files().items())))} | devkit(),
        lambda: {"val/ILSVRC2012_img_val.tar": tar(val_files()), DEVKIT_TAR: tar(devkit(), "w:gz")},
        lambda: val_files("ILSVRC/Data/CLS-LOC/val/") | {"LOC_val_solution.csv": KAGGLE_VAL},
        lambda: (
            val_files("ILSVRC/Data/CLS-LOC/val/")
            | {"LOC_val_solution.csv": KAGGLE_VAL, "LOC_synset_mapping.txt": KAGGLE_WORDS}
        ),
    ],
    ids=["flat", "flat, packed devkit", "tar", "tar in val", "kaggle", "kaggle with words"],
)
def test_validation_images_are_labeled_by_name(tmp_path, files):
    write(tmp_path, files())
    assert validation(tmp_path) == VAL_LABELS


def test_validation_in_class_folders_needs_no_devkit(tmp_path):
    write(tmp_path, {f"val/{BY_DEVKIT_ID[i - 1]}/{name}.JPEG": name.encode() for name, i in zip(VAL_NAMES, TRUTH)})
    images = imagenet(tmp_path, "val")
    labels = {images.image(i).data.decode(): images.labels[i] for i in range(4)}
    assert images.classes == SORTED and labels == dict(zip(VAL_NAMES, VAL_LABELS))


@pytest.mark.parametrize(
    "files",
    [
        lambda: {"test/ILSVRC2012_test_00000002.JPEG": b"2", "test/ILSVRC2012_test_00000001.JPEG": b"1"},
        lambda: {
            "ILSVRC2012_img_test_v10102019.tar": tar(
                {"test/ILSVRC2012_test_00000002.JPEG": b"2", "test/ILSVRC2012_test_00000001.JPEG": b"1"}
            )
        },
    ],
    ids=["flat", "tar"],
)
def test_test_images_have_no_labels(tmp_path, files):
    write(tmp_path, files())
    images = imagenet(tmp_path, "test")
    assert images.labels.tolist() == [-1, -1] and images.classes == []
    assert [images.image(i).data for i in range(2)] == [b"1", b"2"]
    write(tmp_path, devkit())
    assert imagenet(tmp_path, "test").classes == SORTED


def test_devkit_order_and_words(tmp_path):
    assert class_words(tmp_path) == {}
    write(tmp_path, {DEVKIT_TAR: tar(devkit(), "w:gz")})
    assert devkit_ids(tmp_path) == BY_DEVKIT_ID
    assert class_words(tmp_path) == WORDS
    write(tmp_path / "kaggle", {"LOC_synset_mapping.txt": KAGGLE_WORDS})
    assert class_words(tmp_path / "kaggle") == WORDS


@pytest.mark.parametrize(
    "files, what",
    [
        (lambda: {}, "neither a folder val nor ILSVRC2012_img_val.tar: download it from https://image-net.org"),
        (lambda: {"val/readme.txt": b""}, "val has no known layout"),
        (lambda: val_files("val/"), "meta.mat is missing: put ILSVRC2012_devkit_t12.tar.gz from https://image-net.org"),
        (lambda: val_files("val/") | devkit(TRUTH[:3]), "4 validation images but 3 labels"),
        (lambda: val_files("val/") | devkit([3, 1, 4, 2]), "ground_truth.txt, line 3: 4 is not an id from 1 to 3"),
        (lambda: val_files("val/") | devkit([3, "x", 1, 2]), "line 2: x is not an id"),
        (lambda: val_files("val/") | devkit(ids=(1, 2, 5)), "has invalid class numbers"),
        (lambda: {f"val/{i}.JPEG": b"" for i in range(4)} | devkit(), "val/0.JPEG has no label"),
        (lambda: val_files("val/") | {DEVKIT_TAR: tar(devkit(), "w:gz")[:-300]}, "devkit_t12.tar.gz is damaged"),
        (lambda: val_files("val/") | {"ILSVRC2012_devkit_t12/data/meta.mat": b"<html>"}, "meta.mat .* is damaged"),
    ],
)
def test_errors_name_the_missing_or_invalid_file(tmp_path, files, what):
    write(tmp_path, files())
    with pytest.raises(DataError, match=what):
        imagenet(tmp_path, "val")


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_in_each_tar_format(tmp_path, format):
    name = "d" * 90 + "/cat/" + "n" * 60 + ".jpg"
    write(tmp_path, {"a.tar": tar({name: b"x" * 1000, "d/cat/b.jpg": b"y", "d/cat/._b.jpg": b"z"}, format=format)})
    images = TarImages([tmp_path / "a.tar"])
    assert {images.name(i): images.image(i).data for i in range(len(images))} == {
        f"{tmp_path}/a.tar:{name}": b"x" * 1000,
        f"{tmp_path}/a.tar:d/cat/b.jpg": b"y",
    }
    assert images.classes == ["cat"]


def test_the_number_of_open_tars_is_limited(tmp_path):
    paths = [tmp_path / f"{i:03d}.tar" for i in range(OPEN_FILES + 9)]
    write(tmp_path, {path.name: tar({"a.jpg": path.stem.encode()}) for path in paths})
    images = TarImages(paths)
    before = len(os.listdir("/proc/self/fd"))
    assert [images.image(i).data.decode() for i in range(len(images))] == [path.stem for path in paths]
    assert len(os.listdir("/proc/self/fd")) - before <= OPEN_FILES
    assert images.classes == [path.stem for path in paths] and images.labels.tolist() == list(range(len(paths)))


def test_the_tar_index_is_cached_until_the_file_changes(tmp_path, monkeypatch):
    write(tmp_path, {"a.tar": tar({"cat/1.jpg": b"1"})})
    TarImages([tmp_path / "a.tar"])
    with monkeypatch.context() as patch:
        patch.setattr(tarfile, "open", None)
        assert TarImages([tmp_path / "a.tar"]).image(0).data == b"1"
    write(tmp_path, {"a.tar": tar({"cat/1.jpg": b"1", "dog/2.jpg": b"2"})})
    assert TarImages([tmp_path / "a.tar"]).image(1).data == b"2"


def test_class_names_given_for_tars(tmp_path):
    write(tmp_path, {"a.tar": tar({"cat/1.jpg": b"", "dog/2.jpg": b""}), "b.tar": tar({"1.jpg": b"", "1.cls": b"2\n"})})
    assert TarImages([tmp_path / "a.tar"], ["dog", "emu", "cat"]).labels.tolist() == [2, 0]
    assert TarImages([tmp_path / "b.tar"], ["dog", "emu", "cat"]).labels.tolist() == [2]
    assert TarImages([tmp_path / "b.tar"]).classes == ["0", "1", "2"]
    with pytest.raises(DataError, match="a.tar:dog/2.jpg has class dog, not one of the 1 classes"):
        TarImages([tmp_path / "a.tar"], ["cat"])
    with pytest.raises(DataError, match="b.tar:1.jpg has the label 2, but there are 2 classes"):
        TarImages([tmp_path / "b.tar"], ["dog", "emu"])


WHOLE = tar({"cat/1.jpg": b"1" * 700, "dog/2.jpg": b"2" * 700})


@pytest.mark.parametrize(
    "data, what",
    [
        (b"", "damaged or truncated"),
        (b"<html>" * 200, "damaged or truncated"),
        (WHOLE[:100], "damaged or truncated"),
        (WHOLE[:700], "damaged or truncated"),  # within the first image
        (WHOLE[: 512 + 1024], "damaged or truncated"),  # between the images
        (WHOLE[: 512 + 1024 + 100], "damaged or truncated"),
        (WHOLE[: 512 + 1024 + 512 + 700], "damaged or truncated"),
        (WHOLE[:1536] + b"\1" * 512 + WHOLE[2048:], "damaged or truncated"),
        (tar({"n01.tar": WHOLE[:1000]}), "damaged or truncated"),
        pytest.param(tar({"a/1.jpg": b""}, "w:gz"), "is compressed", id="compressed"),  # its bytes differ in each run
        (tar({"readme.txt": b""}), "holds no images"),
        (tar({"1.jpg": b"", "1.cls": b"x"}), "a.tar:1.cls: b'x'"),
        (tar({"1.jpg": b"", "1.cls": b"-1"}), "a.tar:1.cls: b'-1'"),
        (tar({"1.jpg": b"", "1.cls": b"9" * 30}), "a.tar:1.cls: b"),
        (tar({"1.jpg": b"", "1.cls": b"0", "2.jpg": b""}), "a.tar:2.jpg has no .cls file, but others"),
    ],
)
def test_broken_tars_raise_data_errors(tmp_path, data, what):
    write(tmp_path, {"a.tar": data})
    with pytest.raises(DataError, match=what):
        TarImages([tmp_path / "a.tar"])


def test_mixed_label_kinds_and_truncated_files_are_rejected(tmp_path):
    write(tmp_path, {"a.tar": tar({"1.jpg": b"", "1.cls": b"0"}), "b.tar": tar({"c/1.jpg": b"1" * 9000})})
    with pytest.raises(DataError, match="with and without .cls labels"):
        TarImages([tmp_path / "a.tar", tmp_path / "b.tar"])
    images = TarImages([tmp_path / "b.tar"])
    os.truncate(tmp_path / "b.tar", 2000)
    with pytest.raises(DataError, match="b.tar:c/1.jpg is truncated"):
        images.image(0)
    with pytest.raises(DataError, match="c.tar: cannot read the file"):
        TarImages([tmp_path / "c.tar"])
