"""Generated detection data, compared with pycocotools and with the images."""

import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from resdet.commands.data import make_shape_scenes
from resdet.detection.data import shape_scenes
from resdet.detection.data.shape_scenes import DEFAULT_CLASSES, Canvas, Object, draw, to_coco
from resdet.errors import DataError, FileError
from resdet.images.decode import as_image

TRAIN, VAL, SIZE, SEED = 150, 12, 128, 5
ANNOTATIONS = Path("annotations") / "train.json"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "scenes"
    shape_scenes.write(root, TRAIN, VAL, SIZE, SEED)
    return root


@pytest.fixture(scope="module")
def coco(root):
    return COCO(root / "annotations" / "train.json")


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def annotations_of(coco, image_id):
    return coco.loadAnns(coco.getAnnIds(image_id))


def test_images_match_the_files(root, coco):
    assert len(coco.imgs) == TRAIN and len(COCO(root / "annotations" / "val.json").imgs) == VAL
    for split, count in (("train", TRAIN), ("val", VAL)):
        assert len(list((root / split).iterdir())) == count
    shapes = set()
    for image in coco.imgs.values():
        pixels = as_image(root / "train" / image["file_name"]).decode()
        assert pixels.shape == (image["height"], image["width"], 3)
        shapes.add(pixels.shape)
    assert all(max(shape) == SIZE and 0.74 < shape[0] / shape[1] < 1.35 for shape in shapes)
    assert any(h > w for h, w, _ in shapes) and any(h < w for h, w, _ in shapes)


def test_ids_are_sparse_and_all_classes_occur(coco):
    assert [(category["id"], category["name"]) for category in coco.cats.values()] == list(
        zip([1, 2, 4, 7, 11], DEFAULT_CLASSES)
    )
    counts = Counter(annotation["category_id"] for annotation in coco.anns.values())
    assert set(counts) == set(coco.cats) and min(counts.values()) > 0.1 * sum(counts.values())


def test_masks_equal_those_of_the_scene(coco):
    """Polygons and RLE, decoded by pycocotools, equal the masks of the scene drawn again, in the same order."""
    for index in range(TRAIN):
        scene = draw(SIZE, DEFAULT_CLASSES, np.random.default_rng((SEED, 0, index)))
        annotations = annotations_of(coco, index + 1)
        assert len(annotations) == len(scene.objects)
        for annotation, item in zip(annotations, scene.objects):
            assert coco.cats[annotation["category_id"]]["name"] == DEFAULT_CLASSES[item.label]
            np.testing.assert_array_equal(coco.annToMask(annotation), item.mask)
            assert annotation["area"] == item.mask.sum()


def test_boxes_are_tight_around_the_visible_part(coco):
    for annotation in coco.anns.values():
        x, y, w, h = annotation["bbox"]
        assert [x, y, w, h] == list(cv2.boundingRect(coco.annToMask(annotation)))


def test_shapes_are_drawn_where_the_masks_are(root, coco):
    """Within a mask pixels differ by noise alone, as each shape has one color; pixels around it have other colors."""
    checked = 0
    for image in list(coco.imgs.values())[:40]:
        pixels = as_image(root / "train" / image["file_name"]).decode()
        for annotation in annotations_of(coco, image["id"]):
            inside = cv2.erode(coco.annToMask(annotation), np.ones((5, 5), np.uint8)) > 0
            if annotation["iscrowd"] or inside.sum() < 60:
                continue
            assert pixels[inside].std(0).max() < 18
            border = cv2.dilate(coco.annToMask(annotation), np.ones((9, 9), np.uint8)) > 0
            around = border & ~cv2.dilate(coco.annToMask(annotation), np.ones((3, 3), np.uint8)).astype(bool)
            assert np.abs(pixels[around].astype(float) - pixels[inside].mean(0)).sum(1).mean() > 40
            checked += 1
    assert checked > 50


