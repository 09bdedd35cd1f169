"""Tables in Markdown."""

from collections.abc import Iterable, Sequence

from resdet.errors import printable


def table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """Formats a table with the first `left` columns left-aligned, the others right-aligned."""
    line = lambda cells: f"| {' | '.join(printable(cell).replace('|', chr(92) + '|') for cell in cells)} |"
    rule = "|" + "|".join("---" if column < left else "---:" for column in range(len(header))) + "|"
    return "\n".join([line(header), rule, *map(line, rows)])


def format_value(value: float | int | None) -> str:
    if value is None:
        return "n/a"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
