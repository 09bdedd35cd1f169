"""Compares polygon and bitmap masks with pycocotools, OpenCV and closed forms."""

import json
import re
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from resdet.detection.data import segmentation_columns
from resdet.detection.data.segmentation import Bitmap, Polygons
from resdet.detection.data.segmentation_columns import SegmentColumns

COCO = Path(__file__).parents[3].parent / "shared/data/coco_val2014_100/instances_val2014_100.json"
HEIGHT, WIDTH = 120, 160


def pack(segmentations, height=HEIGHT, width=WIDTH):
    return SegmentColumns.pack(segmentations, np.array([(width, height)] * len(segmentations)).reshape(-1, 2))


def from_coco(segmentation, height, width):
    """Returns the segment read from COCO's segmentation; raises a ValueError if it is invalid."""
    arrays, (problem,) = pack([segmentation], height, width)
    if problem:
        raise ValueError(problem)
    return SegmentColumns.read(arrays, 0, height)


def blob(random, radius=(20, 40)) -> np.ndarray:
    """Makes a wavy ring around the middle of the image: [k, 2], rounded to hundredths as in COCO."""
    angles = np.linspace(0, 2 * np.pi, int(random.integers(12, 40)), endpoint=False)
    radii = random.uniform(*radius) * (1 + 0.2 * np.sin(3 * angles + random.uniform(0, 6)))
    center = random.uniform((60, 50), (100, 70))
    return np.round(center + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1), 2)


def speckled(random, height=HEIGHT, width=WIDTH) -> np.ndarray:
    """Makes a bitmap of large and small pieces."""
    noise = cv2.GaussianBlur(random.normal(size=(height, width)), (0, 0), 2)
    return (noise > 0.05).astype(np.uint8)


def reference(segmentation, height, width) -> np.ndarray:
    """Returns the bitmap by pycocotools' annToMask."""
    rle = coco_mask.frPyObjects(segmentation, height, width)
    return coco_mask.decode(coco_mask.merge(rle) if isinstance(rle, list) else rle)


