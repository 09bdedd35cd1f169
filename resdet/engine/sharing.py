"""Sharing of an evaluation's images among processes."""

from typing import Any

from resdet.engine.distributed import World
from resdet.errors import ConfigError


def sharing(data: Any, world: World) -> dict[str, Any]:
    """Keyword arguments of an evaluation: loader workers, handling of damaged images, rank and world size."""
    return {"workers": data.workers, "on_bad_image": data.on_bad_image, "rank": world.rank, "world": world.size}


def require_single_process(world: World) -> None:
    if world.size > 1:
        raise ConfigError("A submission needs a single process: run the command without torchrun.")
