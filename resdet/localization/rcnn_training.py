"""ImageNet localization with a region-centric R-CNN on the proposals of a trained per-class RPN (appendix C)."""

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from resdet.data.loader import Notes
from resdet.data.samplers import ShuffleSampler
from resdet.engine.distributed import World
from resdet.engine.log import Log
from resdet.errors import ConfigError
from resdet.localization.build import build_localizer_rcnn
from resdet.localization.data.proposals import MISSING, ProposalFiles, key_of
from resdet.localization.data.regions import RegionLoader, RegionSamples
from resdet.localization.evaluate import Shown, shown_images
from resdet.localization.locate import Locator
from resdet.localization.rpn_model import Localizer
from resdet.localization.rpn_training import LocalizationTraining
from resdet.localization.validation_loss import region_losses
from resdet.structures import Batch
from resdet.weights import loading
from resdet.weights.reading import Checkpoint

WHAT_THEY_DEPEND_ON = ("testing", "scales", "candidates", "nms", "proposals")  # of the settings
PROPOSER = "proposer."  # begins the names of the RPN's tensors
PATIENCE = 1.0  # seconds between two looks at what other processes have done


class RegionTraining:
    """Training batches of proposals, which are computed before the first batch where they are not there yet."""

    def __init__(self, proposer: Localizer, source: Any, experiment: Any, world: World, notes: Notes):
        self.proposer, self.source, self.experiment = proposer, source, experiment
        self.world, self.notes = world, notes
        self.steps_per_epoch = ShuffleSampler(len(source), 0).steps_per_pass(experiment.train.batch)

    def batches(self, first_step: int) -> Iterator[Batch]:
        model, train = self.experiment.model, self.experiment.train
        samples = RegionSamples(
            self.source,
            self.proposals(),
            self.experiment.data,
            model.context,
            model.positive_iou,
            model.positive_fraction,
            train.seed,
        )
        loader = RegionLoader(samples, train.batch, self.world.device, self.notes, self.world.rank, self.world.size)
        return loader.batches(first_step)

    def proposals(self) -> ProposalFiles:
        """The RPN's proposals of all training images, each for the class of its image."""
        model, config = self.experiment.model, self.experiment.eval
        home = Path(model.cache) if model.cache else Path(model.proposer).parent
        settings = [(key, getattr(config, key)) for key in WHAT_THEY_DEPEND_ON]
        folder = home / f"proposals-{key_of(self.proposer.state_dict(), settings, self.source)}"
        files = ProposalFiles(folder, len(self.source), config.proposals)
        missing = files.missing()
        if len(missing) and int(os.environ.get("LOCAL_WORLD_SIZE", self.world.size)) < self.world.size:
            raise ConfigError(
                f"{len(missing)} of {len(self.source)} training images lack proposals in {folder}, which one machine "
                "must compute: train there alone until it has them, then on all with a model.cache that each can read."
            )
        mine = missing[missing % self.world.size == self.world.rank]
        if len(mine):
            self.notes.say(f"{len(missing)} of {len(self.source)} training images get their proposals into {folder}")
            self.fill(files, mine)
        # A barrier would run into its time limit, for these are hours of work; the files tell when all are done.
        while len(files.missing()):
            time.sleep(PATIENCE)
        return files

    @torch.inference_mode()
    def fill(self, files: ProposalFiles, indices: np.ndarray) -> None:
        """Proposals of these images, in pixels of the annotated pictures; what cannot be read gets none."""
        data, config, source, notes = self.experiment.data, self.experiment.eval, self.source, self.notes
        locator = Locator([self.proposer.eval()], config)
        shown = shown_images(locator, source, indices.tolist(), config.batch, data.workers, data.on_bad_image, notes)
        for views, sizes, numbers in shown:
            labels = torch.from_numpy(source.labels[numbers]).to(locator.device)[:, None]
            found = locator.propose(views, sizes, labels)
            ratios = torch.from_numpy(source.sizes[numbers].astype(np.float32)) / sizes.cpu().flip(1)
            boxes = found.boxes.cpu() * ratios.repeat(1, 2)[:, None]
            for index, own, valid in zip(numbers, boxes, found.valid.cpu()):
                files.write(index, own[valid].numpy())
        for index in indices[files.counts[indices] == MISSING]:
            files.write(index, np.zeros((0, 4), np.float32))
        files.flush()


class LocalizationRCNNTraining(LocalizationTraining):
    """As the RPN's, but for the model and what it is trained on."""

    def build(self) -> nn.Module:
        return build_localizer_rcnn(self.experiment, self.source.classes)

    def start_from(self, weights: str | Path | Checkpoint, log: Log) -> None:
        """An RPN inside an R-CNN's file gives way to the one that `model.proposer` names."""
        checkpoint = loading.as_checkpoint(weights)
        if any(name.startswith(PROPOSER) for name in checkpoint.state):
            kept = {name: tensor for name, tensor in checkpoint.state.items() if not name.startswith(PROPOSER)}
            named = {PROPOSER + name: tensor for name, tensor in self.model.proposer.state_dict().items()}
            checkpoint = replace(checkpoint, state=kept | named)
        super().start_from(checkpoint, log)

    def make_loader(self) -> RegionTraining:
        return RegionTraining(self.model.proposer, self.source, self.experiment, self.world, self.notes)

    def losses_of(self, model: nn.Module, locator: Locator, shown: Shown) -> dict[str, Tensor]:
        return region_losses(model, locator, self.validation, shown)

    def pixels(self, model: nn.Module, batch: Batch) -> Tensor:
        return model.normalize(batch.images)