def overlap(a, b) -> float:
    """Returns the IoU of soft masks."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return np.minimum(a, b).sum() / np.maximum(a, b).sum()


def drawn_finely(polygons: Polygons, box, size: int) -> np.ndarray:
    """Returns the polygons' crop by pycocotools at ten times the resolution, 0 to 1."""
    fine = 10 * size
    scaled = [((ring - box[:2]) * fine / (box[2:] - box[:2])).ravel().tolist() for ring in polygons.rings]
    return cv2.resize(reference(scaled, fine, fine).astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize("seed", range(8))
def test_bitmaps_of_polygons_equal_pycocotools(seed):
    random = np.random.default_rng(seed)
    segmentation = [blob(random).ravel().tolist() for _ in range(random.integers(1, 4))]
    ours = from_coco(segmentation, HEIGHT, WIDTH)
    assert np.array_equal(ours.bitmap(HEIGHT, WIDTH), reference(segmentation, HEIGHT, WIDTH))
    points = np.concatenate([np.reshape(ring, (-1, 2)) for ring in segmentation])
    assert np.allclose(ours.bounds(), [*points.min(0), *points.max(0)])


@pytest.mark.parametrize("form", ["compressed", "text", "numbers"])
@pytest.mark.parametrize("kind", ["speckled", "empty", "full", "dot", "corners"])
def test_rle_in_every_form(form, kind):
    bitmap = speckled(np.random.default_rng(1)) if kind == "speckled" else np.zeros((HEIGHT, WIDTH), np.uint8)
    ones = {"full": np.s_[:], "dot": np.s_[7:8, 9:10], "corners": np.s_[:: HEIGHT - 1, :: WIDTH - 1]}
    bitmap[ones.get(kind, np.s_[:0])] = 1
    rle = coco_mask.encode(np.asfortranarray(bitmap))
    if form == "text":
        rle["counts"] = rle["counts"].decode()
    if form == "numbers":
        down_the_columns = bitmap.T.ravel().tolist()
        runs = [len(list(run)) for _, run in groupby(down_the_columns)]
        rle["counts"] = [0] * down_the_columns[0] + runs
    ours = from_coco(rle, HEIGHT, WIDTH)
    assert np.array_equal(ours.bitmap(HEIGHT, WIDTH), bitmap)
    assert ours.array.size <= bitmap.size
    x, y, width, height = coco_mask.toBbox(coco_mask.encode(np.asfortranarray(bitmap)))
    assert kind == "empty" or ours.bounds().tolist() == [x, y, x + width, y + height]
    assert kind != "empty" or ours.bounds().tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("segmentation", "what"),
    [
        ("abc", "neither polygons nor RLE"),
        ([1, 2, 3, 4, 5, 6], "neither polygons nor RLE"),
        ([[[1, 2], [3, 4], [5, 6]]], "neither polygons nor RLE"),
        ([[1, 2, 3, 4, 5, "6"]], "neither polygons nor RLE"),
        ([[1, 2, 3, 4, 5, 6, 7]], "neither polygons nor RLE"),
        ([[1, 2, 3, 4, 5, float("nan")]], "NaN or infinite"),
        ([[1, 2, 3, 4, float("inf"), -float("inf")]], "NaN or infinite"),
        ([[1, 2, 3, 4]], "fewer than three points"),
        ([[1, 2, 3, 4, 5, 10**400]], "NaN or infinite"),
        ([[1, 2, 3, 4, 5, True]], "neither polygons nor RLE"),
        ([[1, 2, 3, 4, 5, 4e8]], "far out of its image"),
        ([[1, 2, 3, 4, 5, -1e300]], "far out of its image"),
        ([[0, 0, 900, 0, 0, 900] * 4000], "outlines longer"),
        ({"size": [4, 5], "counts": [20]}, "another size"),
        ({"size": [5, 4]}, "without counts"),
        ({"size": [5, 4], "counts": [7, 14]}, "damaged"),
        ({"size": [5, 4], "counts": [25, -5]}, "damaged"),
        ({"size": [5, 4], "counts": [10, "a"]}, "damaged"),
        ({"size": [5, 4], "counts": ""}, "damaged"),
        ({"size": [5, 4], "counts": "55"}, "damaged"),  # pycocotools reads out of bounds here
        ({"size": [5, 4], "counts": "oooooooooooooooo0"}, "damaged"),
        ({"size": [5, 4], "counts": "ü"}, "damaged"),
        ({"size": [5, 4], "counts": "\ud800"}, "damaged"),
        ({"size": [5, 4], "counts": [10**400]}, "damaged"),
        ({"size": [5, 4], "counts": [[20]]}, "damaged"),
        ({"size": [5, 4], "counts": []}, "damaged"),
        ({"size": 5, "counts": [20]}, "another size"),
        ({"size": [5.0, 4], "counts": [20]}, "another size"),
        ({"size": [5, 4], "counts": [20.0]}, "damaged"),
    ],
)
def test_problems_are_described(segmentation, what):
    ring, rle = [[0, 0, 3, 0, 3, 3]], {"size": [5, 4], "counts": [7, 5, 8]}
    arrays, problems = pack([ring, segmentation, rle], 5, 4)
    assert problems[0] is problems[2] is None and re.search(what, problems[1])
    assert [len(array) for array in arrays.values()] == [3, 2, 4, 3, 4]  # the invalid one is not stored
    assert SegmentColumns.read(arrays, 1, 5) is None
    assert np.array_equal(SegmentColumns.read(arrays, 2, 5).bitmap(5, 4), reference(rle, 5, 4))


@pytest.mark.parametrize("width, reach", [(40, 1000), (2000, 2000)])
def test_points_may_be_outside_by_1000_pixels_or_the_side(width, reach):
    left, right = ([[x, 0, 5, 0, 5, 5]] for x in (-reach, width + reach))
    assert pack([left, right], 30, width)[1] == [None, None]
    beyond = [[[x, 0, 5, 0, 5, 5]] for x in (-reach - 1, width + reach + 1)]
    assert all("far out of its image" in problem for problem in pack(beyond, 30, width)[1])


def test_empty_segmentations_give_no_segment():
    assert from_coco([], 5, 4) is None and from_coco(None, 5, 4) is None
    assert len(from_coco([[1, 1], [0, 0, 3, 0, 3, 3]], 5, 4).rings) == 1


def test_columns_round_trip():
    random = np.random.default_rng(3)
    polygons = [[blob(random).ravel().tolist() for _ in range(count)] for count in (1, 3)]
    rle = coco_mask.encode(np.asfortranarray(speckled(random)))
    arrays, problems = pack([polygons[0], None, rle, [], polygons[1]])
    assert problems == 5 * [None]
    back = [SegmentColumns.read(arrays, i, HEIGHT) for i in range(5)]
    assert back[1] is None and back[3] is None
    assert np.array_equal(back[2].bitmap(HEIGHT, WIDTH), coco_mask.decode(rle))
    for segment, segmentation in ((back[0], polygons[0]), (back[4], polygons[1])):
        assert len(segment.rings) == len(segmentation)
        for ring, flat in zip(segment.rings, segmentation):
            assert ring.ravel().tolist() == flat


