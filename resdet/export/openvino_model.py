"""Loads exported OpenVINO files, which OpenVINO runs."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, Literal, get_args

import numpy as np
import torch

from resdet.errors import ConfigError, WeightsError
from resdet.export.model import ExportedClassifier, ExportedDetector, model_of
from resdet.export.runtime import Shapes, Shared
from resdet.files.download import digest
from resdet.optional import required

SECTION = "resdet"  # section of resdet's metadata in the rt_info
DIGEST = "sha256"  # metadata key for the checksum of the .bin file
PACKAGE = '"resdet[openvino]"'
Precision = Literal["f32", "bf16", "f16"]


def load(
    path: str | Path, precision: Precision | None = None, device: str = "CPU"
) -> ExportedClassifier | ExportedDetector:
    """Loads the model in an `.xml` file and the `.bin` file next to it.

    `precision`: precision of the computation; None: OpenVINO's default, bf16 on CPUs with native support, otherwise
    f32. Devices without support for a precision compute in f32. `device`: name of an OpenVINO device.
    """
    if precision not in (None, *get_args(Precision)):
        raise ConfigError(f"precision is {precision!r}: give f32, bf16 or f16.")
    graph, metadata = read(Path(path))
    with runtime_errors(f"{path} cannot be compiled for {device}"):
        runtime = OpenVINORuntime(graph, precision, device)
    return model_of(runtime, metadata, str(path))


class OpenVINORuntime(Shared):
    """A model compiled by OpenVINO, with as many threads as torch."""

    name = "openvino"

    def __init__(self, graph: Any, precision: Precision | None, device: str):
        core().set_property("CPU", {"INFERENCE_NUM_THREADS": torch.get_num_threads()})
        settings = {"INFERENCE_PRECISION_HINT": precision} if precision else {}
        self.compiled = core().compile_model(graph, device, settings)
        self.precision = self.compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        self.inputs, self.outputs = shapes(graph.inputs), shapes(graph.outputs)
        self.lock = Lock()  # concurrent calls would share their outputs

    def run(self, arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        with self.lock, runtime_errors("The graph of an OpenVINO file cannot be run"):
            results = self.compiled(dict(arrays))
            return [results[name] for name in self.outputs]


@cache
def core() -> Any:
    """Returns the only OpenVINO core of the process.

    A core's CPU plugin replaces the thread's alternate signal stack and unmaps it when the core is deleted. With two
    cores, the stack of a deleted one may become the current one, and the next signal crashes the process.
    """
    return required("openvino", PACKAGE, "OpenVINO").Core()


def shapes(ports: Any) -> Shapes:
    """Returns the shapes of inputs or outputs by name, with None for dynamic sizes."""
    return {
        port.any_name: [size.get_length() if size.is_static else None for size in port.partial_shape] for port in ports
    }


def read(path: Path) -> tuple[Any, dict[str, str]]:
    """Reads the graph in an `.xml` file and the `.bin` file next to it, and its metadata."""
    openvino = required("openvino", PACKAGE, str(path))
    weights = path.with_suffix(".bin")
    for file in (path, weights):
        if not file.is_file():
            raise WeightsError(f"{file}: no such file; give both files of `resdet export`, .xml and .bin.")
    with runtime_errors(f"{path} is not a valid OpenVINO file"):
        # Allows no other format, regardless of the file's content.
        reader = openvino.frontend.FrontEndManager().load_by_framework("ir")
        graph = reader.convert(reader.load(str(path)))
        section = graph.get_rt_info(SECTION).value if graph.has_rt_info(SECTION) else {}
    metadata = {key: str(text) for key, text in section.items()}
    if metadata and metadata.pop(DIGEST, None) != digest(weights, DIGEST):
        raise WeightsError(f"{weights} is damaged or of another export than {path.name}: export it again.")
    return graph, metadata


@contextmanager
def runtime_errors(problem: str) -> Iterator[None]:
    """Turns OpenVINO errors into a WeightsError."""
    try:
        yield
    except Exception as error:
        is_openvino_error = isinstance(error, RuntimeError) or type(error).__module__.startswith("openvino.")
        if not is_openvino_error and not isinstance(error, UnicodeDecodeError):
            raise
        last = str(error).rstrip().rsplit("\n", 1)[-1]  # earlier lines name source files
        raise WeightsError(f"{problem} ({last}): export it again.") from None
