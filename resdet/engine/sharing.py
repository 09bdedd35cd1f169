"""How processes share the images of an evaluation."""

from typing import Any

from resdet.engine.distributed import World
from resdet.errors import ConfigError


def sharing(data: Any, world: World) -> dict[str, Any]:
    """The arguments that say which images are this process's, and how they are read."""
    return {"workers": data.workers, "on_bad_image": data.on_bad_image, "rank": world.rank, "world": world.size}


def refuse_several(world: World) -> None:
    if world.size > 1:
        raise ConfigError("A submission is written by one process: run it without torchrun.")
