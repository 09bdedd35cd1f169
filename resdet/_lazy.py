"""Names of a package that are imported when they are first used, so that `resdet --help` never waits for torch."""

from collections.abc import Callable
from importlib import import_module
from typing import Any


def attach(package: str, homes: dict[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` for `package`: each name of `homes` is found in the module it maps to.

    A name that maps to a module of that name (`{"coco": "evaluation.coco"}`) is the submodule; one that maps to
    `module:attribute` is the attribute.
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