def test_no_pixel_belongs_to_two_objects(coco):
    for image_id in coco.imgs:
        masks = [coco.annToMask(annotation).astype(int) for annotation in annotations_of(coco, image_id)]
        assert not masks or sum(masks).max() == 1


def test_scenes_contain_the_hard_cases(coco):
    counts = [len(annotations_of(coco, image_id)) for image_id in coco.imgs]
    crowds = [annotation for annotation in coco.anns.values() if annotation["iscrowd"]]
    others = [annotation for annotation in coco.anns.values() if not annotation["iscrowd"]]
    assert 0.02 * TRAIN <= counts.count(0) <= 0.15 * TRAIN and max(counts) >= 6
    assert 0.02 * TRAIN <= len({annotation["image_id"] for annotation in crowds}) <= 0.2 * TRAIN
    assert all(isinstance(annotation["segmentation"], dict) for annotation in crowds)
    outlines = [annotation["segmentation"] for annotation in others if isinstance(annotation["segmentation"], list)]
    assert 0.9 * len(others) < len(outlines) < len(others)
    assert any(len(parts) > 1 for parts in outlines)
    sides = np.sqrt([annotation["bbox"][2] * annotation["bbox"][3] for annotation in others])
    assert np.quantile(sides, 0.95) > 5 * np.quantile(sides, 0.05)


def painted(*boxes):
    """Paints upright rectangles xyxy, later ones over earlier ones, and returns the objects."""
    canvas = Canvas(np.zeros((60, 80, 3), np.uint8))
    for number, (left, top, right, bottom) in enumerate(boxes, 1):
        # OpenCV's fill takes corners at pixel centers, inclusive.
        corners = np.array([(left, top), (right - 1, top), (right - 1, bottom - 1), (left, bottom - 1)], float)
        canvas.add(number, [[corners]], np.random.default_rng(0))
    return canvas.objects()


def test_masks_leave_out_hidden_parts():
    behind, before = painted((10, 10, 50, 40), (20, 30, 70, 50))
    assert (behind.label, before.label) == (1, 2)
    assert to_coco(before)["bbox"] == [20, 30, 50, 20] and to_coco(before)["area"] == 50 * 20
    assert to_coco(behind)["area"] == 40 * 30 - 30 * 10 and to_coco(behind)["bbox"] == [10, 10, 40, 30]


def test_occlusion_splits_objects_or_makes_holes():
    split, _ = painted((10, 10, 50, 40), (20, 0, 30, 60))
    assert sorted(map(sorted, to_coco(split)["segmentation"])) == sorted(
        sorted([x for x in sides for _ in "ab"] + [10, 10, 40, 40]) for sides in ((10, 20), (30, 50))
    )
    pierced, _ = painted((10, 10, 50, 40), (20, 20, 30, 30))
    assert isinstance(to_coco(pierced)["segmentation"], dict) and to_coco(pierced)["area"] == 40 * 30 - 100


def test_slivers_are_not_annotated():
    assert [item.label for item in painted((10, 10, 50, 40), (19, 0, 70, 60))] == [1, 2]  # 9 of 40 columns are visible
    assert [item.label for item in painted((10, 10, 50, 40), (17, 0, 70, 60))] == [2]  # 7 of 40


@pytest.mark.parametrize("name", ["ring", "frame"])
def test_holes_need_rle(name):
    rng = np.random.default_rng(0)
    items = [item for _ in range(30) for item in draw(128, [name], rng).objects if not item.crowd]
    kinds = Counter(type(to_coco(item)["segmentation"]) for item in items)
    assert kinds[dict] > kinds[list]


