"""A confusion matrix as parts of a report."""

from collections.abc import Sequence

import numpy as np

from resdet.results.sections import Matrix, Part, Table

LARGEST, PAIRS = 40, 20  # maximum classes of the matrix, maximum rows of the table


def confusion_parts(rows: Sequence[str], columns: Sequence[str], counts: Sequence[Sequence[int]]) -> list[Part]:
    """Returns the matrix of counts [R][C], unless it has too many classes, and a table of its most frequent errors.

    Rows and columns have the same classes, except for the last ones.
    """
    table = np.asarray(counts)
    errors = table * (1 - np.eye(*table.shape, dtype=table.dtype))
    largest = np.argsort(-errors, axis=None, kind="stable")[:PAIRS]
    pairs = [(int(place // len(columns)), int(place % len(columns))) for place in largest]
    frequent = [(rows[r], columns[c], int(errors[r, c])) for r, c in pairs if errors[r, c]]
    parts: list[Part] = [Table("confusions", "Most frequent confusions", ("truth", "predicted", "count"), frequent)]
    if len(rows) <= LARGEST:
        parts.insert(0, Matrix("confusion", "Confusion matrix", rows, columns, table.tolist()))
    return parts
