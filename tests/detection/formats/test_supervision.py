"""Data sets written by supervision, which labeling tools use, are read with the same objects."""

import numpy as np
import pytest
from detection.formats.samples import opened, picture

from resdet.detection.formats.registry import recognize

supervision = pytest.importorskip("supervision")

CLASSES = ["cat", "dog", "bird"]
SIZES = [(60, 40), (33, 51), (80, 80), (60, 40)]


@pytest.fixture
def dataset(tmp_path):
    """Makes four images with zero to three boxes of integer pixels."""
    rng = np.random.default_rng(0)
    images, annotations = {}, {}
    for k, (width, height) in enumerate(SIZES):
        path = str(picture(tmp_path / "written" / f"{k}.png", size=(width, height)))
        corners = rng.integers(0, 15, (k, 2))
        boxes = np.concatenate([corners, corners + rng.integers(5, 18, (k, 2))], 1).astype(float)
        images[path] = supervision.Detections(xyxy=boxes, class_id=rng.integers(0, 3, k)) if k else empty()
        annotations[path] = images[path]
    return supervision.DetectionDataset(classes=CLASSES, images=list(images), annotations=annotations)


def empty():
    return supervision.Detections(xyxy=np.zeros((0, 4)), class_id=np.zeros(0, int))


def as_coco(dataset, root):
    for split in ("train", "valid"):
        dataset.as_coco(f"{root}/{split}", f"{root}/{split}/_annotations.coco.json")


def as_yolo(dataset, root):
    for split in ("train", "valid"):
        dataset.as_yolo(f"{root}/{split}/images", f"{root}/{split}/labels", f"{root}/data.yaml")


def as_voc(dataset, root):
    for split in ("train", "valid"):
        dataset.as_pascal_voc(f"{root}/{split}", f"{root}/{split}")


@pytest.mark.parametrize("write", [as_coco, as_yolo, as_voc])
def test_boxes(dataset, write, tmp_path):
    write(dataset, tmp_path / "data")
    assert recognize(tmp_path / "data").format == write.__name__[3:]
    for split in ("train", "val"):
        source = opened(tmp_path / "data", split, on_bad_annotation="error")
        written = {path.rpartition("/")[2]: detections for path, _, detections in dataset}
        assert sorted(file.rpartition("/")[2] for file in source.files) == sorted(written)
        for i in range(len(source)):
            expected = written[source.files[i].rpartition("/")[2]]
            own = source.objects(i)
            np.testing.assert_allclose(own.boxes, expected.xyxy, atol=1e-3)
            assert [source.classes[k] for k in own.labels] == [CLASSES[k] for k in expected.class_id]


def test_masks(dataset, tmp_path):
    """supervision's polygons run through pixel centers, so they enclose less than the mask."""
    for path, image, detections in dataset:
        height, width = image.shape[:2]
        masks = np.zeros((len(detections), height, width), bool)
        for mask, (x1, y1, x2, y2) in zip(masks, detections.xyxy.astype(int)):
            mask[y1:y2, x1:x2] = True
        dataset.annotations[path] = supervision.Detections(
            xyxy=detections.xyxy, class_id=detections.class_id, mask=masks
        )
    for write in (as_coco, as_yolo, as_voc):
        write(dataset, tmp_path / write.__name__)
        source = opened(tmp_path / write.__name__)
        assert source.has_masks and not len(source.maskless())
        for i in range(len(source)):
            path = next(p for p in dataset.image_paths if p.endswith(source.files[i].rpartition("/")[2]))
            width, height = source.sizes[i]
            expected = dataset.annotations[path].mask
            for segment, mask in zip(source.objects(i).segments, expected):
                own = segment.bitmap(height, width).astype(bool)
                assert not (own & ~np.pad(mask, 1)[1:-1, 1:-1]).sum() > mask.sum() * 0.3
                assert (own & mask).sum() / (own | mask).sum() > 0.65
