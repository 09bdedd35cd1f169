"""Checks when cached indexes are rebuilt, also after damage to their files."""

import json
import logging
import shutil

import cv2
import numpy as np
import pytest

from resdet.data.array_cache import MANIFEST, cached
from resdet.detection.data.coco import open_coco
from resdet.detection.data.voc import open_voc

ARRAYS = {"a": np.arange(5), "b": np.zeros((0, 2), np.float32), "c.d": np.array([True])}


@pytest.fixture
def build(tmp_path):
    """Returns a function that opens the index of a file; `build.count` is the number of builds."""
    (tmp_path / "source").write_text("x")

    def build(**options):
        def make():
            build.count += 1
            return ARRAYS

        return cached("test", [tmp_path / "source"], make, tmp_path / "kept", **options)

    build.count = 0
    return build


def same(arrays) -> bool:
    return arrays.keys() == ARRAYS.keys() and all(np.array_equal(arrays[name], ARRAYS[name]) for name in ARRAYS)


def empty(folder):
    for file in folder.iterdir():
        file.unlink()


def each(change):
    return lambda folder: [change(file) for file in folder.glob("*.npy")]


def replace(folder):
    shutil.rmtree(folder)
    folder.write_text("a file")


DAMAGE = {
    "truncated": each(lambda file: file.write_bytes(file.read_bytes()[:-1])),
    "cut in the header": each(lambda file: file.write_bytes(file.read_bytes()[:9])),
    "emptied": each(lambda file: file.write_bytes(b"")),
    "garbage": each(lambda file: file.write_bytes(bytes(range(256)))),
    "zeros": each(lambda file: file.write_bytes(bytes(file.stat().st_size))),
    "missing": lambda folder: (folder / "a.npy").unlink(),
    "another type": lambda folder: np.save(folder / "a.npy", ARRAYS["a"].astype(float)),
    "another length": lambda folder: np.save(folder / "a.npy", ARRAYS["a"][:-1]),
    "pickled": lambda folder: np.save(folder / "a.npy", np.array([{}]), allow_pickle=True),
    "an empty folder": empty,
    "a file": replace,
    "no manifest": lambda folder: (folder / MANIFEST).unlink(),
    **{
        f"manifest {text}": lambda folder, text=text: (folder / MANIFEST).write_text(text)
        for text in ("", "{", "5", "[]", "{}", '{"a": 1}', '{"/etc/passwd": 1}', '[["a", 1]]')
    },
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_index_is_rebuilt(build, tmp_path, damage, caplog):
    assert same(build()) and same(build()) and build.count == 1
    (folder,) = (tmp_path / "kept").iterdir()
    DAMAGE[damage](folder)
    with caplog.at_level(logging.WARNING):
        assert same(build())
    assert build.count == 2 and f"{folder} is damaged" in caplog.text
    assert same(build()) and build.count == 2
    assert list((tmp_path / "kept").iterdir()) == [folder]


def test_indexes_of_other_places_and_invalid_indexes(build, tmp_path):
    for count, options in enumerate(({}, {"places": [tmp_path / "a"]}, {"places": [tmp_path / "b"]}), 1):
        build(**options)
        assert same(build(**options)) and build.count == count  # each option has its separate index
    build(holds=lambda arrays: False)
    assert build.count == 4 and len(list((tmp_path / "kept").iterdir())) == 3


def test_a_full_disk_only_prevents_saving_the_index(build, monkeypatch, caplog):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    assert same(build()) and "the next start rebuilds it" in caplog.text


@pytest.fixture
def sizeless(tmp_path):
    """Writes a COCO file without image sizes and two folders with images of different sizes."""
    images = [{"id": k, "file_name": f"{k}.png"} for k in (1, 2)]
    annotations = [{"id": k, "image_id": k, "category_id": 1, "bbox": [1, 1, 5, 5]} for k in (1, 2)]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "a"}]}
    (tmp_path / "gt.json").write_text(json.dumps(content))
    for folder, width in (("small", 20), ("large", 40)):
        (tmp_path / folder).mkdir()
        for k in (1, 2):
            cv2.imwrite(str(tmp_path / folder / f"{k}.png"), np.zeros((30, width, 3), np.uint8))
    return tmp_path


def test_sizes_are_those_of_the_folder(sizeless):
    """Reads image sizes from two folders, from a mistyped one, and from the same one after its correction."""
    gone = open_coco(sizeless / "gt.json", sizeless / "mistyped")
    assert len(gone) == 0 and "no width and height, nor a readable file" in gone.problems[0]
    for folder, width in (("small", 20), ("large", 40), ("small", 20)):
        assert open_coco(sizeless / "gt.json", sizeless / folder).sizes.tolist() == [[width, 30]] * 2
    shutil.copytree(sizeless / "large", sizeless / "mistyped")
    assert len(open_coco(sizeless / "gt.json", sizeless / "mistyped")) == 2


def test_images_copied_later_are_found(sizeless):
    file, whole = sizeless / "small" / "2.png", (sizeless / "small" / "2.png").read_bytes()
    for content in (None, b"", whole[:40]):
        file.unlink()
        if content is not None:
            file.write_bytes(content)
        for _ in range(2):
            source = open_coco(sizeless / "gt.json", sizeless / "small")
            assert len(source) == 1 and "nor a readable file: 2" in source.problems[0]
        file.write_bytes(whole)
        assert len(open_coco(sizeless / "gt.json", sizeless / "small")) == 2
    shutil.copy(sizeless / "large" / "2.png", file)
    assert open_coco(sizeless / "gt.json", sizeless / "small").sizes.tolist() == [[20, 30], [40, 30]]


def test_voc_images_copied_later_are_found(sizeless):
    (sizeless / "xml").mkdir()
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox>"
    (sizeless / "xml" / "1.xml").write_text(f"<annotation><object><name>a</name>{box}</object></annotation>")
    file, whole = sizeless / "large" / "1.png", (sizeless / "large" / "1.png").read_bytes()
    file.write_bytes(whole[:40])
    assert len(open_voc(sizeless / "xml", sizeless / "large")) == 0
    file.write_bytes(whole)
    assert open_voc(sizeless / "xml", sizeless / "large").sizes.tolist() == [[40, 30]]
