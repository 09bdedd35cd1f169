"""A training step of detectors: losses, backward, SGD with momentum, on images with eight objects each."""

import copy
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from resdet.bench.detection import CLASSES, sample_image, tensor_of, twins
from resdet.bench.nets import EAGER, Variant
from resdet.bench.train import stepping_trainer, take_step, training_step
from resdet.detection.model import Detector
from resdet.detection.objects_training import LossesStep
from resdet.engine.trainer import Trainer
from resdet.structures import Batch, Images, Targets
from resdet.timing import Case, Side

HEIGHT, WIDTH, BATCHES, OBJECTS, MASK_SIZE = 600, 800, (1,), 8, 56
LR = 1e-7  # keeps the random weights nearly constant over the rounds


def cases(
    height: int = HEIGHT,
    width: int = WIDTH,
    batches: tuple[int, ...] = BATCHES,
    body: str = "resnet50",
    device: str = "cpu",
) -> Iterator[Case]:
    """Defaults: torchvision as in its reference scripts, in float32 and contiguous memory; resdet as in `resdet train`.
    Both sample 256 anchors and 512 RoIs per image, with two stages and all norms frozen."""
    for masks in (False, True):
        detectors = twins(masks, height, width, body, device=device)
        for batch in batches:
            torch.compiler.reset()
            yield from cases_of(*detectors, Inputs.make(height, width, batch).to(device))


class Inputs(NamedTuple):
    """The same images and objects as inputs of torchvision and as a batch of resdet's loader."""

    images: list[Tensor]
    targets: list[dict[str, Tensor]]
    batch: Batch

    @classmethod
    def make(cls, height: int, width: int, batch: int) -> "Inputs":
        samples = [sample_image(height, width, seed) for seed in range(batch)]
        pixels = torch.stack([torch.from_numpy(sample) for sample in samples]).permute(0, 3, 1, 2)
        sizes = torch.tensor([[height, width]] * batch, dtype=torch.float32)
        boxes, labels = objects(height, width, batch)
        valid = torch.ones_like(labels, dtype=torch.bool)
        cells = ellipse(torch.tensor([0.0, 0, MASK_SIZE, MASK_SIZE]), MASK_SIZE, MASK_SIZE) * 255
        masks = cells.expand(batch, OBJECTS, -1, -1).contiguous()
        targets = [
            {"boxes": b, "labels": l + 1, "masks": torch.stack([ellipse(box, height, width) for box in b])}
            for b, l in zip(boxes, labels)
        ]
        padded = Targets(boxes, labels, valid, ~valid, masks)
        collated = Batch(Images(pixels, sizes), padded, torch.arange(batch))
        return cls([tensor_of(sample) for sample in samples], targets, collated)

    def to(self, device: str) -> "Inputs":
        targets = [{name: field.to(device) for name, field in target.items()} for target in self.targets]
        return Inputs([image.to(device) for image in self.images], targets, self.batch.to(torch.device(device)))


def objects(height: int, width: int, batch: int) -> tuple[Tensor, Tensor]:
    """Returns random boxes [batch, OBJECTS, 4], with 1/12 to 1/2 of the image's sides, and labels [batch, OBJECTS]."""
    rng = torch.Generator().manual_seed(0)
    limits = torch.tensor([width, height])
    sides = limits * (1 / 12 + 5 / 12 * torch.rand(batch, OBJECTS, 2, generator=rng))
    corners = torch.rand(batch, OBJECTS, 2, generator=rng) * (limits - sides)
    return torch.cat([corners, corners + sides], 2), torch.randint(CLASSES, (batch, OBJECTS), generator=rng)


def ellipse(box: Tensor, height: int, width: int) -> Tensor:
    """Returns the binary mask of the ellipse inscribed in the box, uint8 [height, width]."""
    center, half = (box[2:] + box[:2]) / 2, (box[2:] - box[:2]) / 2
    x = (torch.arange(width) + 0.5 - center[0]) / half[0]
    y = (torch.arange(height) + 0.5 - center[1]) / half[1]
    return (x.square() + y.square()[:, None] <= 1).byte()


def cases_of(peer: nn.Module, model: Detector, inputs: Inputs) -> Iterator[Case]:
    count, device = len(inputs.images), inputs.images[0].device.type
    height, width = inputs.images[0].shape[1:]
    name = f"{'Mask' if model.draws_masks else 'Faster'} R-CNN {width}×{height}, batch {count}, {{}}".format
    note = mask_head_note(peer, inputs) if model.draws_masks else ""

    peer_step = torchvision_step(peer, inputs)
    trainer = trainer_of(model, count, device)
    sides: dict[str, Side] = {"torchvision": peer_step, "resdet": lambda: take_step(trainer, inputs.batch)}
    yield Case(name(f"defaults (resdet: channels_last, {trainer.train_step.precision})"), count, sides, note)
    for variant in (variant.on(device) for variant in EAGER):
        sides = {
            "torchvision": torchvision_step(peer, inputs, variant),
            "resdet": resdet_step(model, inputs, variant),
        }
        yield Case(name(variant), count, sides)
    compiled = trainer_of(model, count, device, compile=True)
    sides = {"torchvision": peer_step, "resdet": lambda: take_step(compiled, inputs.batch)}
    yield Case(name(f"resdet compiled, {compiled.train_step.precision}; peer's defaults"), count, sides)


class TorchvisionLoss(nn.Module):
    """Sum of the losses of a torchvision detector, which returns losses only in training mode."""

    def __init__(self, detector: nn.Module):
        super().__init__()
        self.detector = detector.train()

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> Tensor:
        return cast(Tensor, sum(self.detector(images, targets).values()))


class ResdetLoss(nn.Module):
    """Sum of the losses of resdet's detector."""

    def __init__(self, model: Detector):
        super().__init__()
        self.model = model.train()

    def forward(self, images: Images, targets: Targets) -> Tensor:
        return cast(Tensor, sum(self.model.losses(images, targets).values()))


def torchvision_step(detector: nn.Module, inputs: Inputs, variant: Variant | None = None) -> Callable[[], None]:
    loss = TorchvisionLoss(copy.deepcopy(detector))
    if variant is None:
        return training_step(loss, inputs.images, inputs.targets, lr=LR)
    return training_step(variant.prepare(loss), inputs.images, inputs.targets, variant, LR)


def resdet_step(model: Detector, inputs: Inputs, variant: Variant) -> Callable[[], None]:
    loss = variant.prepare(ResdetLoss(copy.deepcopy(model)))
    return training_step(loss, inputs.batch.images, inputs.batch.targets, variant, LR)


def trainer_of(model: Detector, batch: int, device: str = "cpu", **settings: Any) -> Trainer:
    model = copy.deepcopy(model)
    return stepping_trainer(model, LossesStep(model), batch, LR, device, **settings)


def mask_head_note(detector: nn.Module, inputs: Inputs) -> str:
    """Returns the number of positive RoIs in torchvision's mask head in a step; resdet's head rounds it up."""
    counts: list[int] = []
    head = detector.get_submodule("roi_heads.mask_head")
    hook = head.register_forward_pre_hook(lambda head, features: counts.append(len(features[0])))
    with torch.no_grad():
        detector.train()(inputs.images, inputs.targets)
    detector.eval()
    hook.remove()
    return f"{counts[0]} RoIs in torchvision's mask head"
