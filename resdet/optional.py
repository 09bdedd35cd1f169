"""Imports of libraries that may fail, with an error message."""

from contextlib import suppress
from functools import cache
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from resdet.errors import Error


def torchvision() -> ModuleType:
    """The module torchvision, which fails to import with a torch it was not built for."""
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
    """`torch.ops.torchvision`.

    Loads the library of the operators alone where that works: the package imports dynamo and takes as long as torch.
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
    """A module of an optional package; an Error names the package to install for `caller`."""
    try:
        return import_module(module)
    except ImportError:
        raise Error(f"{caller} needs a package that is not installed: pip install {package}") from None
