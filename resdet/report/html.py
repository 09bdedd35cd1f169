"""The report as a self-contained HTML file, with SVG charts and embedded pictures."""

from base64 import b64encode
from collections.abc import Sequence
from functools import singledispatch
from html import escape
from math import isnan
from pathlib import Path

import numpy as np

from resdet.report.content import encodable
from resdet.results.captions import place
from resdet.results.markdown import format_value
from resdet.results.page import document_with_script
from resdet.results.plot import plot, text_width, to_svg
from resdet.results.sections import Cell, Chart, Gallery, Mark, Matrix, Picture, Section, Table, Text

FILTERED = 10  # minimum number of rows for a table to have a filter
RADIUS = 2.5  # radius of keypoints in pixels
FONT, CAPTION = 11, 13  # font size of box captions, as in parts.css, and their height, in pixels


def page(title: str, sections: Sequence[Section]) -> str:
    links = " ".join(f'<a href="#{escape(each.key)}">{escape(each.title)}</a>' for each in sections)
    header = f'<header><h1>{escape(title)}</h1><nav aria-label="Sections">{links}</nav></header>'
    main = "\n".join(map(section_html, sections))
    script = Path(__file__).with_name("script.js").read_text(encoding="utf-8")
    return encodable(document_with_script(title, f"{header}\n<main>\n{main}\n</main>", script))


def section_html(section: Section) -> str:
    note = f"<p>{escape(section.note)}</p>" if section.note else ""
    parts = "\n".join(map(part_html, section.parts))
    head = f"<h2>{escape(section.title)}</h2>{note}"
    return f'<section id="{escape(section.key)}">{head}\n<div class="parts">{parts}</div></section>'


@singledispatch
def part_html(part: object) -> str:
    """Renders a part of a section."""
    raise TypeError(f"no HTML for {type(part)}")


@part_html.register
def _(table: Table) -> str:
    head = "".join(
        f'<th scope="col" aria-sort="none"><button type="button">{escape(name)}</button></th>' for name in table.columns
    )
    rows = "\n".join(f"<tr>{''.join(map(cell_html, row))}</tr>" for row in table.rows)
    label = f"Filter {table.title}"
    search = f'<input type="search" class="filter" placeholder="Filter" aria-label="{escape(label)}">'
    body = f'<table class="sortable"><thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table>'
    content = body if table.rows else "<p>None.</p>"
    return figure(
        table.title, table.note, (search if len(table.rows) >= FILTERED else "") + scroll(table.title, content)
    )


def cell_html(value: Cell) -> str:
    if isinstance(value, str):
        return f"<td>{escape(value)}</td>"
    order = "" if value is None or isnan(value) else f' data-value="{float(value)!r}"'
    return f'<td class="number"{order}>{format_value(value)}</td>'


@part_html.register
def _(chart: Chart) -> str:
    drawing = plot(chart.lines, "", chart.x_label, chart.y_label, chart.top)
    label = f"{chart.title}: {', '.join(line.name for line in chart.lines)}"
    svg = to_svg(drawing).replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" class="chart" ', 1)
    return figure(chart.title, chart.note, scroll(label, svg), "half")


@part_html.register
def _(matrix: Matrix) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in matrix.columns)
    rows = "\n".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(count_html(count, max(sum(row), 1)) for count in row)}</tr>'
        for name, row in zip(matrix.rows, matrix.counts)
    )
    body = f'<table class="matrix"><thead><tr><td></td>{head}</tr></thead>\n<tbody>{rows}</tbody></table>'
    return figure(matrix.title, matrix.note, scroll(matrix.title, body))


def count_html(count: int, total: int) -> str:
    """Renders a count, shaded by its fraction of the row."""
    return f'<td class="number" style="--share:{count / total:.3f}">{count or ""}</td>'


