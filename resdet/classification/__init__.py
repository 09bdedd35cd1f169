"""Image classification (sections 3.3, 3.4 and 4): model, data, training, evaluation."""

from resdet._lazy import attach

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
