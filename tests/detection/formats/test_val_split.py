"""Generated validation splits: the share of each class, near-duplicates in one split, stable assignments."""

import json
import os
import shutil

import cv2
import numpy as np
import pytest
from detection.formats.samples import opened, picture, write

from resdet.detection.formats import near_duplicates, val_split
from resdet.detection.formats.data_set import DataSet
from resdet.detection.formats.near_duplicates import group
from resdet.detection.formats.registry import recognize
from resdet.detection.formats.stratify import NEW, TRAIN, VAL, stratify
from resdet.errors import DataError
from resdet.images.dhash import THRESHOLD

CLASSES = {"common": 1, "often": 3, "rare": 10}  # in every image, every third and every tenth


def data(root, count=60):
    """Writes a YOLO folder of numbered images: of 60, `common` is in 60, `often` in 20 and `rare` in 6."""
    files = {"classes.txt": "\n".join(CLASSES)}
    for k in range(count):
        files |= {f"{k:03d}.jpg": None}
        labels = [label for label, every in enumerate(CLASSES.values()) if k % every == 0]
        files |= {f"{k:03d}.txt": "".join(f"{label} .5 .5 .5 .5\n" for label in labels)}
    root = write(root, files)
    for k in range(count):
        picture(root / f"{k:03d}.jpg", seed=k)
    return root


def val_files(root, **keys):
    return set(opened(root, "val", **keys).files)


def test_each_class_has_its_share(tmp_path):
    root = data(tmp_path)
    train, val = opened(root), opened(root, "val")
    assert len(train) == 48 and len(val) == 12 and not set(train.files) & set(val.files)
    assert val.label_counts().tolist() == [12, 4, 1]
    assert "has no validation split: 12 of its 60 images are for validation, by" in train.notes[-1]
    assert train.classes == val.classes == list(CLASSES)
    for seed in range(2):
        other = data(tmp_path / str(seed))
        counts = opened(other, "val", val_share=0.5, seed=seed).label_counts()
        assert counts.tolist() == [30, 10, 3]


def test_the_split_depends_only_on_the_seed_and_the_names(tmp_path):
    first = val_files(data(tmp_path / "a"))
    assert val_files(data(tmp_path / "b")) == first
    assert val_files(data(tmp_path / "d"), seed=1) != first


def test_the_split_is_stable_when_images_are_added_or_removed(tmp_path):
    root = data(tmp_path, 40)
    first = val_files(root)
    (root / "000.txt").write_text("0 .5 .5 .2 .2")  # changed annotations have no effect
    assert val_files(root) == first
    data(root, 60)
    second = val_files(root)
    assert first < second and {int(file[:3]) for file in second - first} <= set(range(40, 60))
    assert abs(len(second) - 12) <= 1
    for file in [*second][:3]:
        (root / file).rename(tmp_path / "x")
        assert val_files(root) == second - {file}
        (tmp_path / "x").rename(root / file)
    assert val_files(root) == second


def test_settings_changed_after_the_split_are_logged(tmp_path):
    root = data(tmp_path)
    first = val_files(root)
    assert val_files(root, val_share=0.5, seed=3) == first
    notes = opened(root, val_share=0.5, seed=3).notes
    assert "made with the share 0.2 and the seed 0, not with data.val_share=0.5 data.seed=3" in notes[-1]


def test_near_duplicates_are_in_one_split(tmp_path):
    """Writes five versions of each of twelve scenes: JPEG, half size, brightness and a crop of two columns."""
    changes = [
        lambda pixels: pixels,
        lambda pixels: cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], 1),
        lambda pixels: cv2.resize(pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
        lambda pixels: np.clip(pixels * 1.1 + 5, 0, 255).astype(np.uint8),
        lambda pixels: pixels[:, 2:],
    ]
    for scene in range(12):
        rng = np.random.default_rng(scene)
        pixels = cv2.resize(rng.integers(30, 220, (4, 5, 3), dtype=np.uint8), (320, 240), interpolation=cv2.INTER_CUBIC)
        for frame, change in enumerate(changes):
            cv2.imwrite(str(tmp_path / f"{frame}-{scene:02d}.png"), change(pixels))
            (tmp_path / f"{frame}-{scene:02d}.txt").write_text(f"{scene % 2} .5 .5 .5 .5")
    val = val_files(tmp_path)
    scenes = {file[2:4] for file in val}
    assert val == {f"{frame}-{scene}.png" for frame in range(5) for scene in scenes} and 2 <= len(scenes) <= 3