@pytest.mark.parametrize("spans", [1, 3, 2**16])
def test_take_selects_and_reorders_objects(spans, monkeypatch):
    monkeypatch.setattr(segmentation_columns, "SPANS", spans)
    random = np.random.default_rng(4)
    rle = coco_mask.encode(np.asfortranarray(speckled(random)))
    outlines = [[blob(random).ravel().tolist() for _ in range(count)] for count in (2, 1, 3)]
    arrays, _ = pack([outlines[0], rle, None, outlines[1], outlines[2]])
    order = [4, 1, 0, 2, 4]
    taken = SegmentColumns.take(arrays, np.array(order))
    for place, number in enumerate(order):
        found, expected = (SegmentColumns.read(*each, HEIGHT) for each in ((taken, place), (arrays, number)))
        assert (found is None) == (expected is None) == (number == 2)
        if found is not None:
            assert np.array_equal(found.bitmap(HEIGHT, WIDTH), expected.bitmap(HEIGHT, WIDTH))
    assert [len(ring) for ring in SegmentColumns.read(taken, 0, HEIGHT).rings] == [
        len(flat) // 2 for flat in outlines[2]
    ]
    same = SegmentColumns.take(arrays, np.arange(5))
    assert all(np.array_equal(same[name], arrays[name]) for name in SegmentColumns.names)


@pytest.mark.parametrize("make", [Polygons, Bitmap])
@pytest.mark.parametrize(
    ("scale", "shift"), [((-1, 1), (WIDTH, 0)), ((1, -1), (0, HEIGHT)), ((1.7, 0.6), (-30, 11)), ((-2, 2), (300, -40))]
)
def test_moving_equals_warping_the_image(make, scale, shift):
    random = np.random.default_rng(5)
    ring = blob(random)
    bitmap = Polygons([ring]).bitmap(HEIGHT, WIDTH)
    segment = Polygons([ring]) if make is Polygons else Bitmap(bitmap[10:, 20:], (20, 10))
    moved = segment.move(scale, shift)
    matrix = np.array([[scale[0], 0, shift[0]], [0, scale[1], shift[1]]], np.float64)
    matrix[:, 2] += 0.5 * (np.array(scale) - 1)  # OpenCV's pixel centers are at integers
    expected = cv2.warpAffine(bitmap.astype(np.float32), matrix, (400, 300)) >= 0.5
    assert type(moved) is make
    assert overlap(moved.bitmap(300, 400), expected) > 0.96
    corners = segment.bounds().reshape(2, 2) * scale + shift
    assert np.allclose(moved.bounds(), [*corners.min(0), *corners.max(0)], atol=1e-4)


def test_moves_of_a_bitmap_are_exact():
    bitmap = speckled(np.random.default_rng(6))
    whole = Bitmap(bitmap)
    assert np.array_equal(whole.move((-1, 1), (WIDTH, 0)).bitmap(HEIGHT, WIDTH), bitmap[:, ::-1])
    assert np.array_equal(whole.move((3, 2), (0, 0)).bitmap(2 * HEIGHT, 3 * WIDTH), bitmap.repeat(3, 1).repeat(2, 0))
    assert np.array_equal(whole.move((1, 1), (-7, -5)).bitmap(50, 60), bitmap[5:55, 7:67])
    there_and_back = whole.move((-0.3, 1.7), (12.3, 4)).move((-1 / 0.3, 1 / 1.7), (12.3 / 0.3, -4 / 1.7))
    assert np.array_equal(there_and_back.bitmap(HEIGHT, WIDTH), bitmap)


def test_polygons_beyond_the_image_are_clipped():
    ring = np.array([[-30.0, -20.0], [200.0, 30.0], [100.0, 150.0], [-60.0, 90.0]])
    larger = Polygons([ring + 100]).bitmap(400, 400)
    assert overlap(Polygons([ring]).bitmap(HEIGHT, WIDTH), larger[100 : 100 + HEIGHT, 100 : 100 + WIDTH]) > 0.995


