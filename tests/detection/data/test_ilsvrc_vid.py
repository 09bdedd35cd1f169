"""ILSVRC VID read from a small copy of its official layout, and from generated videos in the same layout."""

from pathlib import Path

import numpy as np
import pytest

from resdet.commands.data import make_shape_vid
from resdet.data.config import formats
from resdet.detection.data import ilsvrc_vid, shape_vid
from resdet.detection.data.annotations import Annotations
from resdet.detection.data.config import IlsvrcVidConfig, ShapeVidConfig
from resdet.detection.data.ilsvrc_classes import DET, VID
from resdet.detection.data.motion import motion_ious
from resdet.errors import ConfigError, DataError

# Class names of FGFA's and mmtracking's loaders, in their order.
PUBLISHED = """airplane antelope bear bicycle bird bus car cattle dog domestic_cat elephant fox giant_panda hamster
horse lion lizard monkey motorcycle rabbit red_panda sheep snake squirrel tiger train turtle
watercraft whale zebra""".split()
DOG, ZEBRA, PERSON = "n02084071", "n02391049", "n00007846"
PACK = "ILSVRC2015_VID_train_0000"
LONG, SHORT, OTHER = (f"{PACK}/ILSVRC2015_train_{number:08d}" for number in (0, 1000, 2000))
VALIDATED = "ILSVRC2015_val_00000000"


def xml(*objects: tuple) -> str:
    """Builds XML from tuples (wnid, xmin, ymin, xmax, ymax, trackid, occluded, generated), for a 64×48 image."""
    parts = (
        f"<object><trackid>{track}</trackid><name>{wnid}</name><bndbox><xmax>{x2}</xmax><xmin>{x1}</xmin>"
        f"<ymax>{y2}</ymax><ymin>{y1}</ymin></bndbox><occluded>{occluded}</occluded><generated>{generated}</generated>"
        "</object>"
        for wnid, x1, y1, x2, y2, track, occluded, generated in objects
    )
    return f"<annotation><size><width>64</width><height>48</height></size>{''.join(parts)}</annotation>"


