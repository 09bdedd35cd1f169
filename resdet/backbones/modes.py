"""Context manager for eval mode."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from threading import Lock
from weakref import WeakKeyDictionary

from torch import nn

lock = Lock()
# For each net in eval mode: the number of contexts in all threads, and its modules that were in train mode.
contexts: WeakKeyDictionary[nn.Module, tuple[int, list[nn.Module]]] = WeakKeyDictionary()


@contextmanager
def evaluating(nets: Sequence[nn.Module]) -> Iterator[None]:
    """Sets all modules of the nets to eval mode; a net's last context to exit, in any thread, restores their modes."""
    with ExitStack() as stack:
        for net in nets:
            enter(net)
            stack.callback(leave, net)
        yield


def enter(net: nn.Module) -> None:
    with lock:
        count, trained = contexts.get(net) or (0, [module for module in net.modules() if module.training])
        for module in trained:
            module.training = False
        contexts[net] = count + 1, trained


def leave(net: nn.Module) -> None:
    with lock:
        count, trained = contexts.pop(net)
        if count > 1:
            contexts[net] = count - 1, trained
            return
        for module in trained:
            module.training = True
