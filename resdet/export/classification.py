"""Export of classifiers."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from resdet.classification.config import ClassificationExperiment
from resdet.classification.evaluate import tally
from resdet.classification.metrics import has_top5
from resdet.classification.model import Classifier
from resdet.classification.validation import match, open_validation
from resdet.data.loader import Skipped
from resdet.engine.distributed import World
from resdet.errors import ConfigError
from resdet.export import verify
from resdet.export.exporters import Agreement, Sides
from resdet.export.form import DEFAULT, Form
from resdet.export.model import ExportedClassifier, crops

ALONE = World(0, 1, torch.device("cpu"))


class ClassifierGraph(nn.Module):
    """Logits [B, C] of uint8 RGB images [B, 3, H, W]."""

    inputs, outputs = ["images"], ["logits"]

    def __init__(self, model: Classifier):
        super().__init__()
        self.model = model
        self.groups = len(model.classes)

    def forward(self, images: Tensor) -> tuple[Tensor]:
        return (self.model(images),)


class ClassifierExporter:
    """Exports logits of square crops."""

    def graph(self, model: Classifier, form: Form) -> nn.Module:
        if (form.nms, form.masks) != (DEFAULT.nms, DEFAULT.masks):
            raise ConfigError("--nms and --masks are for detectors, but this is a classifier: omit them.")
        return ClassifierGraph(model).eval()

    def shape(self, model: Classifier, form: Form) -> tuple[int, int]:
        if form.shape not in (None, (model.size, model.size)):
            height, width = form.shape
            raise ConfigError(f"--shape is {height}x{width}: this classifier only takes {model.size}x{model.size}.")
        return model.size, model.size

    def example(self, model: Classifier, form: Form) -> tuple[Tensor, ...]:
        return (torch.zeros(form.example_batch, 3, *self.shape(model, form), dtype=torch.uint8),)

    def describe(self, model: Classifier, form: Form) -> dict[str, Any]:
        return {"size": model.size, "short": model.short}

    def inputs(self, model: Classifier, form: Form, images: Sequence) -> tuple[Tensor, ...]:
        return (crops(images, model.short, model.size),)

    def compare(self, model: Classifier, exported: ExportedClassifier, images: Sequence) -> tuple[Agreement, Sides]:
        pixels = exported.prepare(images)
        agreement = verify.compare_scores(verify.exact(model)(pixels), exported(pixels))
        return agreement, {"eager": lambda: model(pixels), exported.runtime.name: lambda: exported(pixels)}

    def check_data(self, model: Classifier, experiment: ClassificationExperiment) -> None:
        match(open_validation(experiment, ALONE, Skipped(print)), "The model", model.classes)

    def metrics(self, exported: ExportedClassifier, experiment: ClassificationExperiment) -> dict[str, float]:
        """Returns single-crop top-1 accuracy and, for more than five classes, top-5 accuracy."""
        single = replace(experiment, eval=replace(experiment.eval, views="center"))
        images = open_validation(single, ALONE, Skipped(print))
        match(images, "The model", exported.classes)
        metrics = tally(images.scored([exported]), len(exported.classes), ALONE.device)
        top5 = {"top-5": 1 - metrics.top5_error} if has_top5(len(exported.classes)) else {}
        return {"top-1": 1 - metrics.error} | top5

    def difference(self, exported: ExportedClassifier, other: ExportedClassifier, image: Any) -> str:
        pixels = exported.prepare([image])
        return verify.compare_scores(exported(pixels), other(pixels))[1]


exporter = ClassifierExporter()
