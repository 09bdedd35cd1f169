"""Compiled inference with a bounded number of graphs, one for each shape of the inputs.

Compilation runs where the call runs, not in a thread: dynamo's and fx's tracing states are global to the process, so
that a compiled call during a trace in another thread fails.
"""

import logging
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from resdet.cudnn import fastest_algorithms
from resdet.progress import Activity

GRAPHS = 8  # of a function, at most
log = logging.getLogger("resdet")


class CompiledPerShape:
    """A function of tensors that is compiled for a shape once `after` elements of its first tensor have run eagerly.

    At most `limit` shapes are compiled; calls of further ones run eagerly, and so do all if the compiler fails.
    """

    def __init__(self, function: Callable[..., Any], after: int = 0, limit: int = GRAPHS, **options: Any):
        """`options` of torch.compile."""
        self.function: Callable[..., Any] = function
        if isinstance(function, CompiledPerShape):  # compiled before: not twice
            self.function = function.function
        self.after, self.limit = after, limit
        self.options = {"fullgraph": True, "dynamic": False, **options}
        self.graphs: dict[Any, Callable[..., Any]] = {}
        self.seen: Counter[Any] = Counter()  # elements of each shape that ran eagerly

    def __call__(self, *inputs: Any) -> Any:
        tensors = [leaf for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)]
        key = tuple((tensor.shape, tensor.dtype, tensor.device) for tensor in tensors)
        progress: Activity | None = None
        if key not in self.graphs and len(self.graphs) < self.limit and self.seen[key] >= self.after:
            title = f"compiling {self.function.__qualname__} for {list(tensors[0].shape)}"
            progress = Activity(title)
            log.info(title)
            self.graphs[key] = torch.compile(isolated(self.function), **self.options)
        compiled = self.graphs.get(key)  # another thread, whose compilation fails, drops all graphs
        if compiled is None:
            recurs = self.seen[key] > 0
            self.seen[key] += tensors[0].numel()
            with fastest_algorithms() if recurs else nullcontext():
                return self.function(*inputs)
        try:
            with progress or nullcontext(), fastest_algorithms():
                return compiled(*inputs)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = " ".join(str(error).split("\n")[:2]).strip()
            log.warning("torch.compile failed, the model continues without it: %s", reason)
            self.graphs, self.limit = {}, 0
            return self.function(*inputs)

    def __getstate__(self) -> dict[str, Any]:
        """Graphs hold the weights that they were compiled with: a copy compiles its own."""
        return {**self.__dict__, "graphs": {}}


def isolated(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with code of its own. dynamo counts graphs, and stops at `recompile_limit`, by code: without this,
    all models and shapes of a process share that limit."""

    def call(*inputs: Any) -> Any:
        return function(*inputs)

    return FunctionType(call.__code__.replace(), call.__globals__, function.__name__, None, call.__closure__)
