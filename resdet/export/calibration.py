"""Calibration images for int8, from a folder or from the training data of a config."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from resdet import config as configs
from resdet.data.loader import skip_or_raise
from resdet.errors import ConfigError, DataError
from resdet.export.exporters import exporters
from resdet.images.decode import as_image
from resdet.images.image_files import images_of
from resdet.results.spread import spread
from resdet.tasks import tasks

COUNT = 64  # maximum number of images


class CalibrationData:
    """Images of a data set, which is opened on first use."""

    def __init__(self, name: str, overrides: Sequence[str] = ()):
        """`name`: a folder, or the name or path of a config."""
        self.name = name
        self.experiment = None if Path(name).is_dir() else configs.load(name, *overrides)

    def check(self, model: Any) -> None:
        """Raises an Error before the slow export if the data do not suit the model or cannot be read."""
        if self.experiment is None and not self.source:
            raise DataError(f"--calibrate {self.name} contains no images: give a folder with images, or a config.")
        if self.experiment is not None and self.experiment.task != model.task:
            raise ConfigError(
                f"--calibrate gives a config of the task {self.experiment.task}, but the model's task is {model.task}: "
                "give a config of this task, or a folder of images."
            )
        if self.experiment is not None:
            exporters[model.task].check_data(model, self.experiment)
        for _ in self.images():
            pass

    def images(self) -> Iterator[Any]:
        """Yields evenly spaced images as inputs of `predict`, without unreadable images that the config skips."""
        for index in spread(len(self.source), COUNT):
            image = self.source[index]
            try:
                as_image(image).decode()
            except DataError as error:
                if self.experiment is None:
                    raise
                skip_or_raise(error, cast(Any, self.experiment.data).on_bad_image)
                continue
            yield image

    @cached_property
    def source(self) -> Sequence:
        if self.experiment is None:
            return images_of(self.name)
        return tasks[self.experiment.task].calibration_images(self.experiment.data)
