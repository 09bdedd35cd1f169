"""Lists of JSON objects as numpy columns; the first object that does not fit is named in a DataError."""

from typing import Any, Sequence

import numpy as np

from resdet.errors import DataError


class Columns:
    """Fields of `objects`, which errors call "dets.json, result 7" (counted from 0)."""

    def __init__(self, objects: Sequence[dict], file: str, noun: str):
        self.objects, self.file, self.noun = objects, file, noun
        if not isinstance(objects, (list, tuple)):
            raise DataError(f"{file} holds no list of {noun}s but a {type(objects).__name__}: see the COCO format.")

    def ids(self, key: str) -> np.ndarray:
        """int64 [n]; whole numbers that happen to be written as 4.0 are taken."""
        values = self._array(key, "iuf", (), "a whole number")
        with np.errstate(invalid="ignore"):
            whole = values.astype(np.int64)
        self._refuse((whole != values) | (whole < 0), key, "a whole number, 0 or more")
        return whole

    def numbers(self, key: str) -> np.ndarray:
        """float64 [n], finite."""
        values = self._array(key, "iuf", (), "a number").astype(np.float64)
        self._refuse(~np.isfinite(values), key, "a finite number")
        return values

    def boxes(self, key: str) -> np.ndarray:
        """float64 [n, 4]: x, y, width, height, finite, the sides not negative."""
        values = self._array(key, "iuf", (4,), "four numbers: x, y, width, height").astype(np.float64)
        self._refuse(~np.isfinite(values).all(1), key, "four finite numbers: x, y, width, height")
        self._refuse((values[:, 2:] < 0).any(1), key, "x, y, width, height with sides that are not negative")
        return values

    def error(self, i: int, what: str) -> DataError:
        own = self.objects[i].get("id") if isinstance(self.objects[i], dict) else None
        return DataError(f"{self.file}, {self.noun} {i}{'' if own is None else f' (id {own})'} {what}.")

    def _array(self, key: str, kinds: str, shape: tuple[int, ...], wanted: str) -> np.ndarray:
        """[n, *shape] in whatever numeric type the values have."""
        try:
            values = np.array([entry[key] for entry in self.objects])
            if values.dtype.kind in kinds and values.shape == (len(self.objects), *shape):
                return values
        except (KeyError, TypeError, ValueError):
            pass  # the reason is found below
        for i, entry in enumerate(self.objects):
            if not isinstance(entry, dict) or key not in entry:
                raise self.error(i, f"has no {key!r}: give it {wanted}")
            if not _fits(entry[key], kinds, shape):
                raise self.error(i, f"has {key} {_brief(entry[key])}: give it {wanted}")
        return np.array([entry[key] for entry in self.objects], np.float64).reshape(-1, *shape)

    def _refuse(self, wrong: np.ndarray, key: str, wanted: str) -> None:
        if wrong.any():
            i = int(wrong.argmax())
            raise self.error(i, f"has {key} {_brief(self.objects[i][key])}: give it {wanted}")


def _fits(value: Any, kinds: str, shape: tuple[int, ...]) -> bool:
    try:
        array = np.array(value)
    except ValueError:
        return False
    return array.dtype.kind in kinds and array.shape == shape


def _brief(value: Any) -> str:
    text = repr(value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."
