"""Imports of optional or fragile libraries, with an error message on failure."""

from contextlib import suppress
from functools import cache
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from resdet.errors import Error


def torchvision() -> ModuleType:
    """Returns the module torchvision; its import fails with a torch that it was not built for."""
    try:
        import torchvision
        import torchvision.models
    except (ImportError, RuntimeError) as error:
        pair = " and ".join(f"{name} {metadata.version(name)}" for name in ("torch", "torchvision"))
        raise Error(
            f"{pair} are incompatible ({str(error).splitlines()[0]}): run pip install --upgrade torch torchvision."
        ) from None
    return torchvision


@cache
def torchvision_operators() -> Any:
    """Returns `torch.ops.torchvision`.

    Loads only the operator library if possible: the package imports dynamo and takes as long to import as torch.
    """
    import torch

    spec = find_spec("torchvision")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for library in Path(folder).glob("_C*.so"):
            with suppress(OSError):
                torch.ops.load_library(library)
    if not hasattr(torch.ops.torchvision, "nms"):
        torchvision()
    return torch.ops.torchvision


def required(module: str, package: str, caller: str) -> ModuleType:
    """Imports a module of an optional package; if it is missing, an Error names the package to install for `caller`."""
    try:
        return import_module(module)
    except ImportError:
        raise Error(f"{caller} needs a package that is not installed: pip install {package}") from None
