"""Text tables with aligned columns."""

from collections.abc import Collection, Sequence


def aligned(rows: Sequence[dict[str, str]], right: Collection[str] = ()) -> list[str]:
    """Returns the lines of a table, starting with the column heads; columns in `right` are right-aligned."""
    rows = [{head: head for head in rows[0]}, *rows]
    widths = {head: max(len(row[head]) for row in rows) for head in rows[0]}
    return [
        "  ".join(cell.rjust(widths[h]) if h in right else cell.ljust(widths[h]) for h, cell in row.items()).rstrip()
        for row in rows
    ]
