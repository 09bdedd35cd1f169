"""Lists of JSON objects as NumPy columns; reports invalid rows by kind and excludes them from later checks."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np

from resdet.errors import DataError
from resdet.files.json_columns import JsonColumns

LARGEST_ID = 2**53  # evaluators store ids as floats, so larger ids are ambiguous
BRIEF = 60  # maximum characters of a value in a message


class Records:
    """Objects of one kind (`noun`) in a file; `valid` marks those that passed all checks so far.

    `report` receives each kind of problem with the records, rows, problem and key. If it raises no error, the rows
    become invalid and later checks skip them.
    """

    def __init__(self, entries: Sequence[Any] | JsonColumns, noun: str, report: "Report"):
        self.noun, self.report = noun, report
        self.entries: Any = entries
        if not isinstance(entries, JsonColumns):
            self.entries = [entry if isinstance(entry, dict) else {} for entry in entries]
        self.valid = np.ones(len(entries), bool)

    def __len__(self) -> int:
        return len(self.entries)

    def require(self, good: np.ndarray | np.bool_, problem: str, key: str | None = None) -> None:
        """Reports the valid rows where `good` bool [n] is false; `problem` completes "has …", about `key`."""
        bad = np.flatnonzero(self.valid & ~np.asarray(good, bool))
        if len(bad):
            self.valid[bad] = False
            self.report(self, bad, problem, key)

    def values(self, key: str) -> list[Any]:
        """Returns the values of a key, None if missing."""
        return [value for (block,) in self.blocks(key) for value in block]

    def blocks(self, *keys: str) -> Iterator[tuple[list[Any], ...]]:
        """Yields the values of the keys, None if missing, one list per key; large files in blocks of entries."""
        if isinstance(self.entries, JsonColumns):
            yield from self.entries.values(*keys)
        else:
            yield tuple([entry.get(key) for entry in self.entries] for key in keys)

    def pop(self, key: str) -> Iterator[list[Any]]:
        """Returns blocks of a key's values, None if missing; for large files, removes the key and frees read blocks."""
        return self.entries.pop(key) if isinstance(self.entries, JsonColumns) else iter([self.values(key)])

    def column(self, convert: Callable[..., np.ndarray], *keys: str) -> np.ndarray:
        """Applies `convert` to the values of the keys: [n, …]."""
        return np.concatenate([convert(*values) for values in self.blocks(*keys)])

    def require_unique(self, ids: np.ndarray) -> None:
        """Reports valid rows that repeat the id [n] of an earlier valid row."""
        rows = np.flatnonzero(self.valid)
        first = np.zeros(len(self), bool)
        first[rows[np.unique(ids[rows], return_index=True)[1]]] = True
        self.require(first, f"an id that another {self.noun} has", "id")

    def whole(self, key: str) -> np.ndarray:
        """Returns int64 [n], negative where invalid; accepts 4.0 as 4."""
        numbers = self.column(whole_numbers, key)
        self.require(numbers >= 0, f"no whole number, 0 or more, as {key}", key)
        return numbers

    def finite(self, key: str) -> np.ndarray:
        """Returns float64 [n]."""
        values, numeric = numbers(self.values(key))
        self.require(numeric & np.isfinite(values), f"no finite number as {key}", key)
        return values

    def boxes(self, key: str = "bbox") -> np.ndarray:
        """Returns float64 [n, 4]: x, y, width, height; finite and without negative sides where valid."""
        both = self.column(_fours, key)
        values, numeric = both[:, :4].copy(), both[:, 4:] > 0
        self.require(numeric.all(1), f"no {key} of four numbers, x, y, width and height", key)
        self.require(np.isfinite(values).all(1), f"a {key} with NaN or infinite coordinates", key)
        self.require((values[:, 2:] >= 0).all(1), f"a {key} with negative sides", key)
        return values

    def name(self, row: int) -> str:
        """Returns the id of a row, for messages."""
        entry = self.entries[row]
        return brief(entry["id"]) if "id" in entry else "without id"


Report = Callable[[Records, np.ndarray, str, str | None], None]


def refuse(file: str) -> Report:
    """Returns a report that raises a DataError about the first row."""

    def report(records: Records, rows: np.ndarray, problem: str, key: str | None) -> None:
        row = int(rows[0])
        entry = records.entries[row]
        name = f" (id {records.name(row)})" if "id" in entry else ""
        value = f" ({brief(entry[key])})" if key in entry else ""
        raise DataError(f"{file}, {records.noun} {row}{name} has {problem}{value}: fix it or leave it out.")

    return report


def whole_numbers(values: list[Any]) -> np.ndarray:
    """Returns int64 [n], negative for anything but a whole number from 0 to LARGEST_ID."""
    if set(map(type, values)) <= {int}:
        try:
            numbers = np.array(values, np.int64)
            return np.where(numbers <= LARGEST_ID, numbers, -1)
        except OverflowError:
            pass  # too large for int64; handled below
    return np.array([_whole(value) for value in values], np.int64)


def numbers(values: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Returns float64 [n], NaN where not a number, and bool [n]: whether the value is a number."""
    if set(map(type, values)) <= {int, float}:
        try:
            return np.array(values, np.float64), np.ones(len(values), bool)
        except OverflowError:
            pass  # an int is too large for a float
    values = [value.item() if isinstance(value, np.generic) else value for value in values]
    numeric = np.array([type(value) in (int, float) for value in values], bool)
    return np.array([_float(value) if good else np.nan for value, good in zip(values, numeric)], np.float64), numeric


def brief(value: Any) -> str:
    """Formats the value as short ASCII text for a message."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, int) and abs(value) > LARGEST_ID:
        return "a huge number"
    text = ascii(value)
    return text if len(text) <= BRIEF else f"{text[: BRIEF - 3]}..."


def _whole(value: Any) -> int:
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= LARGEST_ID else -1


def _float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        return np.inf


def _fours(rows: list[Any]) -> np.ndarray:
    """Returns float64 [n, 8]: four values, and whether each is a number."""
    columns = numbers(list(chain.from_iterable(map(_four, rows))))
    return np.concatenate([column.reshape(-1, 4) for column in columns], 1)


def _four(row: Any) -> Sequence[Any]:
    row = row.tolist() if isinstance(row, np.ndarray) else row
    return row if isinstance(row, (list, tuple)) and len(row) == 4 else (None,) * 4
