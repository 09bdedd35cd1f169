"""The base class of the training tasks."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch import Tensor, nn

from resdet.backbones.layers import Backbone
from resdet.backbones.surgery import exact_batch_statistics
from resdet.data.class_names import compare_classes
from resdet.data.image_headers import check_headers
from resdet.data.loader import Notes
from resdet.engine import distributed
from resdet.engine.log import Log
from resdet.engine.training import Training
from resdet.errors import DataError, WeightsError, number_of
from resdet.images.decode import Source
from resdet.progress import track
from resdet.structures import Batch
from resdet.weights import load_weights
from resdet.weights.checkpoint_file import Checkpoint
from resdet.weights.kind import has_heads, kind_of
from resdet.weights.layouts.recognition import recognize

REPORTED = 5  # damaged images reported before the first step; the loader reports the others when it reads them


class BaseTraining:
    """Base class of training tasks; subclasses set the attributes below."""

    experiment: Any  # an instance of the task's class
    model: Any
    step: nn.Module
    training: Training
    notes: Notes
    monitor: str

    def sources(self) -> Mapping[str, Source]:
        """Returns the source of each split with image files."""
        return {}

    def check_images(self, log: Log) -> None:
        """Reads all image headers; a damaged image raises a DataError, or is reported if the config skips it."""
        for split, source in self.sources().items():
            started = time.monotonic()
            damaged = distributed.from_main(lambda: check_headers(source))
            images, seconds = number_of(len(source), "image"), time.monotonic() - started
            log.info(f"{split}: read the headers of {images} in {seconds:.1f} s, {len(damaged) or 'none'} damaged")
            self.report_damaged(list(damaged.values()), log)

    def monitors(self) -> list[str]:
        """Returns the metrics that `train.monitor` may name; raises an Error for invalid annotations."""
        return [self.monitor]

    def train_images(self, count: int) -> list[np.ndarray]:
        """Draws the first training images; none by default."""
        return []

    def report_damaged(self, errors: list[DataError], log: Log) -> None:
        if not errors:
            return
        if self.experiment.data.on_bad_image == "error":
            others = len(errors) - 1
            more = f"; {others} more {'are' if others > 1 else 'is'} damaged" if others else ""
            raise DataError(f"{str(errors[0].in_data_set()).rstrip('.')}{more}.")
        if log.out is not None:
            self.notes.note([self.left_out(str(error)) for error in errors[:REPORTED]])

    def left_out(self, sentence: str) -> str:
        """Returns the loader's message for an image that this error causes it to skip."""
        return sentence

    def start_from(self, weights: str | Path | Checkpoint, log: Log) -> None:
        """Loads the weights of `--init`, except layers for other classes, and logs the result."""
        log.info(str(load_weights.load(self.model, weights, new_classifier=True)))

    def load_strict(self, weights: str) -> list[str]:
        """Loads weights for an evaluation, which must match all layers; returns notes on them.

        Refuses weights with a different index for a class of the data. If a classifier or a detector has the same class
        names in another order, its rows are matched by name.
        """
        checkpoint = load_weights.as_checkpoint(weights)
        if has_heads(self.model) and not recognize(checkpoint).detector:
            raise WeightsError(
                f"{checkpoint.origin} has no heads of a {kind_of(self.model)}, which an evaluation needs: give the "
                "best.pth of a run of this config."
            )
        notes = load_weights.load(self.model, checkpoint).notes
        given, classes = checkpoint.description.classes or [], self.model.classes
        by_name = kind_of(self.model) != "localizer" and {*given} == {*classes}
        note = compare_classes("The model", given, classes) if given and not by_name else None
        return [*notes, *([note] if note else [])]

    def exact_statistics(self, model: nn.Module, images: int) -> None:
        """Recomputes the backbone's batch norm statistics over augmented training images, the same in each call."""
        size = self.experiment.train.batch
        steps = max(1, images // size)

        def batches() -> Iterator[Tensor]:
            taken = zip(range(steps), self.training.batches(0))
            for _, batch in track(taken, "exact statistics", steps * size, lambda _: size):
                yield self.pixels(model, batch)

        exact_batch_statistics(cast(Backbone, model.backbone), batches())

    def pictures(self, count: int) -> dict[str, np.ndarray]:
        """Returns pictures of validation images by name; none by default."""
        return {}

    def pixels(self, model: nn.Module, batch: Batch) -> Tensor:
        """Returns the normalized images of a training batch."""
        return cast(nn.Module, model.normalize)(batch.images)
