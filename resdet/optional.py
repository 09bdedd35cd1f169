"""Imports of libraries that may fail, with an error message."""

from importlib import metadata
from types import ModuleType

from resdet.errors import Error


def torchvision() -> ModuleType:
    """The module torchvision, whose import fails with a torch that it was not built for."""
    try:
        import torchvision
        import torchvision.models
    except (ImportError, RuntimeError) as error:
        pair = " and ".join(f"{name} {metadata.version(name)}" for name in ("torch", "torchvision"))
        raise Error(
            f"{pair} are incompatible ({str(error).splitlines()[0]}): run pip install --upgrade torch torchvision."
        ) from None
    return torchvision