@part_html.register
def _(gallery: Gallery) -> str:
    layers = dict.fromkeys(name for each in gallery.pictures for name in each.layers)
    toggles = "".join(
        f'<label><input type="checkbox" checked data-layer="{number}"> '
        f'<span class="layer{number}" aria-hidden="true">■</span> {escape(name)}</label>'
        for number, name in enumerate(layers)
    )
    pictures = "\n".join(picture_html(each, list(layers)) for each in gallery.pictures) or "<p>None.</p>"
    controls = f'<div class="toggles">{toggles}</div>' if toggles else ""
    content = f'<div class="gallery">{controls}<div class="pictures">{pictures}</div></div>'
    return figure(gallery.title, gallery.note, content)


def picture_html(picture: Picture, layers: Sequence[str]) -> str:
    corners = iter(places_of(picture, layers))
    groups = "".join(
        f'<g class="layer{number}">{"".join(mark_html(m, next(corners)) for m in picture.layers.get(name, ()))}</g>'
        for number, name in enumerate(layers)
    )
    source = f"data:image/jpeg;base64,{b64encode(picture.jpeg).decode()}"
    box = f'viewBox="0 0 {picture.width} {picture.height}" style="max-width:{2 * picture.width}px"'
    image = f'<image href="{source}" width="{picture.width}" height="{picture.height}"/>'
    caption = f"{picture.name}: {picture.caption}"
    svg = f'<svg role="img" aria-label="{escape(caption)}" {box}>{image}{groups}</svg>'
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def places_of(picture: Picture, layers: Sequence[str]) -> list[tuple[int, int] | None]:
    """Returns the corners of the captions of all marks, layer by layer; captions do not overlap, even across layers."""
    marks = [mark for name in layers for mark in picture.layers.get(name, ())]
    boxes = np.array([mark.box for mark in marks]).reshape(-1, 4)
    sizes = np.array([(text_width(mark.text, FONT), CAPTION) for mark in marks]).reshape(-1, 2)
    return place(boxes, np.ceil(sizes), picture.height, picture.width)


def mark_html(mark: Mark, corner: tuple[int, int] | None) -> str:
    """Renders the mask, the box, the keypoints, and the caption if there is space for it."""
    left, top, right, bottom = mark.box
    sides = f'x="{left:.1f}" y="{top:.1f}" width="{max(right - left, 0):.1f}" height="{max(bottom - top, 0):.1f}"'
    text = f'<text x="{corner[0] + 1}" y="{corner[1] + CAPTION - 3}">{escape(mark.text)}</text>' if corner else ""
    return f"{mask_html(mark)}<rect {sides}/>{keypoints_html(mark)}{text}"


def mask_html(mark: Mark) -> str:
    return (
        f'<path class="mask" d="{"".join(f"{path(simplified(ring))}Z" for ring in mark.rings)}"/>' if mark.rings else ""
    )


def keypoints_html(mark: Mark) -> str:
    limbs = f'<path class="limbs" d="{"".join(map(path, mark.limbs))}"/>' if mark.limbs else ""
    return limbs + "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{RADIUS}"/>' for x, y in mark.points)


def path(places: np.ndarray) -> str:
    """Returns the SVG path through points [k, 2]."""
    return "M" + " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def simplified(ring: np.ndarray) -> np.ndarray:
    """Simplifies a ring [k, 2] with a tolerance of half a pixel."""
    import cv2

    return cv2.approxPolyDP(np.asarray(ring, np.float32)[:, None], 0.5, True)[:, 0]


@part_html.register
def _(text: Text) -> str:
    content = scroll(text.title, f"<pre>{escape(text.text)}</pre>")
    return f"<details><summary>{escape(text.title)}</summary>{content}</details>"


def figure(title: str, note: str, content: str, kind: str = "whole") -> str:
    remark = f"<p>{escape(note)}</p>" if note else ""
    return f'<div class="{kind}"><h3>{escape(title)}</h3>{remark}{content}</div>'


def scroll(title: str, content: str) -> str:
    """Makes content scroll horizontally, also by keyboard."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(title)}">{content}</div>'
