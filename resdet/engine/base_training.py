"""What all tasks have in common as the trainer sees them."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor, nn

from resdet.backbones.surgery import exact_batch_statistics
from resdet.data.image_headers import check_headers
from resdet.data.loader import Notes
from resdet.engine import distributed
from resdet.engine.log import Log
from resdet.errors import DataError
from resdet.images.decode import Source
from resdet.structures import Batch
from resdet.weights import loading
from resdet.weights.reading import Checkpoint

NAMED = 5  # damaged images that are named before the first step; the others are when they are met


class BaseTraining:
    """A task sets `experiment`, `model`, `training` and `notes`."""

    notes: Notes

    def sources(self) -> Mapping[str, Source]:
        """The images of each split that lie in files."""
        return {}

    def check_images(self, log: Log) -> None:
        """Reads all image headers: a damaged image is an error, or noted where the config says to skip such."""
        for split, source in self.sources().items():
            started = time.monotonic()
            damaged = distributed.from_main(lambda: check_headers(source))
            log.say(
                f"{split}: read the headers of {len(source)} images in {time.monotonic() - started:.1f} s, "
                f"{len(damaged) or 'none'} damaged"
            )
            self.report_damaged(list(damaged.values()), log)

    def check_ground_truth(self) -> None:
        """Refuses annotations that an evaluation would refuse."""

    def report_damaged(self, sentences: list[str], log: Log) -> None:
        if not sentences:
            return
        if self.experiment.data.on_bad_image == "error":
            others = len(sentences) - 1
            more = f"; {others} more {'are' if others > 1 else 'is'} damaged" if others else ""
            raise DataError(f"{sentences[0].rstrip('.')}{more}.")
        if log.out is not None:
            self.notes.note([self.left_out(sentence) for sentence in sentences[:NAMED]])

    def left_out(self, sentence: str) -> str:
        """How the loader calls an image that is left out for this reason."""
        return sentence

    def start_from(self, weights: str | Path | Checkpoint, log: Log) -> None:
        """Those of `--init`, but for what depends on other classes; the log says what came over."""
        log.say(str(loading.load(self.model, weights, new_classifier=True)))

    def load_exactly(self, weights: str) -> None:
        """Weights that must fit whole, for an evaluation."""
        loading.load(self.model, weights)

    def exact_statistics(self, model: nn.Module, images: int) -> None:
        """The backbone's, over augmented training images as the net saw them; the same ones at every evaluation."""
        steps = max(1, images // self.experiment.train.batch)

        def batches() -> Iterator[Tensor]:
            for _, batch in zip(range(steps), self.training.batches(0)):
                yield self.pixels(model, batch)

        exact_batch_statistics(model.backbone, batches())

    def pixels(self, model: nn.Module, batch: Batch) -> Tensor:
        """Normalized images of a training batch."""
        return model.normalize(batch.images)