def test_groups_are_the_connected_components_of_all_pairs():
    from scipy.sparse.csgraph import connected_components

    rng = np.random.default_rng(0)
    for _ in range(20):
        base = rng.integers(0, 2**63, 12, dtype=np.uint64)
        hashes = rng.choice(base, 60)
        for _ in range(4):
            hashes = hashes ^ (np.uint64(1) << rng.integers(0, 64, 60, dtype=np.uint64))
        distance = np.array([[bin(int(a) ^ int(b)).count("1") for b in hashes] for a in hashes])
        count, expected = connected_components(distance <= THRESHOLD)
        found = group(hashes.tolist())
        assert len(set(found.tolist())) == count and len(set(zip(found.tolist(), expected.tolist()))) == count


def test_a_chain_of_near_duplicates_that_agree_in_the_same_bits_is_one_group():
    """Five hashes that differ from their neighbors by three of the lowest 16 bits, and by more from the others."""
    chain = [0x123456789ABC0000 | (2 ** (3 * k) - 1) for k in range(5)]
    for order in ([0, 1, 2, 3, 4], [4, 2, 0, 1, 3]):
        assert group([chain[k] for k in order]).tolist() == [0] * 5


def test_equal_images_are_compared_in_linear_time(monkeypatch):
    compared = []
    count = near_duplicates.bit_count
    monkeypatch.setattr(near_duplicates, "bit_count", lambda values: (compared.append(len(values)), count(values))[1])
    assert not group(np.full(2000, 0x123456789ABCDEF, np.uint64)).any()
    assert sum(compared) < 10 * 2000


@pytest.mark.parametrize("share, images", [(0.35, 8), (0.25, 4)])
def test_groups_come_as_close_to_the_share_as_possible(share, images):
    """Five groups of four images: 8 are nearer to 7 than 4 are, and 4 are nearer to 5 than 8 are."""
    files, groups = [str(k) for k in range(20)], np.repeat(np.arange(5), 4)
    sides = stratify(files, groups, np.ones((20, 1), bool), share, 0, np.full(20, NEW))
    assert (sides == VAL).sum() == images


@pytest.mark.parametrize("seed", range(5))
def test_hashes_differing_in_three_bits_are_near_and_in_four_are_not(seed):
    rng = np.random.default_rng(seed)
    for _ in range(50):
        first = int(rng.integers(2**62)) | 0xFF00FF00
        for count in (1, 2, 3, 4):
            bits = rng.choice(64, count, replace=False).tolist()
            second = first ^ sum(1 << bit for bit in bits)
            assert len(set(group([first, second]).tolist())) == (1 if count <= 3 else 2)


def test_a_new_image_near_both_splits_is_in_training():
    presence, groups = np.ones((4, 1), bool), np.array([0, 0, 0, 3])
    for new in (0, 1, 2):
        sides = np.array([TRAIN, TRAIN, VAL, VAL])
        sides[new] = NEW
        found = stratify(["a", "b", "c", "d"], groups, presence, 0.5, 0, sides)
        assert found[new] == TRAIN and np.array_equal(np.delete(found, new), np.delete(sides, new))


def test_rare_objects_are_in_both_splits():
    presence = np.zeros((30, 2), bool)
    presence[3, 0] = presence[8, 1] = True
    found = stratify([f"{k}" for k in range(30)], np.arange(30), presence, 0.2, 0, np.full(30, NEW))
    assert presence[found == VAL].any() and presence[found == TRAIN].any() and 6 <= (found == VAL).sum() <= 7


@pytest.mark.parametrize("share", [0.01, 0.2, 0.6, 0.999])
@pytest.mark.parametrize("seed", range(5))
def test_training_keeps_an_image_of_each_class(share, seed):
    """Class 0 is in one image, class 1 in two, class 2 in all; classes 3 and 4 share an image, as do 4 and 5."""
    presence = np.zeros((10, 6), bool)
    presence[3, 0] = presence[[4, 5], 1] = presence[:, 2] = True
    presence[[6, 7], 3] = presence[[7, 8], 4] = presence[[6, 8], 5] = True
    found = stratify([f"{k}" for k in range(10)], np.arange(10), presence, share, seed, np.full(10, NEW))
    assert presence[found == TRAIN].any(0).all() and presence[found == VAL].any()


@pytest.mark.parametrize("share", [0.2, 0.999])
def test_a_single_group_is_in_training(share):
    found = stratify(["a", "b"], np.zeros(2, int), np.ones((2, 1), bool), share, 0, np.full(2, NEW))
    assert found.tolist() == [TRAIN, TRAIN]