def put(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def moving(number: int) -> tuple:
    """Returns a dog of 20×10 pixels that moves by one pixel per frame."""
    return (DOG, number, 5, number + 19, 14, 0, 0, 0)


@pytest.fixture
def root(tmp_path):
    """Writes training videos of 30 and 3 frames, 30 validation frames, and images of dogs and zebras in DET."""
    home = tmp_path / "ILSVRC"
    videos = {f"train/{LONG}": 30, f"train/{SHORT}": 3, f"val/{VALIDATED}": 30}
    for video, count in videos.items():
        for number in range(count):
            put(home / f"Annotations/VID/{video}/{number:06d}.xml", xml(moving(number)))
    for number in range(1, 31):
        put(home / f"ImageSets/VID/train_{number}.txt", "")
    put(home / "ImageSets/VID/train_9.txt", f"{LONG} 1\n{SHORT} 1\n{OTHER} -1\n")
    put(home / "ImageSets/VID/train_30.txt", f"{LONG} -1\n")
    put(home / "ImageSets/VID/val.txt", "".join(f"{VALIDATED}/{n:06d} {n + 1}\n" for n in range(30)))
    numbers = {synset: number for number, synset in enumerate(DET, 1)}
    for synset in VID:
        put(home / f"ImageSets/DET/train_{numbers[synset]}.txt", "")
    dogs = [f"ILSVRC2013_train/{DOG}/{DOG}_{n}" for n in range(5)]
    put(home / f"ImageSets/DET/train_{numbers[DOG]}.txt", "".join(f"{s} 1\n" for s in dogs) + "partly 0\nnone -1\n")
    put(home / f"ImageSets/DET/train_{numbers[ZEBRA]}.txt", "both 1\nmislabeled 1\n")
    for stem in dogs:
        put(home / f"Annotations/DET/train/{stem}.xml", xml((DOG, 0, 0, 9, 9, 0, 0, 0)))
    put(home / "Annotations/DET/train/both.xml", xml((PERSON, 0, 0, 9, 9, 0, 0, 0), (ZEBRA, 1, 2, 3, 4, 0, 0, 0)))
    put(home / "Annotations/DET/train/mislabeled.xml", xml((PERSON, 0, 0, 9, 9, 0, 0, 0)))
    return tmp_path


def open_data(root, split="train", **keys) -> Annotations:
    return IlsvrcVidConfig("ilsvrc_vid", str(root), on_bad_annotation="error", **keys).open(split)


def files(source: Annotations) -> list[str]:
    return [source.name(i).split("/Data/")[1] for i in range(len(source))]


def test_classes_are_the_devkits_and_named_as_in_det():
    assert [name.replace(" ", "_") for name in VID.values()] == PUBLISHED
    known = {1: "n02691156", 2: "n02419796", 9: DOG, 10: "n02121808", 21: "n02509815", 28: "n04530566", 30: ZEBRA}
    assert {number: list(VID)[number - 1] for number in known} == known
    assert [synset for synset in DET if synset in VID] == list(VID)


def test_frames_are_evenly_spaced_in_each_video(root):
    """Takes the middle frames of five parts of six frames, and all frames of a shorter video."""
    source = open_data(root, frames_per_video=5, det_images=0)
    spaced = [f"VID/train/{LONG}/{number:06d}.JPEG" for number in (3, 9, 15, 21, 27)]
    assert files(source) == [*spaced, *(f"VID/train/{SHORT}/{number:06d}.JPEG" for number in range(3))]
    assert source.classes == list(VID.values()) and source.category_ids == list(range(1, 31))
    assert source.objects(1).boxes.tolist() == [[9, 5, 29, 15]] and source.objects(1).labels.tolist() == [8]


def test_default_numbers_of_frames_and_images(root):
    assert len(open_data(root, det_images=0)) == 15 + 3
    assert (IlsvrcVidConfig().frames_per_video, IlsvrcVidConfig().det_images) == (15, 2000)
    assert formats["ilsvrc_vid"] is IlsvrcVidConfig


def test_det_adds_images_of_the_classes(root):
    """Leaves out objects of other classes, images with these alone, and images that are not fully annotated."""
    source = open_data(root, frames_per_video=1, det_images=10)
    assert files(source)[2:] == [
        *(f"DET/train/ILSVRC2013_train/{DOG}/{DOG}_{n}.JPEG" for n in range(5)),
        "DET/train/both.JPEG",
    ]
    assert source.objects(len(source) - 1).boxes.tolist() == [[1, 2, 4, 5]]
    assert source.label_counts()[[8, 29]].tolist() == [2 + 5, 1] and source.problems == []


def test_det_images_per_class_are_limited(root):
    few = files(open_data(root, frames_per_video=1, det_images=2))[2:]
    assert few == [f"DET/train/ILSVRC2013_train/{DOG}/{DOG}_{n}.JPEG" for n in (1, 3)] + ["DET/train/both.JPEG"]


def test_val_has_all_frames_and_their_tracks(root):
    source = open_data(root, "val")
    assert files(source) == [f"VID/val/{VALIDATED}/{n:06d}.JPEG" for n in range(30)] and source.result_id(29) == 30
    truth = source.to_coco()
    assert [(image["video_id"], image["frame_id"]) for image in truth["images"]] == [(1, n) for n in range(30)]
    assert {entry["instance_id"] for entry in truth["annotations"]} == {1}
    assert truth["annotations"][4]["bbox"] == [4, 5, 20, 10] and truth["annotations"][4]["category_id"] == 9


def test_tracks_of_several_videos_are_different_instances(root):
    home = root / "ILSVRC"
    second = (DOG, 0, 0, 9, 9, 1, 1, 0)
    put(home / "Annotations/VID/val/other/000000.xml", xml(moving(0), second))
    put(home / "Annotations/VID/val/other/000001.xml", xml((DOG, 0, 0, 9, 9, 1, 0, 1)))
    put(home / "ImageSets/VID/val.txt", f"{VALIDATED}/000000 1\nother/000000 2\nother/000001 3\n")
    entries = open_data(root, "val").to_coco()["annotations"]
    first, again, another, later = (entry["instance_id"] for entry in entries)
    assert len({first, again, another}) == 3 and later == another
    assert [entry["occluded"] for entry in entries] == [False, False, True, False]
    assert [entry["generated"] for entry in entries] == [False, False, False, True]
    assert [entry["motion_iou"] for entry in entries] == [1, 1, 1, 1]


@pytest.mark.parametrize("stride, count", [(1, 30), (7, 5)])
def test_motion_is_computed_from_all_frames(root, stride, count):
    """A box of width 20, moved by d pixels, has an IoU of (20 - d) / (20 + d) with the original one."""
    source = open_data(root, "val", val_frame_stride=stride)
    assert len(source) == count
    for image, entry in zip(source.to_coco()["images"], source.to_coco()["annotations"], strict=True):
        moved = [abs(n - image["frame_id"]) for n in range(30) if 0 < abs(n - image["frame_id"]) <= 10]
        assert entry["motion_iou"] == pytest.approx(np.mean([(20 - d) / (20 + d) for d in moved]))


def test_motion_equals_a_reimplementation_in_loops():
    rng = np.random.default_rng(0)
    pairs = sorted({(int(i), int(f)) for i, f in zip(rng.integers(0, 4, 60), rng.integers(0, 30, 60))})
    pairs = [pairs[k] for k in rng.permutation(len(pairs))]
    instances, frames = np.array(pairs).T
    boxes = np.concatenate([rng.integers(0, 10, (len(pairs), 2)), rng.integers(5, 20, (len(pairs), 2))], 1).astype(
        float
    )
    expected = []
    for i, f, (x, y, w, h) in zip(instances, frames, boxes):
        ious = []
        for j, g, (a, b, c, d) in zip(instances, frames, boxes):
            if i == j and 0 < abs(f - g) <= 10:
                shared = max(0, min(x + w, a + c) - max(x, a)) * max(0, min(y + h, b + d) - max(y, b))
                ious.append(shared / (w * h + c * d - shared))
        expected.append(np.mean(ious) if ious else 1)
    assert motion_ious(instances, frames, boxes) == pytest.approx(expected)
    assert len(motion_ious(np.zeros(0, int), np.zeros(0, int), np.zeros((0, 4)))) == 0


def videos_of(source: Annotations) -> set[str]:
    return {name.split("/")[-2] for name in files(source) if name.startswith("VID")}


def test_no_video_is_in_both_sets(root):
    """A video listed in both sets belongs to validation, and the error names it."""
    assert not videos_of(open_data(root)) & videos_of(open_data(root, "val"))
    name = LONG.split("/")[1]
    put(root / f"ILSVRC/Annotations/VID/val/{name}/000000.xml", xml())
    put(root / "ILSVRC/ImageSets/VID/val.txt", f"{VALIDATED}/000000 1\n{name}/000000 2\n")
    with pytest.raises(DataError, match=f"video {LONG} has frames in val.txt"):
        open_data(root)
    train, val = (IlsvrcVidConfig("ilsvrc_vid", str(root)).open(split) for split in ("train", "val"))
    assert videos_of(train) == {SHORT.split("/")[1]} and videos_of(val) == {VALIDATED, name}
    assert any("left out 1 video with frames in val.txt" in sentence for sentence in train.problems)


def test_broken_files_are_counted(root):
    home = root / "ILSVRC/Annotations/VID"
    (home / f"train/{SHORT}/000001.xml").write_text("<annotation>")
    (home / f"val/{VALIDATED}/000002.xml").write_text("")
    (home / f"val/{VALIDATED}/000003.xml").unlink()
    with pytest.raises(DataError, match="000001 has a broken XML file"):
        open_data(root)
    train, val = (IlsvrcVidConfig("ilsvrc_vid", str(root)).open(split) for split in ("train", "val"))
    assert len(train) == 15 + 2 + 6 and any("left out 1 image with a broken XML file" in s for s in train.problems)
    assert len(val) == 28 and len(val.problems) == 2
    assert val.to_coco()["annotations"][2]["motion_iou"] == pytest.approx(
        np.mean([(20 - d) / (20 + d) for d in (4, 3, *range(1, 11))])
    )


def test_the_index_is_reused(root, monkeypatch):
    sets = [open_data(root), open_data(root, "val")]
    monkeypatch.setattr(ilsvrc_vid, "read_records", lambda *_: pytest.fail("read again"))
    for before, after in zip(sets, [open_data(root), open_data(root, "val")]):
        assert files(before) == files(after)
        np.testing.assert_array_equal(before.arrays["boxes"], after.arrays["boxes"])


def test_errors_name_what_is_missing(root, tmp_path):
    with pytest.raises(DataError, match="nowhere has no folder Annotations/VID or ILSVRC/Annotations/VID: unpack"):
        open_data(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="data.val is test, which has no annotations"):
        open_data(root, "val", val="test")
    (root / "ILSVRC/ImageSets/DET/train_58.txt").unlink()
    with pytest.raises(DataError, match="DET/train_58.txt is missing"):
        open_data(root)
    (root / "ILSVRC/Annotations/DET").rename(tmp_path / "gone")
    with pytest.raises(DataError, match="set data.det_images=0 to train on the videos only"):
        open_data(root)
    assert len(open_data(root, det_images=0)) == 18
    (root / "ILSVRC/ImageSets/VID/val.txt").write_text(f"{VALIDATED} 1\n")
    with pytest.raises(DataError, match="has a name other than VIDEO/NUMBER"):
        open_data(root, "val")
    for key in ("frames_per_video", "val_frame_stride"):
        with pytest.raises(ConfigError, match=f"data.{key} is 0: give 1 or more"):
            IlsvrcVidConfig(**{key: 0})
    with pytest.raises(ConfigError, match="data.det_images is -1"):
        IlsvrcVidConfig(det_images=-1)


def test_the_folder_of_the_archive_is_found(root):
    (root / "ILSVRC").rename(root / "ILSVRC2015")
    assert len(open_data(root, "val")) == 30 and len(open_data(root / "ILSVRC2015", "val")) == 30


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    counts = {"train_videos": 11, "val_videos": 6, "frames": 14, "train_images": 5, "side": 64}
    return ShapeVidConfig("shape_vid", str(tmp_path_factory.mktemp("data") / "videos"), **counts)


def test_generated_videos_are_in_the_official_layout(shapes):
    train, val = shapes.open("train"), shapes.open("val")
    assert len(val) == 6 * 14 and len(videos_of(train)) == 11 and not videos_of(train) & videos_of(val)
    assert 0 < len(train) - 11 * 14 <= 5  # images of DET, of which empty ones are left out
    official = IlsvrcVidConfig("ilsvrc_vid", shapes.root)
    assert files(official.open("train")) == files(train) and files(official.open("val")) == files(val)
    assert train.problems == val.problems == []
    assert set(np.flatnonzero(train.label_counts())) == set(range(len(shape_vid.SYNSETS)))
    assert val.image(3).decode().shape == (64, 64, 3)


def test_generated_lists_match_the_annotations(shapes):
    """Lists are numbered by the devkit's number of their class, in VID and in DET."""
    shapes.ensure()
    home, listed = Path(shapes.root) / "ILSVRC", 0
    for task, names in (("VID", VID), ("DET", DET)):
        for file in (home / f"ImageSets/{task}").glob("train_*.txt"):
            synset = list(names)[int(file.stem.removeprefix("train_")) - 1]
            for line in file.read_text().splitlines():
                place = home / f"Annotations/{task}/train/{line.split()[0]}"
                texts = [
                    path.read_text() for path in (place.glob("*.xml") if task == "VID" else [place.with_suffix(".xml")])
                ]
                assert any(synset in text for text in texts), (file, line)
                listed += 1
    assert listed > 20


def test_generated_shapes_are_slow_medium_and_fast(shapes):
    """Checks the motion IoUs of tracks, and that several boxes move."""
    val = shapes.open("val")
    instances, motion = val.arrays["instance_ids"], val.arrays["motion_ious"]
    means = np.array([motion[instances == number].mean() for number in np.unique(instances)])
    assert (means > 0.9).any() and (means < 0.7).any() and ((0.7 < means) & (means < 0.9)).any()
    moved = 0
    for number in np.unique(instances):
        boxes = val.arrays["boxes"][instances == number]
        moved += np.abs(boxes[-1] - boxes[0]).max() > 5
    assert moved >= 2


def test_make_writes_whole_videos(tmp_path, capsys):
    make_shape_vid(str(tmp_path / "made"), 70, 10, 32, 0)
    assert "2 + 1 videos of 30 frames, and 2 images of DET" in capsys.readouterr().out
    source = IlsvrcVidConfig("ilsvrc_vid", str(tmp_path / "made"), frames_per_video=30, det_images=0)
    assert len(source.open("train")) == 60 and len(source.open("val")) == 30
    with pytest.raises(DataError, match="is not empty"):
        make_shape_vid(str(tmp_path / "made"), 70, 10, 32, 0)


def test_a_seed_gives_the_same_videos():
    first, second, other = (
        [pixels for pixels, _ in shape_vid.draw(3, 3, 48, np.random.default_rng(seed))] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)
