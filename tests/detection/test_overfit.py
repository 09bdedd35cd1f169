"""A small Mask R-CNN and a small MNC overfit a few images, evaluated by pycocotools."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from detection.heads import tiny, twins
from detection.inference.micro import TwoLayers
from narrow import narrow_resnets
from torch import Tensor, nn

from resdet.detection.config import InputConfig
from resdet.detection.data.segmentation import Bitmap
from resdet.detection.heads.box_head import Conv5Head
from resdet.detection.heads.config import AnchorConfig, BoxConfig, MNCConfig, RPNConfig
from resdet.detection.heads.mnc import MNC, RoIWarp
from resdet.detection.heads.rpn import RPN
from resdet.detection.model import Detector
from resdet.images.normalize import Normalize
from resdet.structures import Images, Targets

pytest.importorskip("torchvision")

SIDE = 64
STEPS = 150
WIDER = [
    "model.neck.width=32",
    "model.box.width=64",
    "model.box.resolution=7",
    "model.mask.width=32",
    "model.mask.convs=2",
]


def pictures(count: int) -> tuple[Tensor, Targets, Tensor]:
    """Draws ellipses in the images' quarters, colored by class: uint8 [N, 3, S, S], targets, masks [N, 4, S, S]."""
    generator = torch.Generator().manual_seed(0)
    valid = torch.arange(4) < torch.tensor([1, 2, 3, 4, 3, 2, 1, 4])[:count, None]
    labels = torch.randint(len(tiny.CLASSES), (count, 4), generator=generator)
    corners = torch.tensor([[0.0, 0.0], [0.5, 0.0], [0.0, 0.5], [0.5, 0.5]]) * SIDE
    starts, ends = torch.rand(2, count, 4, 2, generator=generator) * SIDE / 8
    boxes = torch.cat([corners + starts, corners + SIDE / 2 - ends], -1).round() * valid[..., None]
    masks = torch.zeros(count, 4, SIDE, SIDE, dtype=torch.uint8)
    crops = torch.zeros(count, 4, 28, 28, dtype=torch.uint8)
    pixels = torch.randint(60, (count, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    for i, g in valid.nonzero().tolist():
        masks[i, g] = twins.ellipse(boxes[i, g], SIDE, SIDE)
        crops[i, g] = torch.from_numpy(Bitmap(masks[i, g].numpy()).crop(boxes[i, g].numpy(), 28))
        pixels[i, labels[i, g], masks[i, g].bool()] = 200
    return pixels, Targets(boxes, labels, valid, torch.zeros_like(valid), crops), masks


def train(model: Detector, pixels: Tensor, targets: Targets, steps: int = STEPS) -> None:
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps)
    sizes = torch.full((len(pixels), 2), float(SIDE))
    for _ in range(steps):
        optimizer.zero_grad()
        losses = model.losses(Images(pixels, sizes), targets)
        sum(losses.values()).backward()
        optimizer.step()
        schedule.step()


def average_precision(model: Detector, pixels: Tensor, targets: Targets, masks: Tensor, kind: str) -> float:
    """Returns pycocotools' AP over IoU 0.5 to 0.95."""
    from pycocotools import mask as rle
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO()
    annotations = []
    for i, g in targets.valid.nonzero().tolist():
        x1, y1, x2, y2 = targets.boxes[i, g].tolist()
        drawn = rle.encode(np.asfortranarray(masks[i, g].numpy()))
        about = {"id": len(annotations) + 1, "image_id": i, "category_id": int(targets.labels[i, g]) + 1, "iscrowd": 0}
        box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": float(masks[i, g].sum()), "segmentation": drawn}
        annotations.append(about | box)
    categories = [{"id": number + 1, "name": name} for number, name in enumerate(tiny.CLASSES)]
    truth.dataset = {
        "images": [{"id": i, "height": SIDE, "width": SIDE} for i in range(len(pixels))],
        "annotations": annotations,
        "categories": categories,
    }
    truth.createIndex()
    results = model.predict([picture.permute(1, 2, 0).numpy() for picture in pixels], score=0.05)
    entries = [entry for i, result in enumerate(results) for entry in result.to_coco(i)]
    judge = COCOeval(truth, truth.loadRes(entries), kind)
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    return judge.stats[0]


def cascade() -> Detector:
    """Builds MNC on a backbone of two layers."""
    torch.manual_seed(0)
    anchors = AnchorConfig(sizes=[[16, 24, 32]])
    rpn = RPNConfig(anchors, channels=24, batch_per_image=64, pre_nms=(100, 100), post_nms=(30, 30))
    conv5_x = nn.Sequential(nn.Conv2d(24, 48, 3, 2, 1), nn.ReLU(), nn.Conv2d(48, 48, 3, 1, 1), nn.ReLU())
    box = BoxConfig(batch_per_image=16, positive_fraction=0.5, nms=0.3)
    regions = MNC(box, MNCConfig(14, 64), Conv5Head(conv5_x, 48), RoIWarp(4, 8), len(tiny.CLASSES))
    parts = (TwoLayers(), None, ["c2"], RPN(rpn, 24, [4], anchors.sizes), regions, Normalize([60.0] * 3, [60.0] * 3))
    return Detector(*parts, tiny.CLASSES, [1, 2, 3], InputConfig(SIDE, SIDE))


@pytest.mark.slow
def test_mnc_overfits_eight_images():
    pixels, targets, masks = pictures(8)
    model = cascade()
    before = average_precision(model, pixels, targets, masks, "segm")
    train(model, pixels, targets, 400)
    assert before < 0.05 and average_precision(model, pixels, targets, masks, "segm") > 0.7


def test_mask_rcnn_overfits_four_images():
    pixels, targets, masks = pictures(4)
    with narrow_resnets((32, 32, 64, 64)):  # group norm needs 32 channels
        model = tiny.make("fpn", True, "model.backbone.norm=gn", *WIDER)
    train(model, pixels, targets)
    model.input = replace(model.input, min_size=SIDE, max_size=SIDE)
    assert average_precision(model, pixels, targets, masks, "bbox") > 0.8
    assert average_precision(model, pixels, targets, masks, "segm") > 0.8
