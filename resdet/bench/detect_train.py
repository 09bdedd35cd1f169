"""A training step of detectors: losses, backward, SGD with momentum, on images with eight objects each."""

import copy
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from resdet.bench.detection import CLASSES, picture, tensor_of, twins
from resdet.bench.nets import EAGER, Variant
from resdet.bench.train import stepping_trainer, training_step
from resdet.detection.model import Detector
from resdet.detection.objects_training import LossesStep
from resdet.engine.trainer import Trainer
from resdet.structures import Batch, Images, Targets
from resdet.timing import Case

HEIGHT, WIDTH, BATCHES, OBJECTS, MASK_SIZE = 600, 800, (1,), 8, 56
LR = 1e-7  # the weights are random: let them stay as they are from round to round


def cases(
    height: int = HEIGHT, width: int = WIDTH, batches: tuple[int, ...] = BATCHES, body: str = "resnet50"
) -> Iterator[Case]:
    """By default torchvision trains as its reference does, in float32 and contiguous memory, and we as `resdet train`
    does. Both learn from 256 anchors and 512 regions an image, with two stages and all norms frozen."""
    for masks in (False, True):
        detectors = twins(masks, height, width, body)
        for batch in batches:
            torch.compiler.reset()
            yield from cases_of(*detectors, Work.make(height, width, batch))


class Work(NamedTuple):
    """The same images and objects as torchvision takes them, and as our loader gives them."""

    images: list[Tensor]
    targets: list[dict[str, Tensor]]
    batch: Batch

    @classmethod
    def make(cls, height: int, width: int, batch: int) -> "Work":
        pictures = [picture(height, width, seed) for seed in range(batch)]
        pixels = torch.stack([torch.from_numpy(p) for p in pictures]).permute(0, 3, 1, 2)
        sizes = torch.tensor([[height, width]] * batch, dtype=torch.float32)
        boxes, labels = objects(height, width, batch)
        everywhere = torch.ones_like(labels, dtype=torch.bool)
        cells = ellipse(torch.tensor([0.0, 0, MASK_SIZE, MASK_SIZE]), MASK_SIZE, MASK_SIZE) * 255
        masks = cells.expand(batch, OBJECTS, -1, -1).contiguous()
        targets = Targets(boxes, labels, everywhere, ~everywhere, masks)
        theirs = [
            {"boxes": b, "labels": l + 1, "masks": torch.stack([ellipse(box, height, width) for box in b])}
            for b, l in zip(boxes, labels)
        ]
        ours = Batch(Images(pixels, sizes), targets, torch.arange(batch))
        return cls([tensor_of(p) for p in pictures], theirs, ours)


def objects(height: int, width: int, batch: int) -> tuple[Tensor, Tensor]:
    """Boxes [batch, OBJECTS, 4] of a twelfth to a half of the image's sides, and labels."""
    draw = torch.Generator().manual_seed(0)
    limits = torch.tensor([width, height])
    sides = limits * (1 / 12 + 5 / 12 * torch.rand(batch, OBJECTS, 2, generator=draw))
    corners = torch.rand(batch, OBJECTS, 2, generator=draw) * (limits - sides)
    return torch.cat([corners, corners + sides], 2), torch.randint(CLASSES, (batch, OBJECTS), generator=draw)


def ellipse(box: Tensor, height: int, width: int) -> Tensor:
    """That fills the box: uint8 [height, width] of 0 and 1."""
    center, half = (box[2:] + box[:2]) / 2, (box[2:] - box[:2]) / 2
    x = (torch.arange(width) + 0.5 - center[0]) / half[0]
    y = (torch.arange(height) + 0.5 - center[1]) / half[1]
    return (x.square() + y.square()[:, None] <= 1).byte()


def cases_of(theirs: nn.Module, ours: Detector, work: Work) -> Iterator[Case]:
    count = len(work.images)
    height, width = work.batch.images.pixels.shape[2:]
    name = f"{'Mask' if ours.draws_masks else 'Faster'} R-CNN {width}×{height}, batch {count}, {{}}".format
    note = note_on_masks(theirs, work) if ours.draws_masks else ""

    peer = torchvision_step(theirs, work)
    trainer = trainer_of(ours, count)
    sides = {"torchvision": peer, "resdet": lambda: trainer.take_step(work.batch)}
    yield Case(name(f"defaults (resdet: channels_last, {trainer.precision})"), count, sides, note)
    for variant in EAGER:
        sides = {"torchvision": torchvision_step(theirs, work, variant), "resdet": resdet_step(ours, work, variant)}
        yield Case(name(variant), count, sides)
    compiled = trainer_of(ours, count, compile=True)
    sides = {"torchvision": peer, "resdet": lambda: compiled.take_step(work.batch)}
    yield Case(name(f"resdet compiled, {compiled.precision}; peer's defaults"), count, sides)


class TorchvisionLoss(nn.Module):
    """The sum of the losses of torchvision's detector, which it tells in training mode alone."""

    def __init__(self, detector: nn.Module):
        super().__init__()
        self.detector = detector.train()

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> Tensor:
        return sum(self.detector(images, targets).values())


class ResdetLoss(nn.Module):
    """Likewise of ours."""

    def __init__(self, model: Detector):
        super().__init__()
        self.model = model.train()

    def forward(self, images: Images, targets: Targets) -> Tensor:
        return sum(self.model.losses(images, targets).values())


def torchvision_step(detector: nn.Module, work: Work, variant: Variant | None = None) -> Callable[[], None]:
    loss = TorchvisionLoss(copy.deepcopy(detector))
    if variant is None:
        return training_step(loss, work.images, work.targets, lr=LR)
    return training_step(variant.prepare(loss), work.images, work.targets, variant, LR)


def resdet_step(model: Detector, work: Work, variant: Variant) -> Callable[[], None]:
    loss = variant.prepare(ResdetLoss(copy.deepcopy(model)))
    return training_step(loss, work.batch.images, work.batch.targets, variant, LR)


def trainer_of(model: Detector, batch: int, **settings: bool) -> Trainer:
    model = copy.deepcopy(model)
    return stepping_trainer(model, LossesStep(model), batch, LR, **settings)


def note_on_masks(detector: nn.Module, work: Work) -> str:
    """How many positive regions torchvision sends through its mask head in a step; ours rounds such a count up."""
    counts = []
    hook = detector.roi_heads.mask_head.register_forward_pre_hook(lambda head, given: counts.append(len(given[0])))
    with torch.no_grad():
        detector.train()(work.images, work.targets)
    detector.eval()
    hook.remove()
    return f"{counts[0]} regions in torchvision's mask head"
