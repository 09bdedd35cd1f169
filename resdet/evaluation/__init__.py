"""Evaluators, and writers of submissions."""

from resdet._lazy import attach

__getattr__, __dir__ = attach(__name__, {"classification": "classification", "ilsvrc": "ilsvrc"})
