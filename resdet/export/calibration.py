"""The images that int8 is calibrated on: those of a folder, or of a config, whose validation data then judges it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from resdet import config as configs
from resdet.data.config import ImagesConfig
from resdet.data.folder import is_image
from resdet.data.sources import open_images, open_resident, open_scenes
from resdet.errors import ConfigError
from resdet.models.detector import Detector

COUNT = 64  # images, at the most


class Calibration:
    """Opens nothing before it is asked for images."""

    def __init__(self, name: str, overrides: Sequence[str] = ()):
        """`name` is a folder, or a config's name or path."""
        self.folder = Path(name) if Path(name).is_dir() else None
        self.experiment = None if self.folder else configs.load(name, *overrides)

    def check_fits(self, model: Any) -> None:
        task = "detection" if isinstance(model, Detector) else "classification"
        if self.experiment is not None and self.experiment.task != task:
            raise ConfigError(
                f"--calibrate names a config of the task {self.experiment.task} and the model is for {task}: "
                "give one that fits, or a folder of images."
            )

    def images(self) -> Iterator[Any]:
        """Evenly spaced, as `predict` takes them."""
        source = self.open()
        for index in np.unique(np.linspace(0, len(source) - 1, min(COUNT, len(source))).astype(int)).tolist():
            yield source[index]

    def open(self) -> Sequence:
        if self.folder:
            return sorted(path for path in self.folder.iterdir() if is_image(path.name))
        data = self.experiment.data
        if self.experiment.task == "detection":
            return Pictures(open_scenes(data, "train"))
        if isinstance(data, ImagesConfig):
            return Pictures(open_images(data, "train"))
        return open_resident(data, "train", torch.device("cpu")).images.permute(0, 2, 3, 1).numpy()


class Pictures:
    """The images of a source alone, as a sequence."""

    def __init__(self, source: Any):
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Any:
        return self.source.image(index)
