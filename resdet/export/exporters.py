"""Registry of exporters, which turn the models of a task into graphs and verify the exported files."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

import resdet
from resdet.errors import ConfigError
from resdet.export.form import Form
from resdet.registry import Registry

Sides = dict[str, Callable[[], object]]  # the same inference in the model and in the exported file
Agreement = tuple[bool, str]  # whether the two agree, and a note


class Exporter(Protocol):
    """Exports the models of a task."""

    def graph(self, model: Any, form: Form) -> nn.Module:
        """The module to export, in eval mode."""

    def shape(self, model: Any, form: Form) -> tuple[int, int]:
        """Height and width of the exported images."""

    def example(self, model: Any, form: Form) -> tuple[Tensor, ...]:
        """Example inputs for tracing, with `form.example_batch` images."""

    def describe(self, model: Any, form: Form) -> dict[str, Any]:
        """Task-specific metadata, in JSON types."""

    def inputs(self, model: Any, form: Form, images: Sequence) -> tuple[Tensor, ...]:
        """Inputs of the graph for the given images."""

    def compare(self, model: Any, exported: Any, images: Sequence) -> tuple[Agreement, Sides]:
        """Compares the outputs of an ONNX or OpenVINO file and its model."""

    def check_data(self, model: Any, experiment: Any) -> None:
        """Raises an error if the classes of the validation data are not the model's."""

    def metrics(self, exported: Any, experiment: Any) -> dict[str, float]:
        """Metrics of an ONNX or OpenVINO file on the experiment's validation data."""

    def difference(self, exported: Any, other: Any, image: Any) -> str:
        """Describes the difference between the outputs of two ONNX or OpenVINO files on an image."""


exporters: Registry[Exporter] = Registry(
    "exporter",
    "task",
    {
        "classification": "resdet.export.classification:exporter",
        "detection": "resdet.export.detection:exporter",
    },
)


def exporter_of(model: Any) -> Exporter:
    if getattr(model, "task", None) not in exporters:
        raise ConfigError(f"A {type(model).__name__} cannot be exported: give a classifier or a detector.")
    return exporters[model.task]


def graph_of(model: Any, form: Form) -> nn.Module:
    """Returns the module to export, in eval mode; raises an error unless the model is in float32."""
    exporter = exporter_of(model)
    others = {parameter.dtype for parameter in model.parameters()} - {torch.float32}
    if others:
        raise ConfigError(
            f"The model computes in {others.pop()}: load it in exact mode, or call its float(), to export it."
        )
    return exporter.graph(model, form)


def describe(model: Any, form: Form) -> dict[str, Any]:
    """Returns the metadata of an exported file, in JSON types."""
    exporter = exporter_of(model)
    return {
        "version": resdet.__version__,
        "task": model.task,
        "classes": model.classes,
        "shape": list(exporter.shape(model, form)),
        "batch": None if form.dynamic_batch else 1,
        "pixels": "RGB, 0 to 255, normalized in the graph",
        "experiment": model.experiment,
        **exporter.describe(model, form),
    }
