"""Compares image folders with torchvision's ImageFolder, and checks packed strings and the cached index."""

import multiprocessing
import os
import pickle
import time

import numpy as np
import pytest

from resdet.classification.data.config import FolderConfig
from resdet.classification.data.shards import open_folder
from resdet.data.array_cache import Strings, cached
from resdet.data.folder import ImageFolder
from resdet.errors import DataError

FILES = [
    "dog/b.jpg",
    "dog/a.JPG",
    "dog/sub/z.png",
    "dog/sub-a/y.png",
    "cat/1.webp",
    "cat/10.jpeg",
    "cat/2.bmp",
    "Ziège/ü.jpg",
    "Ziège/notes.txt",
    "dog/readme",
]


def touch(root, names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


def test_order_and_labels_match_torchvision(tmp_path):
    from torchvision.datasets import ImageFolder as Reference

    touch(tmp_path / "set", FILES)
    touch(tmp_path / "elsewhere", ["deep/1.png", "2.png"])
    for link in ("linked", "dog/linked"):
        (tmp_path / "set" / link).symlink_to(tmp_path / "elsewhere")
    ours, reference = ImageFolder(tmp_path / "set"), Reference(str(tmp_path / "set"))
    assert ours.classes == reference.classes
    assert [(ours.name(i), label) for i, label in enumerate(ours.labels)] == reference.samples
    assert ours.labels.dtype == np.int64 and len(ours) == 8 + 2 * 2


def test_images_are_read_and_hidden_files_are_not(tmp_path):
    touch(tmp_path, ["a/x.png", "a/.x.png", "a/.cache/y.png", ".git/z.png", "__MACOSX/a/._x.png", "readme.md"])
    images = ImageFolder(tmp_path)
    assert images.classes == ["a"] and len(images) == 1
    assert images.image(0).data == b"a/x.png" and images.image(0).name == f"{tmp_path}/a/x.png"
    copy = pickle.loads(pickle.dumps(images))
    assert copy.name(0) == images.name(0) and copy.classes == ["a"]
    (tmp_path / "a/x.png").unlink()
    with pytest.raises(DataError, match="a/x.png: cannot read the file"):
        images.image(0)


def test_given_classes_determine_the_labels(tmp_path):
    touch(tmp_path, ["cat/1.png", "dog/1.png"])
    assert ImageFolder(tmp_path, ["dog", "cat"]).labels.tolist() == [0, 1]
    assert ImageFolder(tmp_path, ["dog", "cat"]).name(0).endswith("dog/1.png")
    with pytest.raises(DataError, match="/dog is not one of the 1 classes"):
        ImageFolder(tmp_path, ["cat"])


def test_a_validation_folder_may_lack_classes(tmp_path):
    """Checks that labels come from the training folder, and that a folder without images is refused."""
    touch(tmp_path, ["cat/1.png", "dog/readme.md", "fox/1.png"])
    images = ImageFolder(tmp_path, ["ant", "cat", "dog", "fox"])
    assert images.labels.tolist() == [1, 3] and images.classes == ["ant", "cat", "dog", "fox"]
    assert images.note == f"{tmp_path} has no images of the class ant and of 1 other class"
    assert ImageFolder(tmp_path, ["cat", "dog", "fox"]).note == f"{tmp_path} has no images of the class dog"
    (tmp_path / "fox/1.png").unlink()
    (tmp_path / "cat/1.png").unlink()
    with pytest.raises(DataError, match="/ant has no images"):
        ImageFolder(tmp_path, ["ant", "cat", "dog", "fox"])


def test_a_missing_validation_folder_is_an_error(tmp_path):
    touch(tmp_path, ["train/cat/1.png"])
    with pytest.raises(DataError, match="val is missing: put images of each class there, or check data.root"):
        open_folder(tmp_path, "val", "train")


def opened(root, split, **settings):
    """Returns the paths of a split, as in folder.yaml, relative to `root`, with their classes."""
    source = FolderConfig(root=str(root), **settings).open(split)
    return {os.path.relpath(source.name(i), root): source.classes[source.labels[i]] for i in range(len(source))}


@pytest.mark.parametrize("tree", ["", "train/"], ids=["no tree", "no validation tree"])
def test_a_share_of_each_class_is_for_validation(tmp_path, tree):
    """Splits 10, 2 and 1 images into 2, 1 and 0 for validation."""
    counts = {"ant": 10, "bee": 2, "Ziège": 1}
    names = [f"{tree}{name}/{number}.png" for name, count in counts.items() for number in range(count)]
    touch(tmp_path, [*names, "test/ant/1.png"] if tree else names)
    train, val = opened(tmp_path, "train"), opened(tmp_path, "val")
    assert sorted([*train, *val]) == sorted(names) and not train.keys() & val.keys()
    assert [list(val.values()).count(name) for name in counts] == [2, 1, 0]
    assert FolderConfig(root=str(tmp_path)).open("val").classes == ["Ziège", "ant", "bee"]
    assert opened(tmp_path, "val") == val and opened(tmp_path, "val", seed=1) != val
    assert len(opened(tmp_path, "val", val_share=0.5)) == 5 + 1
    assert "3 of the 13 images" in FolderConfig(root=str(tmp_path)).open("train").note


def test_few_images_change_sides_when_others_are_added(tmp_path):
    touch(tmp_path, [f"train/ant/{number}.png" for number in range(100)])
    before = opened(tmp_path, "val")
    touch(tmp_path, ["train/ant/100.png"])
    assert len(before) == 20 and len(before.keys() - opened(tmp_path, "val").keys()) <= 1


@pytest.mark.parametrize(
    "files, message",
    [
        (["train/ant/1.png", "valid/ant/1.png"], "has no folder val, but valid: set data.val to"),
        (["train/ant/1.png", "Validation/ant/1.png"], "has no folder val, but Validation: set data.val to"),
        (
            ["Training/ant/1.png", "testing/ant/1.png"],
            "has no folder train, but Training, testing: set data.train and data.val to",
        ),
        (["ant/1.png", "test/1.png"], "has no folder train, but test: .*, or move all class folders into .*train if"),
        (["bus/1.png", "train/1.png"], "train has no class folders: put the images"),
        (["ant/1.png", "val/1.png"], "val has no class folders: put the images"),
        (["ant/1.png", "bee/1.png"], "one image of each class"),
        (["Images/1.jpg", "masks/1.jpg"], "the folders Images and masks are not classes; docs/data.md"),
        (["train/images/1.jpg", "train/masks/1.png"], "train: the folders images and masks are not classes"),
        (["photos/ant/1.png", "photos/ant/2.png"], "has a single folder, photos: give a folder with train and val"),
    ],
)
def test_trees_of_other_names_are_not_classes(tmp_path, files, message):
    touch(tmp_path, files)
    with pytest.raises(DataError, match=message):
        opened(tmp_path, "val")


def test_a_missing_training_tree_is_refused_in_training_only(tmp_path):
    """Evaluation matches the classes of the validation tree to the model's, so it needs no training tree."""
    touch(tmp_path, ["val/ant/1.png", "val/bee/1.png"])
    assert opened(tmp_path, "val") == {"val/ant/1.png": "ant", "val/bee/1.png": "bee"}
    with pytest.raises(DataError, match="train is missing: put images of each class there, or check .* data.train"):
        opened(tmp_path, "train")


def test_a_validation_tree_in_capitals_does_not_cause_a_split(tmp_path):
    """Opens the tree where file systems ignore case, and refuses it elsewhere."""
    touch(tmp_path, [*(f"train/ant/{number}.png" for number in range(4)), "VAL/ant/5.png"])
    if (tmp_path / "val").is_dir():
        assert len(opened(tmp_path, "train")) == 4
    else:
        with pytest.raises(DataError, match="has no folder val, but VAL: set data.val to"):
            opened(tmp_path, "train")


def test_a_named_tree_that_is_missing_is_an_error(tmp_path):
    touch(tmp_path, ["ant/1.png", "ant/2.png", "bee/1.png"])
    with pytest.raises(DataError, match="test is missing: put images of each class there"):
        opened(tmp_path, "val", val="test")
    with pytest.raises(DataError, match="photos: cannot list the folder"):
        opened(tmp_path, "train", train="photos")


def test_missing_folders_and_images_are_errors(tmp_path):
    with pytest.raises(DataError, match="nowhere: cannot list the folder"):
        ImageFolder(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no class folders"):
        ImageFolder(tmp_path)
    touch(tmp_path, ["cat/1.png", "dog/1.txt"])
    with pytest.raises(DataError, match="/dog has no images"):
        ImageFolder(tmp_path)


def test_packed_strings_are_unpacked():
    words = ["", "a", "Ziège", "漢字", "caf\udce9"]  # the last one is a Latin-1 file name as decoded by Python
    strings = Strings.pack(iter(words))
    assert list(strings) == words and len(strings) == 5 and strings[-1] == words[-1]
    with pytest.raises(IndexError):
        strings[5]
    again = Strings.from_arrays(strings.arrays("words"), "words")
    assert list(again) == words and list(Strings.pack([])) == []
    million = Strings.pack(f"n01440764/n01440764_{i}.JPEG" for i in range(100_000))
    assert million.blob.nbytes + million.offsets.nbytes < 40 * 100_000


class Builder:
    """Builds three arrays and counts the calls."""

    def __init__(self, value=1):
        self.calls, self.value = 0, value

    def __call__(self):
        self.calls += 1
        return {"numbers": np.full((3, 2), self.value), "none": np.zeros((0, 4), np.float32), "a.b": np.arange(5)}


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "annotations.json"
    path.write_text("{}")
    return path


def test_an_index_is_built_once_and_mapped(source):
    build = Builder()
    first, second = cached("test", [source], build), cached("test", [source], build)
    assert build.calls == 1
    assert set(second) == {"numbers", "none", "a.b"} and second["none"].shape == (0, 4)
    assert np.array_equal(first["numbers"], second["numbers"])
    assert isinstance(second["numbers"].base, np.memmap)
    with pytest.raises(ValueError):
        second["numbers"][0] = 2
    assert cached("other", [source], Builder(2))["numbers"][0, 0] == 2


def test_a_changed_source_is_noticed_and_the_stale_index_removed(source):
    cached("test", [source], Builder())
    source.write_text("{ }")
    assert cached("test", [source], Builder(2))["numbers"][0, 0] == 2
    os.utime(source, ns=(0, time.time_ns() + 10**9))
    assert cached("test", [source], Builder(3))["numbers"][0, 0] == 3
    assert len(list((source.parent / ".resdet").iterdir())) == 1


def test_a_format_change_makes_indexes_stale(source, monkeypatch):
    build = Builder()
    cached("test", [source], build)
    monkeypatch.setattr("resdet.data.array_cache.FORMAT", 10**6)
    cached("test", [source], build)
    assert build.calls == 2


def test_place_of_the_index(source, tmp_path, monkeypatch):
    build = Builder()
    cached("test", [source], build, tmp_path / "mine")
    cached("test", [source], build, tmp_path / "mine")
    assert build.calls == 1 and not (tmp_path / ".resdet").exists()
    monkeypatch.setenv("RESDET_CACHE", str(tmp_path / "cache"))
    (tmp_path / ".resdet").write_text("a file here, so that no folder can be")
    cached("test", [source], build)
    cached("test", [source], build)
    assert build.calls == 2 and (tmp_path / "cache").is_dir()


def test_a_failed_save_leaves_no_files(source, monkeypatch):
    monkeypatch.setattr(np, "save", lambda *args, **kwargs: (_ for _ in ()).throw(OSError(28, "No space left")))
    assert cached("test", [source], Builder()).keys() == Builder()().keys()
    assert not list((source.parent / ".resdet").iterdir())
    with pytest.raises(DataError, match="missing.json: cannot read the file"):
        cached("test", [source.parent / "missing.json"], Builder())


def build_slowly():
    time.sleep(0.2)
    return {"x": np.arange(1000)}


def build_and_sum(source):
    return int(cached("race", [source], build_slowly)["x"].sum())


def test_processes_that_build_concurrently_all_get_the_index(source):
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert pool.map(build_and_sum, [source] * 4, chunksize=1) == [499500] * 4
    assert len(list((source.parent / ".resdet").iterdir())) == 1
