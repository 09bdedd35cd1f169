"""Color augmentation: AlexNet's PCA color shift, as in the paper (section 3.4), and any albumentations transform."""

from typing import Any

import cv2
import numpy as np

from resdet.data import augment_names
from resdet.errors import ConfigError

# Principal components of ImageNet's RGB values in [0, 1], from fb.resnet.torch.
EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])
EIGENVECTORS = np.array(  # one per column; the rows are R, G, B
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
)


def pca_color(pixels: np.ndarray, rng: np.random.Generator, std: float = 0.1) -> np.ndarray:
    """Shifts the color of the whole image along ImageNet's principal components (AlexNet, section 4.1).

    The shift along each component is its eigenvalue times a sample of N(0, std²).
    """
    shift = 255 * EIGENVECTORS @ (EIGENVALUES * rng.normal(0, std, 3))
    scalar: Any = (*np.rint(shift), 0)  # OpenCV's stubs do not accept scalars
    return cv2.add(pixels, scalar)


class Albumentations:
    """Applies a pipeline of albumentations: (pixels, rng) -> pixels."""

    def __init__(self, pipeline: list[dict[str, dict[str, Any] | None]]):
        """`pipeline`: entries such as {"ColorJitter": {"brightness": 0.4, "p": 0.8}}."""
        self.transforms = augment_names.build(pipeline)

    def __call__(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        draws = augment_names.draws(rng)
        for name, transform in self.transforms:
            transform.set_random_state(rng, draws)
            pixels = _same_size(name, pixels, augment_names.run(name, transform, pixels)["image"])
        return pixels


def _same_size(name: str, pixels: np.ndarray, result: np.ndarray) -> np.ndarray:
    if result.shape != pixels.shape:
        raise ConfigError(
            f"{augment_names.KEY}: {name} changes the image size from {pixels.shape} to {result.shape}; "
            "remove this transform."
        )
    return result