def test_uniform_images_are_not_near_duplicates():
    assert len(set(group([0, 0, 1, 2**64 - 1, 2**64 - 1]).tolist())) == 5


@pytest.mark.parametrize("seed", range(10))
def test_stratification_of_random_groups(seed):
    """Groups stay together, given sides stay, both splits have images, and the share is off by about one group."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 200))
    files, groups = [f"{k}.jpg" for k in range(count)], rng.integers(0, count, count)
    presence = rng.random((count, 3)) < (0.9, 0.3, 0.05)
    sides = np.where(rng.random(count) < 0.1, rng.integers(0, 2, count), NEW)
    for number in np.unique(groups):  # earlier splits kept groups together
        known = sides[(groups == number) & (sides != NEW)]
        sides[(groups == number) & (sides != NEW)] = known[0] if len(known) else NEW
    share = float(rng.uniform(0.1, 0.6))
    found = stratify(files, groups, presence, share, seed, sides)
    assert set(found.tolist()) <= {TRAIN, VAL} and np.array_equal(found[sides != NEW], sides[sides != NEW])
    assert all(len(set(found[groups == number].tolist())) == 1 for number in groups)
    if len(set(groups.tolist())) > 1 and (sides == NEW).all():
        assert set(found.tolist()) == {TRAIN, VAL}
        largest = np.bincount(groups).max()
        assert abs((found == VAL).sum() - share * count) <= largest + presence.shape[1]
    order = rng.permutation(count)
    again = stratify([files[k] for k in order], groups[order], presence[order], share, seed, sides[order])
    assert np.array_equal(again, found[order])


def test_classes_with_one_image_are_in_training(tmp_path):
    files = {"classes.txt": "a\nb\nc\nd\ne"} | {f"{k}.jpg": None for k in range(5)}
    root = write(tmp_path, files | {f"{k}.txt": f"{k} .5 .5 .5 .5" for k in range(5)})
    assert len(opened(root)) == 4 and opened(root, "val").label_counts().sum() == 1


def test_folders_that_cannot_be_written_use_the_users_cache(tmp_path, monkeypatch):
    root = data(tmp_path / "data", 10)
    (root / ".resdet").write_text("a file where the folder would be")
    monkeypatch.setattr(val_split, "user_cache", lambda: tmp_path / "cache")
    first = val_files(root)
    (file,) = (tmp_path / "cache").glob("*split.json")
    assert {name for name, (side, _) in json.loads(file.read_text())["images"].items() if side == "val"} == first
    assert val_files(root) == first


def test_a_damaged_split_file_is_refused(tmp_path):
    root = data(tmp_path, 10)
    val_files(root)
    for text in ("[]", '{"share": 0.2}', '{"share": 0.2, "seed": 0, "state": "", "images": {"a.jpg": ["tain", "0"]}}'):
        (root / ".resdet" / "split.json").write_text(text)
        with pytest.raises(DataError, match="split.json is damaged: delete it, or make another"):
            opened(root)
    shutil.rmtree(root / ".resdet")
    assert len(opened(root)) == 8


def test_the_newest_of_two_split_files_is_used(tmp_path, monkeypatch):
    root = data(tmp_path / "data", 10)
    first = DataSet(recognize(root)).val_split.file
    os.utime(first, (1, 1))
    monkeypatch.setattr(val_split, "user_cache", lambda: tmp_path / "cache")
    other = val_split.files_of(root)[1]
    other.parent.mkdir(exist_ok=True)
    shutil.copyfile(first, other)
    assert val_split.load_val_split(root).file == other
    os.utime(other, (0, 0))
    assert val_split.load_val_split(root).file == first


def test_folders_have_separate_files_in_the_cache(tmp_path):
    roots = [tmp_path / "x_y" / "z", tmp_path / "x" / "y_z", tmp_path / ("数据" * 20) / ("图像" * 20) / ("标注" * 20)]
    for root in roots:
        root.mkdir(parents=True)
        assert val_split.load_val_split(root) is None
    assert len({val_split.files_of(root)[1] for root in roots}) == 3


def test_missing_images_are_not_counted(tmp_path):
    root = data(tmp_path, 10)
    opened(root)
    for k in range(4):
        (root / f"{k:03d}.jpg").unlink()
    assert "of its 6 images are for validation" in opened(root).notes[-1]


@pytest.mark.parametrize("seed", range(8))
def test_the_only_image_with_objects_is_for_validation(seed):
    presence = np.array([[True], [False]])
    assert stratify(["a", "b"], np.arange(2), presence, 0.5, seed, np.full(2, NEW)).tolist() == [VAL, TRAIN]
