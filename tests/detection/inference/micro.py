"""A small detector on a backbone of two layers, which learns generated scenes in seconds."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from resdet.backbones.layers import Backbone
from resdet.detection.config import InputConfig
from resdet.detection.evaluation import coco
from resdet.detection.heads.box_head import ConvFCHead, RoIPooler
from resdet.detection.heads.config import AnchorConfig, BoxConfig, RPNConfig
from resdet.detection.heads.roi_heads import RoIHeads
from resdet.detection.heads.rpn import RPN
from resdet.detection.model import Detector
from resdet.images.normalize import Normalize
from resdet.structures import Images, Targets

CLASSES = ["flat", "striped"]
Scene = tuple[np.ndarray, list[list[float]], list[int]]  # pixels [S, S, 3], boxes, labels


class TwoLayers(Backbone):
    stages, channels, strides = {"c2": "conv2_x"}, {"c2": 24}, {"c2": 4}

    def __init__(self):
        super().__init__()
        layers = (nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 24, 3, 2, 1), nn.ReLU())
        self.conv2_x = nn.Sequential(*layers)

    def stem(self, images: Tensor) -> Tensor:
        return images


def make(seed: int, side: int = 64, context: bool = False) -> Detector:
    """Builds a detector for images of `side` and objects of about 24 pixels."""
    torch.manual_seed(seed)
    anchors = AnchorConfig(sizes=[[12, 24, 48]], ratios=[1.0])
    rpn = RPNConfig(anchors, channels=24, batch_per_image=64, pre_nms=(200, 400), post_nms=(40, 60))
    box = BoxConfig(
        batch_per_image=32, width=48, positive_fraction=0.5, linears=1, nms=0.3, context=context, canonical_size=24
    )
    pooler = RoIPooler([4], 5, "align", 2, True, box.canonical_size)
    regions = RoIHeads(box, [ConvFCHead(24, 5, 0, 0, None, 1, 48)], pooler, len(CLASSES))
    normalize = Normalize([100.0] * 3, [60.0] * 3)
    parts = (TwoLayers(), None, ["c2"], RPN(rpn, 24, [4], anchors.sizes), regions, normalize)
    return Detector(*parts, CLASSES, [1, 2], InputConfig(side, side, divisor=8))


def scene(rng: np.random.Generator, sides: tuple[float, float], size: int = 64, count: int = 2) -> Scene:
    """Makes bright rectangles without overlap on noise, some flat and some striped."""
    pixels = rng.integers(0, 100, (size, size, 3), dtype=np.uint8)
    boxes, labels = [], []
    for _ in range(20):
        width, height = (round(length) for length in rng.uniform(*sides, 2))
        x, y = rng.integers(0, size - width), rng.integers(0, size - height)
        if len(boxes) < count and all(apart((x, y, x + width, y + height), box) for box in boxes):
            labels.append(int(rng.integers(2)))
            boxes.append([float(v) for v in (x, y, x + width, y + height)])
            pixels[y : y + height, x : x + width] = 200
            if labels[-1]:
                pixels[y : y + height, x : x + width][:: max(2, width // 6)] = 0
    return pixels, boxes, labels


def apart(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def train(
    model: Detector,
    make_scene: Callable[[np.random.Generator], Scene],
    steps: int,
    seed: int = 0,
    losses_of: Callable | None = None,
) -> Detector:
    """Trains with `losses_of`, by default the model's losses."""
    rng, losses_of = np.random.default_rng(seed), losses_of or model.losses
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        sum(losses_of(*batch([make_scene(rng) for _ in range(8)])).values()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        schedule.step()
    return model.eval()


def batch(scenes: Sequence[Scene], places: int = 4) -> tuple[Images, Targets]:
    pixels = torch.from_numpy(np.stack([pixels for pixels, _, _ in scenes])).permute(0, 3, 1, 2)
    boxes, labels = torch.zeros(len(scenes), places, 4), torch.zeros(len(scenes), places, dtype=torch.int64)
    valid = torch.zeros(len(scenes), places, dtype=torch.bool)
    for i, (_, of_scene, classes) in enumerate(scenes):
        boxes[i, : len(of_scene)] = torch.tensor(of_scene).view(-1, 4)
        labels[i, : len(of_scene)] = torch.tensor(classes, dtype=torch.int64)
        valid[i, : len(of_scene)] = True
    sizes = torch.tensor([pixels.shape[2:]] * len(scenes), dtype=torch.float32)
    return Images(pixels, sizes), Targets(boxes, labels, valid, torch.zeros_like(valid))


def figures(predictor, scenes: Sequence[Scene], score: float = 0.05) -> dict[str, float]:
    """Returns COCO metrics of a detector or an EnsembleDetector on scenes."""
    images, annotations, found = [], [], []
    for number, (pixels, boxes, labels) in enumerate(scenes, 1):
        images.append({"id": number, "height": len(pixels), "width": len(pixels)})
        for (x1, y1, x2, y2), label in zip(boxes, labels):
            box = [x1, y1, x2 - x1, y2 - y1]
            about = {"id": len(annotations) + 1, "image_id": number, "category_id": label + 1, "iscrowd": 0}
            annotations.append({**about, "bbox": box, "area": box[2] * box[3]})
    for number, result in enumerate(predictor.predict([pixels for pixels, _, _ in scenes], score=score), 1):
        found += result.to_coco(number)
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES, 1)]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    return coco.evaluate(truth, found, "bbox")
