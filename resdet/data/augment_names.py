"""Builds albumentations transforms from their names in a config; invalid entries raise a ConfigError."""

import os
import random
from difflib import get_close_matches
from inspect import signature
from typing import Any

import numpy as np

from resdet.errors import ConfigError

KEY = "data.augment.albumentations"
Transforms = list[tuple[str, Any]]


def build(pipeline: list[dict[str, dict[str, Any] | None]]) -> Transforms:
    """Builds (name, transform) pairs from entries such as {"ColorJitter": {"brightness": 0.4, "p": 0.8}}."""
    return [(name, _build(name, arguments)) for name, arguments in map(_entry, pipeline)]


def draws(rng: np.random.Generator) -> random.Random:
    """Returns a second random generator, which albumentations' transforms require, seeded by the first."""
    return random.Random(int(rng.integers(2**63)))


def run(name: str, transform: Any, image: np.ndarray, **others: Any) -> dict[str, Any]:
    """Applies the transform to an image, uint8 [h, w, 3], and `others`, such as boxes and masks."""
    try:
        result = transform(image=image, **others)
    except Exception as error:  # albumentations' errors have no common base class
        raise ConfigError(f"{KEY}: {name} fails on an image of {image.shape}: {_reason(error)}.") from error
    output = result["image"]
    if output.dtype != np.uint8 or output.ndim != 3 or output.shape[2] != 3:
        raise ConfigError(
            f"{KEY}: {name} turns uint8 {image.shape} into {output.dtype} {output.shape}; remove this transform."
        )
    return result


def _entry(entry: Any) -> tuple[str, dict[str, Any]]:
    if isinstance(entry, dict) and len(entry) == 1:
        ((name, arguments),) = entry.items()
        if arguments is None or isinstance(arguments, dict):
            return name, arguments or {}
    raise ConfigError(f"{KEY}: write each entry as {{Name: {{argument: value}}}}, not {entry!r}.")


def _build(name: str, arguments: dict[str, Any]) -> Any:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # otherwise the import looks for updates on the network
    import albumentations

    kinds = {kind.__name__: kind for kind in vars(albumentations).values() if _is_transform(kind, albumentations)}
    if name not in kinds:
        nearest = get_close_matches(name, kinds, n=1, cutoff=0)[0]
        raise ConfigError(f"{KEY}: albumentations has no transform {name}; the nearest name is {nearest}.")
    known = signature(kinds[name]).parameters
    if unknown := set(arguments) - set(known):  # albumentations only warns about these
        raise ConfigError(f"{KEY}: {name} has no argument {min(unknown)}; it takes {', '.join(known)}.")
    try:
        return kinds[name](**arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{KEY}: {name} rejects its arguments {arguments}: {_reason(error)}.") from None


def _reason(error: Exception) -> str:
    """Returns the message of albumentations or pydantic on one line."""
    return ": ".join(line.strip() for line in str(error).partition(" [type=")[0].rstrip(".").splitlines())


def _is_transform(kind: Any, albumentations: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, albumentations.BasicTransform)