def test_crops_equal_closed_forms():
    square = np.array([[10, 20], [30, 20], [30, 40], [10, 40]], np.float32)
    whole = np.pad(np.ones((20, 20), np.uint8), ((20, 80), (10, 130)))
    for segment in (Polygons([square]), Bitmap(whole), Bitmap(np.ones((20, 20), np.uint8), (10, 20))):
        assert (segment.crop(np.array([10, 20, 30, 40]), 28) == 255).all()
        assert (segment.crop(np.array([12.3, 25, 14.1, 39]), 28) == 255).all()
        assert (segment.crop(np.array([50, 20, 70, 40]), 28) == 0).all()
        half = segment.crop(np.array([0, 20, 20, 40]), 28)
        assert (half[:, :14] == 0).all() and (half[:, 14:] == 255).all()
        quarters = segment.crop(np.array([0, 10, 40, 50]), 2)
        assert np.abs(quarters - 255 / 4).max() <= 1


def test_crops_of_bitmaps_are_means_over_areas():
    bitmap = speckled(np.random.default_rng(7))
    part = bitmap[8:64, 20:132]
    expected = cv2.resize(255 * part.astype(np.float32), (28, 28), interpolation=cv2.INTER_AREA)
    box = np.array([20, 8, 132, 64], np.float32)
    assert np.abs(Bitmap(bitmap).crop(box, 28) - expected).max() <= 0.51
    assert np.abs(Bitmap(bitmap[4:, 9:], (9, 4)).crop(box, 28) - expected).max() <= 0.51
    mirrored = Bitmap(bitmap).move((-0.5, 2), (0, 3))
    assert np.abs(mirrored.crop(np.array([-66, 19, -10, 131]), 28) - expected[:, ::-1]).max() <= 0.51
    uneven = Bitmap(bitmap).crop(np.array([3.3, 4.7, 101.9, 99.1]), 31)
    assert uneven.mean() == pytest.approx(255 * bitmap[5:99, 3:102].mean(), abs=2)


@pytest.mark.parametrize("seed", range(12))
def test_crops_of_polygons_agree_with_bitmaps_and_pycocotools(seed):
    random = np.random.default_rng(seed)
    polygons = Polygons([blob(random, (18, 40)) for _ in range(random.integers(1, 3))])
    box = polygons.bounds()
    of_bitmap = Bitmap(polygons.bitmap(HEIGHT, WIDTH)).crop(box, 56)
    assert overlap(polygons.crop(box, 56), of_bitmap) >= 0.95
    assert overlap(polygons.crop(box, 56), 255 * drawn_finely(polygons, box, 56)) >= 0.98
    aside = box + np.array([15, -9, 15, -9])
    assert overlap(polygons.crop(aside, 28), 255 * drawn_finely(polygons, aside, 28)) >= 0.96


@pytest.mark.parametrize("box", [(3998, 1000, 3998.9, 2000), (1990, 100, 2010, 110), (2000, 1500, 2000.01, 1500.01)])
def test_crops_of_a_sliver_of_a_large_polygon(box):
    angles = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    disc = Polygons([np.stack([2000 + 1999 * np.cos(angles), 1500 + 1450 * np.sin(angles)], 1)])
    x, y = (np.linspace(a, b, 401)[:-1] + (b - a) / 800 for a, b in ((box[0], box[2]), (box[1], box[3])))
    inside = ((x - 2000) / 1999) ** 2 + ((y[:, None] - 1500) / 1450) ** 2 < 1
    assert disc.crop(np.array(box), 28).mean() / 255 == pytest.approx(inside.mean(), abs=0.02)


@pytest.mark.skipif(not COCO.is_file(), reason="the COCO sample of ../shared is not here")
def test_masks_of_real_objects():
    content = json.loads(COCO.read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    with_bitmap, with_polygon = [], []
    for annotation in content["annotations"][::6]:
        height, width = sizes[annotation["image_id"]]
        segment = from_coco(annotation["segmentation"], height, width)
        bitmap = reference(annotation["segmentation"], height, width)
        assert np.array_equal(segment.bitmap(height, width), bitmap), annotation["id"]
        x, y, w, h = annotation["bbox"]
        if isinstance(segment, Polygons) and min(w, h) >= 30 and annotation["area"] > 900:
            box = np.array([x, y, x + w, y + h])
            crop = segment.crop(box, 56)
            with_bitmap.append(overlap(crop, Bitmap(bitmap).crop(box, 56)))
            with_polygon.append(overlap(crop, 255 * drawn_finely(segment, box, 56)))
    # A bitmap is off by a few percent at thin objects; the polygon rendered at high resolution is not.
    assert len(with_bitmap) > 50 and min(with_polygon) > 0.97
    assert np.mean(np.array(with_bitmap) >= 0.95) > 0.95 and min(with_bitmap) > 0.9
