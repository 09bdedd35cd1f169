"""Loads exported ONNX files, run by onnxruntime."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from resdet.errors import WeightsError
from resdet.export.model import ExportedClassifier, ExportedDetector, model_of
from resdet.export.runtime import Shared
from resdet.files.restricted_pickle import reason
from resdet.optional import required

CPU = ("CPUExecutionProvider",)
PREFIX = "resdet."  # prefix of resdet's metadata keys
QUIET = 3  # onnxruntime's log level for errors
# Bounds the memory of constant folding; the largest constants of resdet's graphs are anchors of a few MB.
LARGEST_CONSTANT = ("optimization.constant_folding_max_output_size_in_bytes", str(1 << 24))


def load(path: str | Path, providers: Sequence[str] = CPU) -> ExportedClassifier | ExportedDetector:
    """Loads the model in an ONNX file; `providers`: names of onnxruntime's execution providers."""
    with runtime_errors(f"{path} is not a valid ONNX file"):
        runtime = OnnxRuntime(path, providers)
        properties = runtime.session.get_modelmeta().custom_metadata_map
    return model_of(runtime, metadata_of(properties), str(path))


def metadata_of(properties: Mapping[str, str]) -> dict[str, str]:
    """Returns resdet's metadata from the properties of an ONNX file."""
    return {key.removeprefix(PREFIX): text for key, text in properties.items() if key.startswith(PREFIX)}


class OnnxRuntime(Shared):
    """An onnxruntime session."""

    name, precision = "onnxruntime", "f32"

    def __init__(self, path: str | Path, providers: Sequence[str]):
        self.session = open_session(path, providers)
        # `score` has a default value.
        inputs = self.session.get_inputs() + self.session.get_overridable_initializers()
        self.inputs = {value.name: value.shape for value in inputs}
        self.outputs = {value.name: value.shape for value in self.session.get_outputs()}

    def run(self, arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        with runtime_errors("The graph of an ONNX file cannot be run"):
            return self.session.run(list(self.outputs), dict(arrays))


def open_session(path: str | Path, providers: Sequence[str]) -> Any:
    """Opens an onnxruntime session with as many threads as torch."""
    onnxruntime = required("onnxruntime", "onnxruntime", str(path))
    if not Path(path).is_file():
        raise WeightsError(f"{path}: no such file; give a file of `resdet export`.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = QUIET
    options.add_session_config_entry(*LARGEST_CONSTANT)
    return onnxruntime.InferenceSession(str(path), options, providers=list(providers))


@contextmanager
def runtime_errors(problem: str) -> Iterator[None]:
    """Turns errors of onnxruntime, which have no common base class, and of invalid UTF-8 into a WeightsError."""
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith("onnxruntime.") and not isinstance(error, UnicodeDecodeError):
            raise
        raise WeightsError(f"{problem} ({reason(error)}): export it again.") from None
