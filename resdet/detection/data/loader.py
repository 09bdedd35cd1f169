"""Batches of scenes from worker processes, for training and evaluation."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from resdet.data.loader import Loader, Notes, collated, skip_or_raise, to_device, worker_count
from resdet.data.samplers import GroupedSampler, generator_for
from resdet.detection.data.annotations import Annotations
from resdet.detection.data.augment_config import SceneConfig
from resdet.detection.data.buckets import Shape, buckets, group_of, training_shape
from resdet.detection.data.collate import BOXES, Sample, TargetFormat, collate_scenes
from resdet.detection.data.geometry import open_image, scale_of
from resdet.detection.data.scene import Scene
from resdet.detection.data.transforms import TrainScene
from resdet.errors import DataError
from resdet.structures import Images, Targets, each

Resize = Callable[[Any], np.ndarray]  # image -> pixels [h, w, 3], uint8 or float32


class SceneSamples(Dataset):
    """Maps (position, index) to an augmented sample; the position seeds the augmentation.

    With on_bad_image "skip", an unreadable image becomes an empty image of size 0 × 0. It has no valid anchors and does
    not contribute to the losses.
    """

    def __init__(self, source: Annotations, transform: Callable[..., Scene], seed: int, on_bad_image: str):
        self.source, self.transform, self.seed, self.on_bad_image = source, transform, seed, on_bad_image

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        position, index = key
        rng = generator_for(self.seed, 0, position)
        return sample(self.source, index, lambda: self.transform(self.source, index, rng), self.on_bad_image)


class EvaluationSamples(Dataset):
    """Maps an index to a sample of the whole image, resized."""

    def __init__(self, source: Annotations, resize: Resize, on_bad_image: str):
        self.source, self.resize, self.on_bad_image = source, resize, on_bad_image

    def __getitem__(self, index: int) -> Sample:
        return sample(self.source, index, lambda: self.resized(index), self.on_bad_image)

    def resized(self, index: int) -> Scene:
        pixels = self.resize(open_image(self.source, index))
        return Scene.of(pixels, self.source.objects(index), scale_of(self.source, index, pixels))


def sample(source: Annotations, index: int, make: Callable[[], Scene], on_bad_image: str) -> Sample:
    """Returns the sample of a scene; without the scene if the image is unreadable and `on_bad_image` is "skip"."""
    try:
        return Sample(make(), index, source.name(index))
    except DataError as error:
        return Sample(None, index, source.name(index), f"image left out, {skip_or_raise(error, on_bad_image)}")


class SceneLoader(Loader):
    """Endless training batches, from any step on, of images with similar aspect ratios.

    `copies` [N] is the expected number of copies of each image per epoch (resdet.detection.data.class_balance). The
    images and augmentation of a step do not depend on the number of processes and workers.
    """

    def __init__(
        self,
        source: Annotations,
        augment: SceneConfig,
        batch: int,
        seed: int,
        device: torch.device,
        notes: Notes,
        *,
        copies: np.ndarray | None = None,
        targets: TargetFormat = BOXES,
        on_bad_image: str = "error",
        workers: int = -1,
        rank: int = 0,
        world: int = 1,
    ):
        limits = augment.limits()
        self.shapes = buckets(*limits)
        super().__init__(
            SceneSamples(source, TrainScene(augment), seed, on_bad_image),
            GroupedSampler(group_of(source.sizes, *limits, self.shapes), batch, seed, copies),
            partial(collate_scenes, shape=partial(training_shape, shapes=self.shapes), form=targets),
            workers,
            device,
            notes,
            rank,
            world,
        )


class EvaluationBatch(NamedTuple):
    """Images to evaluate, with their targets if requested."""

    images: Images
    indices: Tensor  # [B] int64 on the CPU
    targets: Targets | None

    def to(self, device: torch.device) -> "EvaluationBatch":
        move = lambda field: field.to(device, non_blocking=True)
        return self._replace(images=each(self.images, move), targets=each(self.targets, move))


def collate_evaluation(
    samples: list[Sample], shape: Callable[[int, int], Shape], targets: TargetFormat | None
) -> tuple[EvaluationBatch | None, list[str]]:
    """Returns a batch of the readable samples, None if there are none, and notes, including unreadable samples."""
    readable = [sample for sample in samples if sample.scene is not None]
    left_out = [sample.note for sample in samples if sample.scene is None]
    if not readable:
        return None, left_out
    batch, notes = collate_scenes(readable, shape, targets or BOXES)
    images = cast(Images, batch.images)
    if targets is None:
        return EvaluationBatch(images, batch.indices, None), left_out
    return EvaluationBatch(images, batch.indices, cast(Targets, batch.targets)), notes + left_out


def evaluation_batches(
    source: Annotations,
    resize: Resize,
    batch: int,
    device: torch.device,
    notes: Notes,
    *,
    targets: TargetFormat | None = None,
    shape: Callable[[int, int], Shape],
    on_bad_image: str = "error",
    workers: int = -1,
    rank: int = 0,
    world: int = 1,
) -> Iterator[EvaluationBatch]:
    """Returns this rank's share of batches, on the device; each readable image occurs once over all ranks.

    Images are sorted by aspect ratio to reduce padding, which extends to the `shape` of the largest height and width.
    """
    widths, heights = np.asarray(source.sizes, np.float64).T
    ordered = np.argsort(widths / heights, kind="stable")
    keys = [ordered[start : start + batch].tolist() for start in range(0, len(ordered), batch)][rank::world]
    collate = partial(collate_evaluation, shape=shape, targets=targets)
    samples = EvaluationSamples(source, resize, on_bad_image)
    return to_device(collated(samples, keys, collate, worker_count(workers), device), device, notes)
