"""Tables of text in columns."""

from collections.abc import Collection, Sequence


def aligned(rows: Sequence[dict[str, str]], right: Collection[str] = ()) -> list[str]:
    """The lines of a table, the heads of the columns first; cells of the columns `right` end at their right edge."""
    rows = [{head: head for head in rows[0]}, *rows]
    widths = {head: max(len(row[head]) for row in rows) for head in rows[0]}
    return [
        "  ".join(cell.rjust(widths[h]) if h in right else cell.ljust(widths[h]) for h, cell in row.items()).rstrip()
        for row in rows
    ]
