"""Image classification (sections 3.3, 3.4 and 4): model, data, training, evaluation."""

from typing import TYPE_CHECKING

from resdet._lazy import attach

if TYPE_CHECKING:
    from resdet.classification.config import ClassificationExperiment as ClassificationExperiment
    from resdet.classification.config import ClassifierConfig as ClassifierConfig
    from resdet.classification.config import TestCropsConfig as TestCropsConfig
    from resdet.classification.model import Classifier as Classifier
    from resdet.classification.task import ClassificationTask as ClassificationTask

__getattr__, __dir__ = attach(
    __name__,
    {
        "Classifier": "model",
        "ClassificationExperiment": "config",
        "ClassificationTask": "task",
        "ClassifierConfig": "config",
        "TestCropsConfig": "config",
    },
)
