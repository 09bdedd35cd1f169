"""Training of the region-centric R-CNN on the proposals of a trained per-class RPN (appendix C)."""

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from resdet.data.loader import Notes
from resdet.engine.base_training import BaseTraining
from resdet.engine.distributed import World
from resdet.engine.log import Log
from resdet.errors import ConfigError
from resdet.localization.build import build_localizer_rcnn
from resdet.localization.config import LocalizationRCNNExperiment
from resdet.localization.data.config import LocalizationConfig
from resdet.localization.data.ilsvrc_loc import LocalizedImages
from resdet.localization.data.proposals import MISSING, ProposalFiles, key_of
from resdet.localization.data.regions import RegionLoader, RegionSamples
from resdet.localization.evaluate import ViewBatch, view_batches
from resdet.localization.locate import Locator
from resdet.localization.rcnn_model import LocalizerRCNN
from resdet.localization.rpn_model import Localizer
from resdet.localization.rpn_training import LocalizationTraining
from resdet.localization.validation_loss import region_losses
from resdet.progress import Activity
from resdet.structures import Batch
from resdet.weights import load_weights
from resdet.weights.checkpoint_file import Checkpoint

KEY_SETTINGS = ("testing", "scales", "candidates", "nms", "proposals")  # settings that affect the proposals
PROPOSER = "proposer."  # prefix of the RPN's tensor names
POLL_INTERVAL = 1.0  # seconds between checks for the proposals of other processes


class RegionTraining:
    """Training batches of proposals; computes missing proposals before the first batch."""

    def __init__(
        self,
        proposer: Localizer,
        source: LocalizedImages,
        experiment: LocalizationRCNNExperiment,
        world: World,
        notes: Notes,
    ):
        self.proposer, self.source, self.experiment = proposer, source, experiment
        self.world, self.notes = world, notes
        self.steps_per_epoch = len(source) / experiment.train.batch

    def batches(self, first_step: int) -> Iterator[Batch]:
        train, data = self.experiment.train, cast(LocalizationConfig, self.experiment.data)
        samples = RegionSamples(self.source, self.proposals(), data, self.experiment.model, train.seed)
        loader = RegionLoader(samples, train.batch, self.world.device, self.notes, self.world.rank, self.world.size)
        return loader.batches(first_step)

    def proposals(self) -> ProposalFiles:
        """Returns the RPN's proposals for all training images and their classes."""
        model, config = self.experiment.model, self.experiment.eval
        cache = Path(model.cache) if model.cache else Path(cast(str, model.proposer)).parent
        settings = [(key, getattr(config, key)) for key in KEY_SETTINGS]
        folder = cache / f"proposals-{key_of(self.proposer.state_dict(), settings, self.source)}"
        files = ProposalFiles(folder, len(self.source), config.proposals)
        missing = files.missing()
        if len(missing) and int(os.environ.get("LOCAL_WORLD_SIZE", self.world.size)) < self.world.size:
            raise ConfigError(
                f"{len(missing)} of {len(self.source)} training images lack proposals in {folder}, which one machine "
                "must compute: train on one machine first, then on all with a model.cache that each can read."
            )
        share = missing[missing % self.world.size == self.world.rank]
        if len(share):
            self.notes.report(
                f"computing proposals for {len(missing)} of {len(self.source)} training images in {folder}"
            )
            self.fill(files, share)
        # This may take hours, longer than the timeout of a barrier: poll the files instead.
        with Activity("waiting for the proposals of other processes"):
            while len(files.missing()):
                time.sleep(POLL_INTERVAL)
        return files

    @torch.inference_mode()
    def fill(self, files: ProposalFiles, indices: np.ndarray) -> None:
        """Writes the proposals of these images, in pixels at the annotated size; none for unreadable images."""
        data, config = cast(LocalizationConfig, self.experiment.data), self.experiment.eval
        source, locator = self.source, Locator([self.proposer.eval()], config)
        options = (config.batch, data.workers, data.on_bad_image, self.notes)
        for views, sizes, numbers in view_batches(locator, source, indices.tolist(), *options, "computing proposals"):
            labels = torch.from_numpy(source.labels[numbers]).to(locator.device)[:, None]
            proposals = locator.propose(views, sizes, labels)
            ratios = torch.from_numpy(source.sizes[numbers].astype(np.float32)) / sizes.cpu().flip(1)
            boxes = proposals.boxes.cpu() * ratios.repeat(1, 2)[:, None]
            for index, rows, valid in zip(numbers, boxes, proposals.valid.cpu()):
                files.write(index, rows[valid].numpy())
        for index in indices[files.counts[indices] == MISSING]:
            files.write(index, np.zeros((0, 4), np.float32))
        files.flush()


class LocalizationRCNNTraining(LocalizationTraining):
    """The training task of an R-CNN experiment."""

    def build(self) -> nn.Module:
        return build_localizer_rcnn(self.experiment, self.source.classes)

    def start_from(self, weights: str | Path | Checkpoint, log: Log) -> None:
        """Loads weights; the RPN of `model.proposer` replaces the RPN in an R-CNN's file."""
        checkpoint = load_weights.as_checkpoint(weights)
        if any(name.startswith(PROPOSER) for name in checkpoint.state):
            kept = {name: tensor for name, tensor in checkpoint.state.items() if not name.startswith(PROPOSER)}
            proposer = {PROPOSER + name: tensor for name, tensor in self.model.proposer.state_dict().items()}
            checkpoint = replace(checkpoint, state=kept | proposer)
        super().start_from(checkpoint, log)

    def make_loader(self) -> RegionTraining:
        return RegionTraining(self.model.proposer, self.source, self.experiment, self.world, self.notes)

    def losses_of(self, model: nn.Module, locator: Locator, batch: ViewBatch) -> dict[str, Tensor]:
        return region_losses(cast(LocalizerRCNN, model), locator, self.validation, batch)

    def pixels(self, model: nn.Module, batch: Batch) -> Tensor:
        return BaseTraining.pixels(self, model, batch)  # regions have no padding
