"""Trains Faster R-CNN with the recipe of torchvision's reference scripts, for a given number of CPU seconds.

SGD, horizontal flips, a linear warmup in the first tenth, milestones at 16/26 and 22/26. Data, ImageNet weights,
frozen stages and image sizes equal those of resdet's training.
"""

import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from resdet import hub
from resdet.detection.config import DetectionExperiment
from resdet.detection.data.annotations import Annotations
from resdet.detection.data.sources import open_scenes
from resdet.detection.evaluation import coco
from resdet.detection.model import Detector
from resdet.errors import ConfigError
from resdet.weights import pretrained
from resdet.weights.layouts.names import resnet_to_torchvision

NETS = tuple(f"resnet{depth}" for depth in (18, 34, 50, 101, 152))
WARMUP, WARMUP_START = 0.1, 1e-3  # fraction of training; initial fraction of the learning rate
MILESTONES = (16 / 26, 22 / 26)  # fractions of training
Target = dict[str, Tensor]


def train(experiment: DetectionExperiment, budget: float, lr: float) -> dict[str, Any]:
    """Trains for `budget` CPU seconds of this process, including decoding; returns steps, seconds and COCO metrics.

    `experiment`: gives the data, `model.pretrained`, image sizes, batch size and seed.
    """
    check(experiment)
    data, validation = (open_scenes(experiment.scenes, split) for split in ("train", "val"))
    torch.manual_seed(experiment.train.seed)
    detector = peer_of(initial_model(experiment, data.classes))
    weights = [weight for weight in detector.parameters() if weight.requires_grad]
    optimizer = torch.optim.SGD(weights, lr=lr, momentum=0.9, weight_decay=1e-4)
    start, seconds, steps = time.process_time(), 0.0, 0
    for images, targets in batches(data, experiment.train.batch):
        for group in optimizer.param_groups:
            group["lr"] = lr * rate(seconds / budget)
        optimizer.zero_grad()
        torch.stack([*detector(images, targets).values()]).sum().backward()
        optimizer.step()
        steps, seconds = steps + 1, time.process_time() - start
        if seconds >= budget:
            break
    return {"steps": steps, "cpu_seconds": round(seconds, 1), **evaluate(detector.eval(), validation)}


def check(experiment: DetectionExperiment) -> None:
    """Raises an error for experiments without a counterpart in torchvision."""
    if (name := experiment.model.backbone.name) not in NETS:
        raise ConfigError(f"model.backbone is {name}: the comparison needs a net of torchvision, {', '.join(NETS)}.")


def initial_model(experiment: DetectionExperiment, classes: list[str]) -> Detector:
    """Builds resdet's detector with ImageNet weights."""
    model = hub.checked(hub.build_for(experiment, classes), Detector, "The experiment")
    if experiment.model.pretrained:
        pretrained.load(model, experiment.model.pretrained, experiment.model.backbone.name)
    return model


def rate(share: float) -> float:
    """Returns the learning rate after a fraction of training, relative to its maximum."""
    warm = WARMUP_START + (1 - WARMUP_START) * min(1.0, share / WARMUP)
    return warm * 0.1 ** sum(share >= milestone for milestone in MILESTONES)


def peer_of(model: Detector) -> nn.Module:
    """Builds torchvision's Faster R-CNN in training mode, with the backbone weights, strides and norms of `model`."""
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.ops import FrozenBatchNorm2d

    backbone = model.experiment["model"]["backbone"]
    fpn = resnet_fpn_backbone(
        backbone_name=backbone["name"], weights=None, trainable_layers=3, norm_layer=FrozenBatchNorm2d
    )
    if backbone["stride_in"] == "1x1" and backbone["name"] not in NETS[:2]:  # MSRA and Keras weights
        for stage in (fpn.body.layer2, fpn.body.layer3, fpn.body.layer4):
            stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    state = {resnet_to_torchvision(name): tensor for name, tensor in model.backbone.state_dict().items()}
    fpn.body.load_state_dict(state)
    mean, deviation = ((values.flatten() / 255).tolist() for values in (model.normalize.mean, model.normalize.std))
    sizes = {"min_size": model.input.min_size, "max_size": model.input.max_size}
    return FasterRCNN(fpn, len(model.classes) + 1, image_mean=mean, image_std=deviation, **sizes).train()


def batches(data: Annotations, size: int) -> Iterator[tuple[list[Tensor], list[Target]]]:
    """Yields endless shuffled batches of images with objects, each flipped with probability 1/2."""
    drawn: list[tuple[Tensor, Target]] = []
    shown = torch.as_tensor(data.presence()[0]).unique()
    while True:
        for index in shown[torch.randperm(len(shown))].tolist():
            image, target = sample(data, index)
            drawn.append(flipped(image, target) if torch.rand(()) < 0.5 else (image, target))
            if len(drawn) == size:
                yield [image for image, _ in drawn], [target for _, target in drawn]
                drawn = []


def sample(data: Annotations, index: int) -> tuple[Tensor, Target]:
    """Returns the image, float32 [3, H, W] from 0 to 1, and its non-crowd boxes [n, 4] and labels [n] (from 1)."""
    image = torch.from_numpy(data.image(index).decode()).permute(2, 0, 1).contiguous() / 255
    objects = data.objects(index)
    boxes, labels = (torch.from_numpy(values[~objects.crowd]) for values in (objects.boxes, objects.labels + 1))
    return image, {"boxes": boxes, "labels": labels}


def flipped(image: Tensor, target: Target) -> tuple[Tensor, Target]:
    left, top, right, bottom = target["boxes"].unbind(1)
    width = image.shape[2]
    return image.flip(2), {**target, "boxes": torch.stack([width - right, top, width - left, bottom], 1)}


@torch.inference_mode()
def evaluate(detector: nn.Module, data: Annotations) -> dict[str, Any]:
    results = []
    for index in range(len(data)):
        output = detector([sample(data, index)[0]])[0]
        boxes = output["boxes"].clone()
        boxes[:, 2:] -= boxes[:, :2]
        for box, score, label in zip(boxes.tolist(), output["scores"].tolist(), output["labels"].tolist()):
            ids = {"image_id": data.result_id(index), "category_id": data.category_ids[label - 1]}
            results.append({**ids, "bbox": box, "score": score})
    return coco.evaluate(data.to_coco(), results, "bbox")
