"""Small images in one tensor on the device, cropped and flipped there (section 4.2)."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from resdet.classification.data.config import OnDeviceConfig
from resdet.data.samplers import ShuffleSampler, generator_for
from resdet.progress import track
from resdet.structures import Batch, share, upload

UPLOAD = 100  # number of steps whose random numbers are uploaded at once


class OnDeviceImages:
    """A whole data set of small images of one size: uint8 [N, 3, S, S] and labels [N], on a device."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, classes: list[str], device: torch.device):
        self.images = torch.from_numpy(images).to(device)
        self.labels = torch.from_numpy(labels).to(device)
        self.classes = classes
        self.device = device

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        return f"image {index}"

    def mean(self, per_pixel: bool) -> Tensor:
        """Returns the mean image [3, S, S], or the mean color [3, 1, 1]; exact over all images."""
        total = sum((part.double().sum(0) for part in self.images.split(4096)), torch.zeros(())) / len(self)
        return (total if per_pixel else total.mean((1, 2), keepdim=True)).float()

    def std(self) -> Tensor:
        """Returns the standard deviation of each color, [3]."""
        mean = self.mean(per_pixel=False).double()
        squares = sum((part.double() - mean).square().sum((0, 2, 3)) for part in self.images.split(4096))
        return (squares / (self.images.numel() / 3)).sqrt().float()


def open_on_device(config: OnDeviceConfig, split: str, device: torch.device) -> OnDeviceImages:
    """Uploads the images of a split, `train` or `val`."""
    data = config.open(split)
    return OnDeviceImages(data.images, data.labels, data.classes, device)


class OnDeviceTraining:
    """An endless stream of training batches: "4 pixels are padded on each side, and a 32×32 crop is randomly sampled
    from the padded image or its horizontal flip". The padding has the mean color, which normalizes to about zero."""

    def __init__(
        self, data: OnDeviceImages, batch: int, seed: int, pad: int, flip: bool, rank: int = 0, world: int = 1
    ):
        self.data, self.batch, self.seed = data, batch, seed
        self.pad, self.flip = pad, flip
        part = share(batch, rank, world)
        self.share = slice(part.start, part.stop)
        self.sampler = ShuffleSampler(len(data), batch, seed)
        self.steps_per_epoch = self.sampler.steps_per_epoch
        color = data.mean(per_pixel=False).round().to(torch.uint8)
        self.padded = color.expand(len(data), -1, *(side + 2 * pad for side in data.images.shape[2:])).clone()
        self.padded[:, :, pad : pad + data.images.shape[2], pad : pad + data.images.shape[3]] = data.images

    def batches(self, first_step: int) -> Iterator[Batch]:
        step = first_step
        while True:
            yield from self.draw(range(step, step + UPLOAD))
            step += UPLOAD

    def draw(self, steps: range) -> Iterator[Batch]:
        """Yields this process's share of the batches of some steps; uploads their indices and crops at once."""
        drawn = torch.from_numpy(np.stack([self.sample(step) for step in steps]))
        on_device = upload(drawn, self.data.device)
        size = self.data.images.shape[-1]
        for plan, indices in zip(on_device, drawn[..., 0]):
            i, y, x = plan[:, 0], plan[:, 1 : 1 + size], plan[:, 1 + size :]
            images = self.padded[i[:, None, None], :, y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2)
            yield Batch(images, self.data.labels[i], indices.clone())  # a clone, since checkpoints store whole storages

    def sample(self, step: int) -> np.ndarray:
        """Returns [b, 1 + 2 S]: index, rows and columns of each image of this share; samples crops for the whole
        batch."""
        indices = self.sampler.row(step)[self.share]
        rng = generator_for(self.seed, 1, step)
        corners = rng.integers(0, 2 * self.pad + 1, (self.batch, 2))[self.share]
        flips = (rng.random(self.batch) < 0.5)[self.share] & self.flip
        size = self.data.images.shape[-1]
        rows = corners[:, :1] + np.arange(size)
        columns = corners[:, 1:] + np.where(flips[:, None], np.arange(size)[::-1], np.arange(size))
        return np.concatenate([indices[:, None], rows, columns], 1)


class OnDeviceEvaluation:
    """Batches of this process's share of the images, without augmentation or duplicates."""

    def __init__(self, data: OnDeviceImages, batch: int, rank: int = 0, world: int = 1):
        self.data, self.batch = data, batch
        self.indices = torch.arange(rank, len(data), world)

    def __iter__(self) -> Iterator[Batch]:
        for indices in track(self.indices.split(self.batch), "evaluating", len(self.indices), len):
            i = indices.to(self.data.device)
            yield Batch(self.data.images[i], self.data.labels[i], indices)
