"""Compiled inference with a bounded number of graphs, one per input shape.

Compilation runs in the calling thread: the tracing states of dynamo and fx are global to the process, so a compiled
call fails while another thread traces.
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

GRAPHS = 8  # maximum per function
log = logging.getLogger("resdet")


class CompiledPerShape:
    """Compiles a function of tensors for each shape, after `after` elements of its first tensor have run eagerly.

    At most `limit` shapes are compiled. Other shapes run eagerly, as do all shapes after a failed compilation.
    """

    def __init__(self, function: Callable[..., Any], after: int = 0, limit: int = GRAPHS, **options: Any):
        """`options` are passed to torch.compile."""
        self.function: Callable[..., Any] = function
        if isinstance(function, CompiledPerShape):  # do not compile twice
            self.function = function.function
        self.after, self.limit = after, limit
        self.options = {"fullgraph": True, "dynamic": False, **options}
        self.graphs: dict[Any, Callable[..., Any]] = {}
        self.seen: Counter[Any] = Counter()  # elements that ran eagerly, per shape

    def __call__(self, *inputs: Any) -> Any:
        tensors = [leaf for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)]
        key = tuple((tensor.shape, tensor.dtype, tensor.device) for tensor in tensors)
        progress: Activity | None = None
        if key not in self.graphs and len(self.graphs) < self.limit and self.seen[key] >= self.after:
            title = f"compiling {self.function.__qualname__} for {list(tensors[0].shape)}"
            progress = Activity(title)
            log.info(title)
            self.graphs[key] = torch.compile(isolated(self.function), **self.options)
        compiled = self.graphs.get(key)  # a failed compilation in another thread drops all graphs
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
        """Drops the graphs, which hold the weights they were compiled with: a copy compiles again."""
        return {**self.__dict__, "graphs": {}}


def isolated(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a copy of the function with a separate code object. dynamo counts graphs, up to `recompile_limit`, per
    code object: without the copy, all models and shapes of a process share this limit."""

    def call(*inputs: Any) -> Any:
        return function(*inputs)

    return FunctionType(call.__code__.replace(), call.__globals__, function.__name__, None, call.__closure__)
