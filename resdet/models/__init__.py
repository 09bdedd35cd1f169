"""Whole models: `losses(…)` and `predict(images)`, both callable in train and in eval mode."""

from resdet._lazy import attach

__getattr__, __dir__ = attach(__name__, {"build": "building", "load": "building", "Classifier": "classifier"})
