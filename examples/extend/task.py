"""A custom task: a config dataclass and a `Task`, registered under the value of the key `task`.

This task is classification with a temperature for the logits. Other tasks implement `build`, `open_training`,
`evaluate` and `predict`, as in resdet/*/task.py.

resdet train --config shapes_resnet20.yaml --import task task=sharp_classification model.temperature=0.5
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import resdet
from resdet.classification import ClassificationExperiment, ClassificationTask, Classifier, ClassifierConfig


@dataclass
class SharpConfig(ClassifierConfig):
    """A classifier whose logits are divided by the temperature."""

    temperature: float = 1.0


@dataclass
class SharpExperiment(ClassificationExperiment):
    """The sections of classification, with another `model`."""

    task: Literal["sharp_classification"] = "sharp_classification"
    model: SharpConfig = field(default_factory=SharpConfig)


@resdet.tasks.register("sharp_classification", SharpExperiment)
class SharpTask(ClassificationTask):
    """Builds the model; inherits training, evaluation and prediction from classification."""

    def build(
        self, experiment: SharpExperiment, classes: Sequence[str], category_ids: Sequence[int] | None = None
    ) -> Classifier:
        model = super().build(experiment, classes)
        temperature = experiment.model.temperature
        model.backbone.fc.register_forward_hook(lambda layer, inputs, logits: logits / temperature)
        return model
