"""The report as Markdown and as JSON, from the same sections as the HTML file."""

from collections.abc import Sequence
from functools import singledispatch
from typing import Any

from resdet.results import markdown
from resdet.results.sections import Cell, Chart, Gallery, Matrix, Section, Table, Text


def to_json(title: str, sections: Sequence[Section]) -> dict[str, Any]:
    """Returns {"title", section: {part: content}}, with tables as lists of {column: value}, charts as lines, and the
    names of pictures."""
    return {"title": title} | {
        section.key: {part.key: part_json(part) for part in section.parts} for section in sections
    }


def to_markdown(title: str, sections: Sequence[Section]) -> str:
    """Formats tables, matrices and lists of pictures; omits charts."""
    blocks = [f"# {title}"]
    for section in sections:
        parts = [block for block in map(part_markdown, section.parts) if block]
        if parts:
            blocks += [f"## {section.title}", *([section.note] if section.note else []), *parts]
    return encodable("\n\n".join(blocks) + "\n")


def encodable(text: str) -> str:
    """Escapes the bytes of file names that are not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


@singledispatch
def part_json(part: object) -> Any:
    """Converts a part to JSON types."""
    raise TypeError(f"no JSON for {type(part)}")


@singledispatch
def part_markdown(part: object) -> str:
    """Formats a part in Markdown; returns an empty string for a part without text."""
    return ""


@part_json.register
def _(table: Table) -> Any:
    return [dict(zip(table.columns, row)) for row in table.rows]


@part_markdown.register
def _(table: Table) -> str:
    rows = [[plain(value) for value in row] for row in table.rows]
    return f"### {table.title}\n\n{markdown.table(table.columns, rows, left=text_columns(table))}"


def text_columns(table: Table) -> int:
    """Returns the number of text columns before the first numeric column."""
    kinds = [isinstance(value, str) for value in table.rows[0]] if table.rows else []
    return next((column for column, text in enumerate(kinds) if not text), len(table.columns))


def plain(value: Cell) -> str:
    return value.replace("\n", " ") if isinstance(value, str) else markdown.format_value(value)


@part_json.register
def _(chart: Chart) -> Any:
    lines = {line.name: {"x": list(line.x), "y": list(line.y)} for line in chart.lines}
    return {"x": chart.x_label, "lines": lines}


@part_json.register
def _(matrix: Matrix) -> Any:
    return {"rows": list(matrix.rows), "columns": list(matrix.columns), "counts": matrix.counts}


@part_markdown.register
def _(matrix: Matrix) -> str:
    rows = [[name, *map(str, counts)] for name, counts in zip(matrix.rows, matrix.counts)]
    return f"### {matrix.title}\n\n{markdown.table(['', *matrix.columns], rows)}"


@part_json.register
def _(gallery: Gallery) -> Any:
    return [{"image": picture.name, "caption": picture.caption} for picture in gallery.pictures]


@part_markdown.register
def _(gallery: Gallery) -> str:
    names = "\n".join(f"- {picture.name}: {picture.caption}" for picture in gallery.pictures)
    return f"### {gallery.title}\n\n{names}" if names else ""


@part_json.register
def _(text: Text) -> Any:
    return text.text
