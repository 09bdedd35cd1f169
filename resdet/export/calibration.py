"""The images that int8 is calibrated on: those of a folder, or of a config, whose validation data then judges it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from resdet import config as configs
from resdet.data.folder import is_image
from resdet.errors import ConfigError
from resdet.tasks import tasks

COUNT = 64  # images, at the most


class Calibration:
    """Opens nothing before it is asked for images."""

    def __init__(self, name: str, overrides: Sequence[str] = ()):
        """`name` is a folder, or a config's name or path."""
        self.folder = Path(name) if Path(name).is_dir() else None
        self.experiment = None if self.folder else configs.load(name, *overrides)

    def check_fits(self, model: Any) -> None:
        if self.experiment is not None and self.experiment.task != model.task:
            raise ConfigError(
                f"--calibrate names a config of the task {self.experiment.task} and the model is for {model.task}: "
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
        return tasks[self.experiment.task].pictures(self.experiment.data)
