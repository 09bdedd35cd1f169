"""CUDA graphs of whole training steps: a step is captured once per batch shape, and replayed with one launch.

Without a graph, the host enqueues thousands of kernels per step and cannot keep up with a fast GPU: small nets, small
images and few images per GPU are launch-bound. A step that synchronizes with the device cannot be captured: it runs
eagerly, and a warning gives the reason.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from resdet.engine.config import TrainConfig
from resdet.engine.distributed import World
from resdet.errors import ConfigError
from resdet.structures import each, tensors_of

MAX_GRAPHS = 32  # maximum number of batch shapes with a graph; others run eagerly
EAGER_STEPS = 3  # per shape before its capture: they compile kernels, select algorithms and allocate momentum

StepInputs = Sequence[tuple[Any, ...]]  # arguments of the step module for each micro-batch
Step = Callable[[StepInputs], Tensor]


def uses_graph(train: TrainConfig, precision: str, world: World) -> bool:
    """Whether steps are captured in CUDA graphs; steps with loss scaling or gradient exchange run eagerly."""
    if train.graph == "auto":
        own_graphs = train.compile and train.compile_mode != "default"
        return world.device.type == "cuda" and world.size == 1 and precision != "fp16" and not own_graphs
    if train.graph and (world.device.type != "cuda" or world.size > 1 or precision == "fp16"):
        raise ConfigError(
            "train.graph=true needs one process with a CUDA device and a precision other than fp16: set it to auto."
        )
    return train.graph


class Captured(NamedTuple):
    graph: torch.cuda.CUDAGraph
    inputs: StepInputs
    output: Tensor


class GraphedStep:
    """Calls `step(inputs)`, which returns a tensor on the device; replays its graph once the shape is captured.

    All graphs share one memory pool, so that they take as much memory as the largest of them.
    """

    def __init__(self, step: Step, before_capture: Callable[[], None]):
        """`before_capture` frees the memory that a step allocates for itself, such as gradients."""
        self.step, self.before_capture = step, before_capture
        self.stream = torch.cuda.Stream()  # also for eager steps: gradients are accumulated on one stream
        self.pool = torch.cuda.graph_pool_handle()
        self.captured: dict[tuple, Captured] = {}
        self.counts: dict[tuple, int] = {}
        self.limit = MAX_GRAPHS

    def __call__(self, inputs: StepInputs) -> Tensor:
        key = signature(inputs)
        known = self.captured.get(key)
        if known is None and self.is_due(key):
            known = self.try_capture(key, inputs)
        if known is None:
            return self.run(inputs)
        torch._foreach_copy_(all_tensors(known.inputs), all_tensors(inputs))
        known.graph.replay()
        return known.output.clone()

    def is_due(self, key: tuple) -> bool:
        """Counts a step of this shape; returns whether to capture it."""
        self.counts[key] = self.counts.get(key, 0) + 1
        return self.counts[key] > EAGER_STEPS and len(self.captured) < self.limit

    def run(self, inputs: StepInputs) -> Tensor:
        current = torch.cuda.current_stream()
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            output = self.step(inputs)
        current.wait_stream(self.stream)
        for tensor in all_tensors(inputs):
            tensor.record_stream(self.stream)
        output.record_stream(current)
        return output

    def try_capture(self, key: tuple, inputs: StepInputs) -> Captured | None:
        try:
            self.captured[key] = self.capture(inputs)
        except RuntimeError as error:
            self.limit = 0
            self.before_capture()  # tensors allocated during the capture have no values
            reason = str(error).strip().splitlines()[0]
            warnings.warn(f"training continues without CUDA graphs: {reason} (train.graph=false)", stacklevel=2)
        return self.captured.get(key)

    def capture(self, inputs: StepInputs) -> Captured:
        """Captures a step without executing it."""
        inputs = [tuple(each(record, torch.clone) for record in part) for part in inputs]
        self.before_capture()
        graph = torch.cuda.CUDAGraph()
        # Other threads may call CUDA during the capture: the loader's thread pins memory.
        with torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"):
            output = self.step(inputs)
        return Captured(graph, inputs, output)


def signature(inputs: StepInputs) -> tuple:
    """Returns the key of a graph: shape, dtype and memory layout of each tensor, and which fields are None."""
    present = tuple(tuple(none_of(record) for record in part) for part in inputs)
    return present, tuple((tensor.shape, tensor.dtype, tensor.stride()) for tensor in all_tensors(inputs))


def none_of(record: Any) -> tuple[bool, ...]:
    fields = record if isinstance(record, tuple) else (record,)
    return tuple(field is None for field in fields)


def all_tensors(inputs: StepInputs) -> list[Tensor]:
    return [tensor for part in inputs for record in part for tensor in tensors_of(record)]
