"""From JPEG files to 224×224 crops on one core: resdet against torchvision on Pillow images and on tensors.

All pipelines end with uint8 pixels, which the device normalizes.
"""

import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from PIL import Image
from torchvision import transforms as v1
from torchvision.transforms import v2

from resdet.classification.data.augment_config import AugmentConfig
from resdet.classification.data.transforms import TrainTransform
from resdet.data.samplers import generator_for
from resdet.images.crops import center_crop
from resdet.images.decode import EncodedImage
from resdet.images.photographs import HEIGHT, QUALITY, WIDTH, photographs
from resdet.timing import Case, Side, torch_threads

PHOTOGRAPHS, SIZE, SHORT = 64, 224, 256
NONE = "none"

Transform = Callable[[EncodedImage, np.random.Generator], np.ndarray]


class Recipe(NamedTuple):
    """Transforms of torchvision and of resdet that make the same crops."""

    name: str
    torchvision: Callable[[ModuleType], list] | None  # transforms, given the module v1 or v2; None: not available
    resdet: Transform


def recipes() -> list[Recipe]:
    """Returns modern training crops and those of section 3.4, without and with color augmentation, and center crops."""
    jitter = tuple(AugmentConfig().short)
    sides = list(range(jitter[0], jitter[1] + 1))
    today = lambda t: [t.RandomResizedCrop(SIZE), t.RandomHorizontalFlip()]
    paper = lambda t: [v2.RandomShortestSize(sides), t.RandomCrop(SIZE), t.RandomHorizontalFlip()]
    return [
        Recipe("random_resized", today, resdet_transform(crop="random_resized", pca_color=0.0)),
        Recipe(
            "random_resized, trivial_augment",
            lambda t: [*today(t), t.TrivialAugmentWide()],
            resdet_transform(crop="random_resized", pca_color=0.0, policy="trivial"),
        ),
        Recipe("scale_jitter", paper, resdet_transform(crop="scale_jitter", pca_color=0.0)),
        Recipe("scale_jitter, pca_color (the paper's)", None, resdet_transform(crop="scale_jitter", pca_color=0.1)),
        Recipe(
            "center crop (evaluation)",
            lambda t: [t.Resize(SHORT), t.CenterCrop(SIZE)],
            lambda image, rng: center_crop(image, SHORT, SIZE),
        ),
    ]


def resdet_transform(**settings: Any) -> Transform:
    return TrainTransform(AugmentConfig(**settings), SIZE)


def cases(count: int = PHOTOGRAPHS) -> Iterator[Case]:
    files = photographs(count)
    size = sum(map(len, files)) / count / 1000
    note = f"{count} generated JPEGs, {WIDTH}×{HEIGHT}, quality {QUALITY}, {size:.0f} kB on average; on one core"
    with one_core():
        for recipe in recipes():
            sides = {
                "torchvision": on_pillow(recipe, files),
                "torchvision v2": on_tensors(recipe, files),
                "resdet": on_files(recipe, files),
            }
            yield Case(recipe.name, count, sides, note)
            note = ""


def on_pillow(recipe: Recipe, files: Sequence[bytes]) -> Side:
    if recipe.torchvision is None:
        return NONE
    transform = v1.Compose([*recipe.torchvision(v1), v1.PILToTensor()])

    def run() -> None:
        for file in files:
            transform(Image.open(io.BytesIO(file)).convert("RGB"))

    return run


def on_tensors(recipe: Recipe, files: Sequence[bytes]) -> Side:
    """Returns torchvision's transforms of tensors, after its own decoder, if its version has one."""
    if recipe.torchvision is None:
        return NONE
    try:
        from torchvision.io import decode_jpeg
    except ImportError:
        return "no decoder"
    transform = v2.Compose(recipe.torchvision(v2))
    encoded = [torch.from_numpy(np.frombuffer(file, np.uint8).copy()) for file in files]

    def run() -> None:
        for file in encoded:
            transform(decode_jpeg(file))

    return run


def on_files(recipe: Recipe, files: Sequence[bytes]) -> Side:
    """Returns resdet's pipeline as in the loader's workers, seeded by the position in the training order."""
    positions = itertools.count()

    def run() -> None:
        for file in files:
            recipe.resdet(EncodedImage(file, "a photograph"), generator_for(0, 0, next(positions)))

    return run


@contextmanager
def one_core() -> Iterator[None]:
    """Context that limits torch and OpenCV to one thread."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(0)
    try:
        with torch_threads(1):
            yield
    finally:
        cv2.setNumThreads(before)
