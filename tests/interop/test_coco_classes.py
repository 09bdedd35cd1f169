"""Tests COCO's classes against torchvision's list, indexed by category id with N/A for unused ids."""

import pytest

from resdet.weights import coco_classes


def test_ids_and_names_equal_torchvision():
    pytest.importorskip("torchvision")
    from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

    listed = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    known = {number: name for number, name in enumerate(listed) if name not in ("N/A", "__background__")}
    assert coco_classes.NAMES == known and list(coco_classes.NAMES) == sorted(known) and len(known) == 80


@pytest.mark.filterwarnings("ignore")
def test_the_order_equals_detectron2():
    pytest.importorskip("detectron2", reason="detectron2 is not installed")
    from detectron2.data import MetadataCatalog

    assert MetadataCatalog.get("coco_2017_val").thing_classes == list(coco_classes.NAMES.values())
