"""Imports of libraries that may fail, with an error message."""

from importlib import import_module, metadata
from types import ModuleType

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


def required(module: str, package: str, caller: str) -> ModuleType:
    """A module of an optional package; an Error names the package to install for `caller`."""
    try:
        return import_module(module)
    except ImportError:
        raise Error(f"{caller} needs a package that is not installed: pip install {package}") from None
