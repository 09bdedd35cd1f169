"""Evaluators, and writers of submissions."""

from resdet._lazy import attach

__getattr__, __dir__ = attach(
    __name__,
    {
        "classification": "classification",
        "coco": "coco",
        "ilsvrc": "ilsvrc",
        "tables": "tables",
        "voc": "voc",
        "Results": "results",
    },
)
