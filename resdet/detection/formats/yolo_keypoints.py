"""YOLO pose keypoints: `kpt_shape`, `flip_idx` and `kpt_names` in data.yaml, and the numbers after the box in a line,
`x y` or `x y visibility` per keypoint.

x and y are COCO's coordinates divided by the image size, as in ultralytics' conversion of COCO.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from resdet.detection.data.keypoints import KeypointNames, mirror_of
from resdet.errors import DataError

DIGITS = 5  # per number in data.yaml
MOST = 1000  # keypoints
LABELED = 2  # COCO's visibility, for keypoints without one


@dataclass(frozen=True)
class Shape:
    """`kpt_shape`: K keypoints with two or three numbers each."""

    count: int
    dims: int

    @property
    def numbers(self) -> int:
        return self.count * self.dims

    def to_coco(self, numbers: Sequence[float], size: tuple[int, int]) -> list[float]:
        """Returns x, y (pixels) and visibility per keypoint; without visibility, negative x, y and (0, 0) are
        unlabeled."""
        points: list[float] = []
        for start in range(0, self.numbers, self.dims):
            x, y = numbers[start : start + 2]
            is_labeled = min(x, y) >= 0 and max(x, y) > 0
            points += [x * size[0], y * size[1]]
            points.append(numbers[start + 2] if self.dims == 3 else LABELED * is_labeled)
        return points


def shape_of(content: Mapping[str, Any]) -> Shape | None:
    """Returns the shape in a data.yaml, whose scalars are text; None without a valid one."""
    numbers = _numbers(content.get("kpt_shape"))
    if len(numbers) != 2 or numbers[1] not in (2, 3) or not 0 < numbers[0] <= MOST:
        return None
    return Shape(*numbers)


def names_of(content: Mapping[str, Any], shape: Shape, file: str) -> KeypointNames:
    """Returns `kpt_names` if their left and right names match the pairs of `flip_idx`; otherwise numbered names with
    the pairs of `flip_idx`, the left keypoint first."""
    given = _given_names(content.get("kpt_names"), shape.count)
    if not content.get("flip_idx"):
        return KeypointNames(given or _names_by_number(range(shape.count)), [])
    mirror = _numbers(content["flip_idx"])
    if len(mirror) != shape.count or any(not 0 <= j < len(mirror) or mirror[j] != i for i, j in enumerate(mirror)):
        problem = f"flip_idx is not a list of {shape.count} numbers that swaps keypoints in pairs"
        raise DataError(f"{file}: {problem}: fix it.")
    agree = given and mirror_of(given).tolist() == mirror
    return KeypointNames(given if agree else _names_by_number(mirror), [])


def to_yaml(names: KeypointNames, classes: int) -> dict[str, Any]:
    """Returns the keys for a data.yaml."""
    return {
        "kpt_shape": [len(names.names), 3],
        "flip_idx": names.mirror.tolist(),
        "kpt_names": {number: list(names.names) for number in range(classes)},
    }


def _given_names(given: Any, count: int) -> list[str]:
    """Returns the names shared by all classes; empty if they differ or are not a list of `count` names."""
    lists = [*given.values()] if isinstance(given, dict) else []
    names = lists[0] if lists and all(listed == lists[0] for listed in lists) else []
    are_text = isinstance(names, list) and all(isinstance(name, str) and name for name in names)
    return names if are_text and len(set(names)) == len(names) == count else []


def _names_by_number(mirror: Sequence[int]) -> list[str]:
    sides = lambda i, j: "point" if i == j else "left" if i < j else "right"
    return [f"{sides(i, j)}_{min(i, j) + 1}" for i, j in enumerate(mirror)]


def _numbers(given: Any) -> list[int]:
    """Parses a list of texts as whole numbers; empty if one is invalid."""
    texts = [str(each) for each in given] if isinstance(given, list) else []
    are_numbers = all(text.isdecimal() and len(text) <= DIGITS for text in texts)
    return [int(text) for text in texts] if are_numbers else []
