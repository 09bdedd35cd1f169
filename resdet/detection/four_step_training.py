"""Four-step alternating training (Faster R-CNN, section 3.2), as used for the paper's detectors.

1. The RPN, from ImageNet weights. 2. The RoI heads and their backbone, from ImageNet weights, on proposals of step 1.
3. A new RPN on the backbone of step 2, frozen from here on. 4. The RoI heads, on that backbone and proposals of step 3.
Each step is a run; the last run contains the complete detector.
"""

import copy
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from resdet.backbones.surgery import freeze_norms
from resdet.detection.config import DetectionExperiment
from resdet.detection.evaluation.evaluate import evaluation_batches_of
from resdet.detection.evaluation.validation_loss import LossSums
from resdet.detection.model import Detector, with_room
from resdet.detection.training import DetectionTraining
from resdet.engine.checkpoint import LAST
from resdet.engine.distributed import World
from resdet.engine.log import Log
from resdet.restore import Build, restore
from resdet.structures import Images, Targets
from resdet.tasks import Step
from resdet.weights import checkpoint_file

STEPS = ("1_rpn", "2_regions", "3_rpn", "4_regions")  # the folders of the runs
Losses = tuple[dict[str, Tensor], dict[str, Tensor]]


class RPNStep(nn.Module):
    """Losses of the RPN."""

    def __init__(self, model: Detector):
        super().__init__()
        self.model = model

    def of(self, model: Detector) -> "RPNStep":
        return RPNStep(model)

    def forward(self, images: Images, targets: Targets) -> Losses:
        output = self.model.rpn(self.model.maps(images), images.pixels.shape[2:])
        return self.model.rpn.losses(output, with_room(targets), images.sizes), {}


class RegionsStep(nn.Module):
    """Losses of the RoI heads, on proposals from another, frozen detector or from the model itself."""

    def __init__(self, model: Detector, proposer: Detector | None):
        super().__init__()
        self.model = model
        self.proposer = (proposer,)  # in a tuple, so that it is not a submodule and not trained

    def of(self, model: Detector) -> "RegionsStep":
        return RegionsStep(model, *self.proposer)

    def forward(self, images: Images, targets: Targets) -> Losses:
        maps = self.model.maps(images)
        (proposer,) = self.proposer
        with torch.no_grad():
            proposer_maps = maps if proposer is None else proposer.maps(images)
            proposals = (proposer or self.model).propose(proposer_maps, images, training=True)
        return self.model.roi_heads.losses(maps, proposals, with_room(targets), images.sizes), {}


class AlternatingTraining(DetectionTraining):
    """Training of one half of a detector, evaluated by its validation loss."""

    step: RPNStep | RegionsStep

    def __init__(
        self, experiment: DetectionExperiment, world: World, log: Log, init: Path | None, build: Build[Detector]
    ):
        super().__init__(experiment, world, log, init, build)
        self.monitor = "loss"

    @torch.inference_mode()
    def evaluate(self, model: Detector) -> dict[str, float]:
        step = self.step.of(model.eval())
        sums = LossSums()
        for batch in evaluation_batches_of(self.validation, self.experiment, model, self.world, self.notes):
            torch.manual_seed(int(batch.indices[0]))  # the same anchor and RoI samples in each evaluation
            losses, _ = step(batch.images, batch.targets)
            sums.add(losses, len(batch.indices))
        means = sums.means()
        return {"loss": sum(means.values()), **means}

    def monitors(self) -> list[str]:
        super().monitors()
        return [self.monitor]

    def lower_is_better(self, metric: str) -> bool:
        return True  # losses

    def keep(self, folder: Path) -> None:
        """Writes nothing: there are no detections."""


def open_step(
    name: str,
    folder: Path,
    build: Build[Detector],
    experiment: DetectionExperiment,
    world: World,
    log: Log,
    init: str | None,
) -> DetectionTraining:
    """Returns the training task of the step `name`; `experiment` is that of the step, `folder` contains all runs."""
    kind = DetectionTraining if name == STEPS[-1] else AlternatingTraining
    task = kind(experiment, world, log, Path(init) if init else None, build)
    freeze(task.model.roi_heads if name.endswith("rpn") else task.model.rpn)
    if name in STEPS[2:]:
        freeze(task.model.backbone, task.model.neck)
    if name.endswith("rpn"):
        task.step = RPNStep(task.model)
    elif name == STEPS[1]:
        task.step = RegionsStep(
            task.model, restore(checkpoint_file.read(folder / STEPS[0] / LAST), build).eval().to(world.device)
        )
    else:
        task.step = RegionsStep(task.model, None)
    return task


def freeze(*parts: nn.Module | None) -> None:
    """Freezes the weights and the normalization statistics."""
    for part in parts:
        if part is not None:
            freeze_norms(part)
            part.requires_grad_(False)


def steps(experiment: DetectionExperiment, folder: Path, init: str | None, build: Build[Detector]) -> list[Step]:
    """Returns the four steps: the first two start from `init`, the others from the previous step."""
    initial = [init, init, str(folder / STEPS[1] / LAST), str(folder / STEPS[2] / LAST)]
    return [
        Step(name, experiment_of(name, experiment), partial(open_step, name, folder, build), weights)
        for name, weights in zip(STEPS, initial)
    ]


def experiment_of(name: str, experiment: DetectionExperiment) -> DetectionExperiment:
    """Returns the experiment of a step: joint training with the batch, length and milestones of `alternating`, and a
    share of `train.minutes`."""
    assert experiment.alternating is not None
    step = copy.deepcopy(experiment)
    part = experiment.alternating.rpn if name.endswith("rpn") else experiment.alternating.regions
    step.train.batch, step.train.length = part.batch, part.length
    step.schedule.milestones = list(part.milestones)
    step.train.minutes = experiment.train.minutes and experiment.train.minutes / len(STEPS)
    step.train.monitor = experiment.train.monitor if name == STEPS[-1] else None  # the others have only losses
    step.eval.losses = name != STEPS[-1] or experiment.eval.losses
    step.alternating = None
    return step
