"""Keypoints of objects, transformed along with the image.

Internally, keypoints use continuous pixel coordinates, as boxes do. COCO's files use pixel indices: (0, 0) is the
center of the first pixel, (0.5, 0.5) here. detectron2 converts the same way, torchvision does not.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from resdet.data.array_cache import Arrays, Strings
from resdet.detection.data.coco_file import is_text
from resdet.detection.data.validation import Records, numbers
from resdet.errors import DataError
from resdet.results.keypoints import HALF


@dataclass
class KeypointNames:
    """Keypoints declared by a data set."""

    names: list[str]
    skeleton: list[tuple[int, int]]  # pairs to connect in drawings, counted from 0

    @property
    def mirror(self) -> np.ndarray:
        """Counterpart of each keypoint in a mirrored image, int64 [K], by left and right in the names."""
        return mirror_of(self.names)

    def arrays(self) -> Arrays:
        """Returns arrays to store in an index, for `keypoint_names`."""
        pairs = np.array(self.skeleton, np.int64).reshape(-1, 2)
        return Strings.pack(self.names).arrays("keypoint_names") | {"skeleton": pairs}

    def to_coco(self) -> dict[str, Any]:
        """Returns the keys of a category in COCO's format."""
        return {"keypoints": self.names, "skeleton": [[a + 1, b + 1] for a, b in self.skeleton]}


def keypoint_names(arrays: Arrays) -> KeypointNames | None:
    """Returns the names in an index, None if it has no keypoints."""
    if "keypoints" not in arrays:
        return None
    pairs = [(int(a), int(b)) for a, b in arrays["skeleton"]]
    return KeypointNames(list(Strings.from_arrays(arrays, "keypoint_names")), pairs)


# The side is named at either end of a name: left_eye, Left Eye, eye-l, leftEye, eyeLeft.
SIDES = (
    re.compile(r"^(left|right|l|r)(?=[_\-. ])|(?<=[_\-. ])(left|right|l|r)$", re.IGNORECASE),
    re.compile(r"^(left|right)(?=[A-Z])|(?<=[a-z])(Left|Right)$"),
)
OPPOSITE = {"left": "right", "right": "left", "l": "r", "r": "l"}


def mirror_of(names: Sequence[str]) -> np.ndarray:
    place = {name.lower(): number for number, name in enumerate(names)}
    others = [place.get(opposite_of(name).lower(), number) for number, name in enumerate(names)]
    return np.array(others, np.int64)


def opposite_of(name: str) -> str:
    """Returns the name with the opposite side; the same name if it has no side."""
    side = next((match for pattern in SIDES if (match := pattern.search(name))), None)
    if side is None:
        return name
    return name[: side.start()] + OPPOSITE[side[0].lower()] + name[side.end() :]


@dataclass
class Keypoints:
    """K keypoints for each of n objects."""

    points: np.ndarray  # float32 [n, K, 3]: x, y, visibility 0, 1 or 2; zeros where the visibility is 0
    mirror: np.ndarray  # int64 [K]: that of `KeypointNames`

    def select(self, indices: np.ndarray) -> "Keypoints":
        return Keypoints(self.points[indices], self.mirror)

    def moved(self, scale: Sequence[float], shift: Sequence[float], size: tuple[int, int]) -> "Keypoints":
        """Moves points to x' = x·sx + tx, y' = y·sy + ty in an image of this width and height, with visibility 0
        outside. A flip in one direction swaps left and right keypoints."""
        place = self.points[..., :2] * np.array(scale, np.float64) + np.array(shift, np.float64)
        inside = ((place >= 0) & (place <= np.array(size))).all(-1, keepdims=True)
        points = visible(np.concatenate([place, self.points[..., 2:] * inside], -1)).astype(np.float32)
        return Keypoints(points[:, self.mirror] if scale[0] * scale[1] < 0 else points, self.mirror)

    def without(self, cover: np.ndarray) -> "Keypoints":
        """Hides keypoints under `cover`, bool [h, w]: visibility 2 becomes 1."""
        limits = np.array(cover.shape[::-1]) - 1
        x, y = np.minimum(self.points[..., :2].astype(np.int64), limits).transpose(2, 0, 1)
        hidden = cover[y, x] & (self.points[..., 2] > 1)
        points = self.points.copy()
        points[..., 2][hidden] = 1
        return Keypoints(points, self.mirror)


def visible(points: np.ndarray) -> np.ndarray:
    """Sets keypoints [..., 3] to zero where the visibility is 0."""
    return np.where(points[..., 2:] > 0, points, 0)


def join(parts: Sequence[Keypoints | None]) -> Keypoints | None:
    """Joins the keypoints of several scenes of one data set."""
    known = [part for part in parts if part is not None]
    if not known:
        return None
    return Keypoints(np.concatenate([part.points for part in known]), known[0].mirror)


# Reading of COCO files


def names_in(categories: Sequence[dict[str, Any]], file: str) -> KeypointNames | None:
    """Returns the keypoints that the categories declare, None if there are none; all declarations must be equal."""
    declared = [category for category in categories if category.get("keypoints")]
    if not declared:
        return None
    names, skeleton = declared[0]["keypoints"], declared[0].get("skeleton") or []
    if not isinstance(names, list) or not all(map(is_text, names)) or len(set(names)) < len(names):
        raise DataError(f"{file}: keypoints of a category are not a list of different names: correct it.")
    if any(category["keypoints"] != names for category in declared):
        raise DataError(f"{file}: categories have different keypoints: give all of them the same, or use one category.")
    pairs = isinstance(skeleton, list) and all(_is_pair(pair, len(names)) for pair in skeleton)
    if not pairs:
        raise DataError(f"{file}: the skeleton of a category is not a list of pairs from 1 to {len(names)}: fix it.")
    return KeypointNames(names, [(a - 1, b - 1) for a, b in skeleton])


def read_points(annotations: Records, names: KeypointNames) -> np.ndarray:
    """Returns float64 [M, K, 3] for all annotations; zeros for those without keypoints."""
    count = 3 * len(names.names)
    given = [value or [0] * count for value in annotations.values("keypoints")]
    listed = np.array([isinstance(value, list) and len(value) == count for value in given], bool)
    problem = f"keypoints that are not a list of {count} numbers"
    annotations.require(listed, problem, "keypoints")
    flat = [value if good else [0] * count for value, good in zip(given, listed.tolist())]
    values, numeric = (column.reshape(-1, len(names.names), 3) for column in numbers([n for row in flat for n in row]))
    finite = numeric & np.isfinite(values)
    annotations.require(finite.all((1, 2)), problem, "keypoints")
    flags = np.isin(values[..., 2], (0, 1, 2)).all(1)
    annotations.require(flags, "a visibility of keypoints that is none of 0, 1 and 2", "keypoints")
    return visible(np.where(finite, values, 0) + (HALF, HALF, 0))


def coco_keys(points: np.ndarray) -> dict[str, Any]:
    """Returns the COCO keys of an object with keypoints [K, 3], without the half-pixel offset; zeros if invisible."""
    written = visible(points - np.array((HALF, HALF, 0), points.dtype))
    return {"keypoints": written.flatten().tolist(), "num_keypoints": int((points[:, 2] > 0).sum())}


def _is_pair(pair: Any, count: int) -> bool:
    listed = isinstance(pair, (list, tuple)) and len(pair) == 2
    return listed and all(type(end) is int and 1 <= end <= count for end in pair)