def test_masks_round_trip_through_annotations():
    """Tries separate and touching parts, holes, single pixels and a full mask."""
    rng = np.random.default_rng(0)
    masks = [rng.random((17, 23)) < share for share in (0.02, 0.3, 0.6, 0.9) for _ in range(10)]
    masks += [np.ones((17, 23), bool), np.eye(17, 23, dtype=bool)]
    for mask in masks:
        for crowd in (False, True):
            annotation = to_coco(Object(0, mask, crowd))
            coco = COCO()
            coco.imgs = {1: {"height": 17, "width": 23}}
            decoded = coco.annToMask({**annotation, "image_id": 1}).astype(bool)
            assert (decoded & mask).sum() / (decoded | mask).sum() > 0.9
            assert isinstance(annotation["segmentation"], list) or np.array_equal(decoded, mask)


def test_images_depend_only_on_seed_split_and_number(root, tmp_path):
    shape_scenes.write(tmp_path / "same", 10, VAL, SIZE, SEED)
    shape_scenes.write(tmp_path / "other", 10, 10, SIZE, SEED + 1)
    whole, same, other = contents(root), contents(tmp_path / "same"), contents(tmp_path / "other")
    pictures = [path for path in same if path.suffix == ".jpg"]
    assert len(pictures) == 10 + VAL and all(same[path] == whole[path] for path in pictures)
    kept = [a for a in json.loads(whole[ANNOTATIONS])["annotations"] if a["image_id"] <= 10]
    assert json.loads(same[ANNOTATIONS])["annotations"] == kept
    assert all(other[path] != whole[path] for path in other if path.suffix == ".jpg")
    train, val = ([same[path] for path in pictures if path.parts[0] == split] for split in ("train", "val"))
    assert not set(train) & set(val)


def test_a_finished_set_is_kept_and_other_settings_are_refused(tmp_path):
    root = tmp_path / "scenes"
    shape_scenes.ensure(root, 3, 2, 48, 0, ["heart", "ring"])
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    shape_scenes.ensure(root, 3, 2, 48, 0, ["heart", "ring"])
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    with pytest.raises(DataError, match=r"train=3, classes=\['heart', 'ring'\]"):
        shape_scenes.ensure(root, 4, 2, 48, 0)
    with pytest.raises(DataError, match="not empty"):
        shape_scenes.write(root, 3, 2, 48, 0, ["heart", "ring"])
    assert [path.name for path in tmp_path.iterdir()] == ["scenes"]


def test_other_files_are_not_overwritten(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(FileError, match="cannot be written"):
        shape_scenes.ensure(tmp_path, 1, 1, 48, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(shape_scenes, "to_coco", lambda item: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        shape_scenes.ensure(tmp_path / "scenes", 3, 1, 48, 0)
    assert not list(tmp_path.iterdir())


def test_processes_may_start_simultaneously(tmp_path, monkeypatch):
    """Another process finishes the same folder while this one draws."""
    root, write_split = tmp_path / "scenes", shape_scenes._write_split

    def overtaken(*arguments):
        monkeypatch.setattr(shape_scenes, "_write_split", write_split)
        shape_scenes.ensure(root, 2, 1, 48, 0)
        write_split(*arguments)

    monkeypatch.setattr(shape_scenes, "_write_split", overtaken)
    shape_scenes.ensure(root, 2, 1, 48, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["scenes"] and len(list((root / "train").iterdir())) == 2


@pytest.mark.parametrize(
    "classes, hint", [(["hexagon"], "hexagon"), ([], "different"), (["ring", "ring"], "different")]
)
def test_classes_are_checked(classes, hint, tmp_path):
    with pytest.raises(DataError, match=f"{hint}.*circle, ring, triangle"):
        shape_scenes.write(tmp_path / "scenes", 1, 1, 48, 0, classes)


def test_the_command_writes_scenes_and_prints_how_to_train(tmp_path, capsys):
    make_shape_scenes(str(tmp_path / "scenes"), 3, 2, 48, 0)
    assert len(COCO(tmp_path / "scenes" / "annotations" / "val.json").imgs) == 2
    assert f"--config custom.yaml data.root={tmp_path}/scenes" in capsys.readouterr().out
