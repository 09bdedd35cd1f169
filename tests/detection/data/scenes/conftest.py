"""Images that show where their objects are: an object of label c is bright in channel c."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from resdet.detection.data.annotations import Objects
from resdet.detection.data.scene import Scene
from resdet.detection.data.segmentation import Bitmap, Polygons
from resdet.images.decode import EncodedImage


def star(rng: np.random.Generator, width: int, height: int, reach: float = 0.3) -> np.ndarray:
    """Makes a ragged outline around a random point, inside the image: float [12, 2]."""
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    center = rng.uniform(0.3, 0.7, 2) * (width, height)
    radii = rng.uniform(0.4, 1, (12, 1)) * reach * min(width, height)
    return center + radii * np.stack([np.cos(angles), np.sin(angles)], 1)


def objects_of(segments: list, labels: list[int], crowd: list[bool] | None = None) -> Objects:
    """Builds objects whose boxes are the bounds of the segments."""
    boxes = np.array([segment.bounds() for segment in segments], np.float32).reshape(-1, 4)
    crowd = np.array(crowd if crowd else [False] * len(labels), bool)
    return Objects(boxes, np.array(labels, np.int64), crowd, segments)


def painted(objects: Objects, width: int, height: int) -> np.ndarray:
    pixels = np.zeros((height, width, 3), np.uint8)
    for label, segment in zip(objects.labels, objects.segments):
        pixels[..., label] |= 255 * segment.bitmap(height, width)
    return pixels


def make(rng, width=160, height=120, labels=(0, 1, 2), kind="polygons") -> tuple[np.ndarray, Objects]:
    segments = [Polygons([star(rng, width, height)]) for _ in labels]
    if kind == "bitmaps":
        segments = [Bitmap(segment.bitmap(height, width)) for segment in segments]
    objects = objects_of(segments, list(labels))
    return painted(objects, width, height), objects


def scene(*args, **options) -> Scene:
    pixels, objects = make(*args, **options)
    return Scene.of(pixels, objects, (1, 1))


def seen_box(mask: np.ndarray) -> np.ndarray:
    """Returns the bounds of the true pixels, xyxy."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def assert_truthful(made: Scene, iou: float = 0.94, pixels: float = 1.6, small: int = 40) -> None:
    """Checks segments and boxes against the image; at most `small` pixels of a class may be unannotated."""
    assert made.pixels.dtype == np.uint8 and made.boxes.dtype == np.float32
    assert len(made.boxes) == len(made.labels) == len(made.crowd) == len(made.segments)
    width, height = made.size
    for label in range(3):
        shown = made.pixels[..., label] >= 128
        numbers = np.flatnonzero(made.labels == label)
        bitmaps = [made.segments[i].bitmap(height, width).astype(bool) for i in numbers]
        told = np.any([np.zeros_like(shown), *bitmaps], axis=0)
        if shown.sum() > small:
            assert (told & shown).sum() >= iou * (told | shown).sum()
        for i, bitmap in zip(numbers, bitmaps):
            if bitmap.any():
                np.testing.assert_allclose(made.boxes[i], seen_box(bitmap), atol=pixels)
        if len(numbers) == 1 and shown.any():
            np.testing.assert_allclose(made.boxes[numbers[0]], seen_box(shown), atol=pixels)
    assert (made.boxes[:, :2] >= 0).all() and (made.boxes[:, 2:] <= np.array(made.size)).all()
    assert (made.boxes[:, 2:] > made.boxes[:, :2]).all()


class Source:
    """Annotated images in memory, encoded as PNG, with the interface of Annotations."""

    classes = ["red", "green", "blue"]
    has_masks = True
    other_sizes = False

    def __init__(self, made: list[tuple[np.ndarray, Objects]]):
        self.files = [cv2.imencode(".png", pixels[..., ::-1])[1].tobytes() for pixels, _ in made]
        self.all_objects = [objects for _, objects in made]
        self.sizes = np.array([pixels.shape[1::-1] for pixels, _ in made], np.int32)

    def __len__(self) -> int:
        return len(self.files)

    def image(self, i: int) -> EncodedImage:
        return EncodedImage(self.files[i], self.name(i))

    def name(self, i: int) -> str:
        return f"{i}.png"

    def objects(self, i: int) -> Objects:
        return self.all_objects[i]


@pytest.fixture
def fakes() -> SimpleNamespace:
    """Provides the helpers of this file, which tests outside a package cannot import."""
    return SimpleNamespace(
        star=star,
        objects_of=objects_of,
        painted=painted,
        make=make,
        scene=scene,
        seen_box=seen_box,
        assert_truthful=assert_truthful,
        Source=Source,
    )


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
