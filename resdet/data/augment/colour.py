"""Colour: AlexNet's PCA augmentation, which the paper uses (section 3.4), and any transform of albumentations."""

import os
import random
from difflib import get_close_matches
from typing import Any, Callable

import cv2
import numpy as np

from resdet.errors import ConfigError

# Principal components of ImageNet's RGB values on the scale [0, 1], as fb.resnet.torch publishes them.
EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])
EIGENVECTORS = np.array(  # one a column; rows are R, G, B
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
)

_KEY = "data.augment.albumentations"


def pca_colour(pixels: np.ndarray, rng: np.random.Generator, std: float = 0.1) -> np.ndarray:
    """Shift the whole picture's colour along ImageNet's principal components (AlexNet, section 4.1).

    The shift along each is its eigenvalue times a draw from N(0, std²).
    """
    shift = 255 * EIGENVECTORS @ (EIGENVALUES * rng.normal(0, std, 3))
    return cv2.add(pixels, (*np.rint(shift), 0))


def albumentation(pipeline: list[dict[str, dict[str, Any] | None]]) -> Callable[..., np.ndarray]:
    """A callable (pixels, rng) -> pixels from entries such as {"ColorJitter": {"brightness": 0.4, "p": 0.8}}."""
    return _Albumentation([(name, _build(name, arguments)) for name, arguments in map(_entry, pipeline)])


class _Albumentation:
    def __init__(self, transforms: list[tuple[str, Any]]):
        self.transforms = transforms

    def __call__(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        draws = random.Random(int(rng.integers(2**63)))
        for name, transform in self.transforms:
            transform.set_random_state(rng, draws)
            pixels = _run(name, transform, pixels)
        return pixels


def _run(name: str, transform: Any, pixels: np.ndarray) -> np.ndarray:
    try:
        result = transform(image=pixels)["image"]
    except Exception as error:  # albumentations has no common base class for what its transforms refuse
        raise ConfigError(f"{_KEY}: {name} does not run on a picture of {pixels.shape}: {_reason(error)}.") from error
    if result.shape != pixels.shape or result.dtype != pixels.dtype:
        raise ConfigError(
            f"{_KEY}: {name} made {result.dtype} {tuple(result.shape)} of uint8 {pixels.shape}; "
            "leave out what changes size or type."
        )
    return result


def _entry(entry: Any) -> tuple[str, dict[str, Any]]:
    if not isinstance(entry, dict) or len(entry) != 1:
        raise ConfigError(f"{_KEY}: write each entry as {{Name: {{argument: value}}}}, not {entry!r}.")
    ((name, arguments),) = entry.items()
    return name, arguments or {}


def _build(name: str, arguments: dict[str, Any]) -> Any:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import asks the network for a newer version otherwise
    import albumentations

    kinds = {kind.__name__: kind for kind in vars(albumentations).values() if _is_transform(kind, albumentations)}
    if name not in kinds:
        nearest = get_close_matches(name, kinds, n=1, cutoff=0)[0]
        raise ConfigError(f"{_KEY}: albumentations has no transform {name}; the nearest name is {nearest}.")
    try:
        return kinds[name](**arguments, strict=True)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{_KEY}: {name} refuses its arguments {arguments}: {_reason(error)}.") from None


def _reason(error: Exception) -> str:
    """What albumentations, or pydantic on its behalf, objects to: in one line."""
    return ": ".join(line.strip() for line in str(error).partition(" [type=")[0].rstrip(".").splitlines())


def _is_transform(kind: Any, albumentations: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, albumentations.BasicTransform)
