"""Lazy imports of a package's names, so that `resdet --help` does not import torch."""

from collections.abc import Callable
from importlib import import_module
from typing import Any


def attach(package: str, homes: dict[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Returns `__getattr__` and `__dir__` for `package`; `homes` maps each name to the module that defines it.

    A name that maps to a module of the same name (`{"coco": "evaluation.coco"}`) is that submodule; `module:attribute`
    selects an attribute with another name.
    """

    def __getattr__(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        place, _, attribute = homes[name].partition(":")
        module = import_module(f"{package}.{place}")
        if not attribute and place.rpartition(".")[2] == name:
            return module
        return getattr(module, attribute or name)

    return __getattr__, lambda: sorted(homes)
