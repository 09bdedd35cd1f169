"""Libraries that are imported where they are used, with a sentence where that fails."""

from importlib import metadata
from types import ModuleType

from resdet.errors import Error


def torchvision() -> ModuleType:
    """torchvision, which dies at import beside a torch that it was not built for."""
    try:
        import torchvision
        import torchvision.models
    except (ImportError, RuntimeError) as error:
        pair = " and ".join(f"{name} {metadata.version(name)}" for name in ("torch", "torchvision"))
        raise Error(
            f"{pair} do not fit each other ({str(error).splitlines()[0]}): pip install --upgrade torch torchvision"
        ) from None
    return torchvision
