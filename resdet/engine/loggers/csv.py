"""The metrics of a run as a table: RUN/metrics.csv, with one row per line of metrics.jsonl."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from resdet.engine.metrics_file import METRICS, entry_of, read_entries
from resdet.engine.run import Run
from resdet.files.atomic import append_bytes, write_text

FIXED = ("step", "kind")  # first columns


class CsvLogger:
    """Rewrites the file from metrics.jsonl at the start and for each new metric; otherwise appends a row."""

    def open(self, run: Run) -> None:
        self.source, self.path = run.folder / METRICS, run.folder / "metrics.csv"
        self.rewrite()

    def rewrite(self) -> None:
        entries = read_entries(self.source) if self.source.exists() else []
        self.columns = list(dict.fromkeys([*FIXED, *(key for entry in entries for key in entry)]))
        write_text(self.path, table([dict(zip(self.columns, self.columns)), *entries], self.columns))

    def metrics(self, step: int, kind: str, values: Mapping[str, float]) -> None:
        if set(values) <= set(self.columns):
            append_bytes(self.path, table([entry_of(step, kind, values)], self.columns).encode())
        else:
            self.rewrite()

    def images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Does nothing: a table has no pictures."""

    def close(self, complete: bool) -> None:
        """Does nothing: each row is complete on disk."""


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Formats the rows as text; missing values are empty."""
    text = io.StringIO()
    csv.DictWriter(text, columns, lineterminator="\n").writerows(rows)
    return text.getvalue()
