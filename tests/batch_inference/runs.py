"""Runs `resdet predict` on the photographs of conftest.py, with stand-ins for the models, and reads the rows."""

from pathlib import Path

import pyarrow.parquet as pq
import torch
from detection.heads import tiny
from narrow import shallow_nets

from resdet import hub
from resdet.backbones import create
from resdet.classification import Classifier
from resdet.images.normalize import Normalize

WORDS = ("predict", "--weights", "net.pth", "photos", "--parquet", "out", "--part", 3)
NAMES = ["1.png", "2.png", "4.png", "4a.jpg", "5.png", "empty.png", "more/0.png", "more/3.png", "more/6.png"]


def use(model) -> None:
    """Makes the loading of checkpoints return this model."""
    hub.load = lambda *_: model


def rows(folder: Path) -> list[dict]:
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def detector(masks: bool = True):
    with shallow_nets():
        return tiny.make("fpn", masks).eval()


def classifier() -> Classifier:
    torch.manual_seed(0)
    with shallow_nets():
        return Classifier(create("resnet18", num_classes=3), ["a", "b", "c"], Normalize(), 32, 32).eval()


def use_classifier() -> None:
    use(classifier())
