"""Batches of scenes from worker processes: to train on, and to be judged."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from resdet.data.loader import Loader, Notes, collated, to_device, worker_count
from resdet.data.samplers import GroupedSampler, generator_for
from resdet.detection.data.augment_config import SceneConfig
from resdet.detection.data.buckets import buckets, group_of, rounded_up, smallest_fit
from resdet.detection.data.collate import MAX_OBJECTS, Sample, collate_scenes
from resdet.detection.data.geometry import open_image, scale_of
from resdet.detection.data.scene import Scene
from resdet.detection.data.segmentation import Pair
from resdet.detection.data.transforms import TrainScene
from resdet.errors import DataError
from resdet.structures import Images, Targets, each

Resize = Callable[[Any], np.ndarray]  # an image -> its pixels [h, w, 3], uint8 or float32


class SceneSamples(Dataset):
    """(position, index) -> a sample, augmented by randomness that belongs to the position.

    With on_bad_image "skip", what cannot be read becomes a picture of size 0 × 0 without objects: no anchor of it is
    real, so that it teaches nothing.
    """

    def __init__(self, source: Any, transform: Callable[..., Scene], seed: int, on_bad_image: str):
        self.source, self.transform, self.seed, self.on_bad_image = source, transform, seed, on_bad_image

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        position, index = key
        make = lambda: (self.transform(self.source, index, generator_for(self.seed, 0, position)), (1.0, 1.0))
        return sample(self.source, index, make, self.on_bad_image)


class EvaluationSamples(Dataset):
    """index -> a sample of the whole picture, resized."""

    def __init__(self, source: Any, resize: Resize, on_bad_image: str):
        self.source, self.resize, self.on_bad_image = source, resize, on_bad_image

    def __getitem__(self, index: int) -> Sample:
        return sample(self.source, index, partial(self.resized, index), self.on_bad_image)

    def resized(self, index: int) -> tuple[Scene, Pair]:
        pixels = self.resize(open_image(self.source, index))
        scale = scale_of(self.source, index, pixels)
        return Scene.of(pixels, self.source.objects(index), scale), scale


def sample(source: Any, index: int, make: Callable[[], tuple[Scene, Pair]], on_bad_image: str) -> Sample:
    """What `make` returns as a sample; without a scene where it cannot be read and is to be skipped."""
    try:
        scene, scale = make()
    except DataError as error:
        if on_bad_image == "error":
            raise
        return Sample(None, index, source.name(index), f"image left out, {error}")
    return Sample(scene, index, source.name(index), scale=scale)


class SceneLoader(Loader):
    """Training batches of a source with objects, without end from any step, of pictures of like proportions.

    `copies` [N] says how often each image is expected in a pass (resdet.detection.data.resampling). The same images come at
    a step, augmented alike, whatever the number of processes and workers.
    """

    def __init__(
        self,
        source: Any,
        augment: SceneConfig,
        batch: int,
        seed: int,
        device: torch.device,
        notes: Notes,
        *,
        copies: np.ndarray | None = None,
        max_objects: int = MAX_OBJECTS,
        mask_size: int | None = None,
        on_bad_image: str = "error",
        workers: int = -1,
        rank: int = 0,
        world: int = 1,
    ):
        limits = augment.limits()
        self.shapes = buckets(*limits)
        order = GroupedSampler(group_of(source.sizes, *limits, self.shapes), batch, seed, copies)
        shape = partial(smallest_fit, shapes=self.shapes)
        super().__init__(
            SceneSamples(source, TrainScene(augment), seed, on_bad_image),
            order.row,
            order.steps_per_pass,
            partial(collate_scenes, shape=shape, max_objects=max_objects, mask_size=mask_size),
            workers,
            device,
            notes,
            rank,
            world,
        )


class EvaluationBatch(NamedTuple):
    """Images to be judged."""

    images: Images
    indices: Tensor  # [B] int64 on the CPU
    scales: Tensor  # [B, 2] float32 on the CPU: resized / as annotated, across and down
    targets: Targets | None

    def to(self, device: torch.device) -> "EvaluationBatch":
        move = lambda field: field.to(device, non_blocking=True)
        return self._replace(images=each(self.images, move), targets=each(self.targets, move))


def collate_evaluation(
    samples: list[Sample], with_targets: bool, **options: Any
) -> tuple[EvaluationBatch | None, list[str]]:
    """A batch of those that could be read, if any could; why the others are left out."""
    readable = [sample for sample in samples if sample.scene is not None]
    left_out = [sample.note for sample in samples if sample.scene is None]
    if not readable:
        return None, left_out
    batch, notes = collate_scenes(readable, **options)
    notes += left_out
    scales = torch.tensor([sample.scale for sample in readable], dtype=torch.float32)
    return EvaluationBatch(batch.images, batch.indices, scales, batch.targets if with_targets else None), notes


def evaluation_batches(
    source: Any,
    short: int,
    long: int,
    resize: Resize,
    batch: int,
    device: torch.device,
    notes: Notes,
    *,
    targets: bool = False,
    max_objects: int = MAX_OBJECTS,
    mask_size: int | None = None,
    divisor: int | None = None,
    on_bad_image: str = "error",
    workers: int = -1,
    rank: int = 0,
    world: int = 1,
) -> Iterator[EvaluationBatch]:
    """This process's share of a source's images, each that can be read exactly once over all processes, on the device.

    Pictures come by their proportions, from the tallest to the widest, so that a batch needs little padding: to the
    next multiples of `divisor`, or where it is None to the least of the shapes for sides up to `short` and `long`.
    """
    widths, heights = np.asarray(source.sizes, np.float64).T
    ordered = np.argsort(widths / heights, kind="stable")
    keys = [ordered[start : start + batch].tolist() for start in range(0, len(ordered), batch)][rank::world]
    fit = partial(smallest_fit, shapes=buckets(short, long))
    shape = partial(rounded_up, divisor=divisor) if divisor else fit
    collate = partial(
        collate_evaluation, with_targets=targets, shape=shape, max_objects=max_objects, mask_size=mask_size
    )
    samples = EvaluationSamples(source, resize, on_bad_image)
    return to_device(collated(samples, keys, collate, worker_count(workers), device), device, notes)
