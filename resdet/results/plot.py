"""A small plotting library: lines over two axes, rendered as SVG and PNG.

A drawing consists of bitmaps, strokes and texts in pixel coordinates, which are rendered in each format.
"""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from math import floor, log10
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from resdet.files.atomic import write_text
from resdet.images.encode import write_image

WIDTH, HEIGHT = 720, 480
LEFT, RIGHT, TOP, BOTTOM = 64, 190, 48, 48  # margins; the legend is on the right
COLORS = ("#1f77b4", "#d62728", "#2ca02c", "#ff7f0e", "#9467bd", "#8c564b", "#e377c2", "#17becf", "#bcbd22", "#444444")
DASHES = 6  # length of a dash and of a gap, in pixels
DOT = np.array([(-2.0, 0.0), (2.0, 0.0)])  # stroke for a line with one point


@dataclass
class Line:
    """A named sequence of points."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    color: int  # index into COLORS, modulo its length
    thin: bool = False  # thin and dashed


@dataclass
class Stroke:
    points: np.ndarray  # [n, 2] in pixels
    color: str
    width: float
    dashed: bool = False


@dataclass
class Text:
    text: str
    x: float
    y: float  # baseline
    anchor: str = "start"  # start, middle or end, as in SVG
    size: int = 12
    color: str = "#222222"
    background: str | None = None  # color behind the text, `text_width` wide; only with anchor "start"


@dataclass
class Bitmap:
    pixels: np.ndarray  # uint8 [h, w, 3] RGB, scaled to `width` × `height` of the drawing
    x: float
    y: float
    width: int
    height: int


@dataclass
class Drawing:
    """Bitmaps are drawn first, then strokes, then texts."""

    strokes: list[Stroke]
    texts: list[Text]
    width: int = WIDTH
    height: int = HEIGHT
    bitmaps: list[Bitmap] = field(default_factory=list)


def plot(lines: Sequence[Line], title: str, x_label: str, y_label: str, top: float | None = None) -> Drawing:
    """Plots lines over axes from zero, or from the lowest negative y; clips values above `top`, as in the paper."""
    x_most = max((max(line.x) for line in lines if len(line.x)), default=1) or 1
    y_least = min([0.0, *(min(line.y) for line in lines if len(line.y))])
    y_most = top or max([0.0, *(max(line.y) for line in lines if len(line.y))]) or (0.0 if y_least else 1.0)
    box = np.array([LEFT, HEIGHT - BOTTOM])
    span = np.array([WIDTH - LEFT - RIGHT, -(HEIGHT - TOP - BOTTOM)])

    def place(x: ArrayLike, y: ArrayLike) -> np.ndarray:
        heights = (np.asarray(y, float) - y_least) / (y_most - y_least)
        points: np.ndarray = box + span * np.stack([np.asarray(x, float) / x_most, heights], -1)
        return points

    drawing = Drawing([], [Text(title, LEFT, TOP - 26, size=15)])
    for value in ticks(y_most, y_least):
        left, right = place([0, x_most], [value, value])
        drawing.strokes.append(Stroke(np.stack([left, right]), "#dddddd", 1))
        drawing.texts.append(Text(f"{value:g}", left[0] - 6, left[1] + 4, "end"))
    for value in ticks(x_most):
        x, y = place(value, y_least)
        drawing.texts.append(Text(f"{value:g}", x, y + 16, "middle"))
    drawing.strokes.append(Stroke(place([0, 0, x_most], [y_most, y_least, y_least]), "#222222", 1))
    drawing.texts += [Text(x_label, WIDTH - RIGHT, HEIGHT - 12, "end"), Text(y_label, LEFT, TOP - 8)]
    for i, line in enumerate(lines):
        color = COLORS[line.color % len(COLORS)]
        base = TOP + 14 + 17 * i
        key = np.array([(WIDTH - RIGHT + 12, base - 4), (WIDTH - RIGHT + 36, base - 4)], float)
        pieces = [place(x, y) for x, y in pieces_below(y_most, line)]
        for points in (*(DOT + piece if len(piece) == 1 else piece for piece in pieces), key):
            drawing.strokes.append(Stroke(points, color, 1 if line.thin else 1.8, line.thin))
        drawing.texts.append(Text(line.name, WIDTH - RIGHT + 42, base))
    return drawing


def pieces_below(top: float, line: Line) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns x and y of each piece of the line that is not above `top`, cut at the crossings."""
    x, y = np.asarray(line.x, float), np.asarray(line.y, float)
    before = np.flatnonzero(np.diff(y > top))
    share = (top - y[before]) / (y[before + 1] - y[before])
    x = np.insert(x, before + 1, x[before] + share * (x[before + 1] - x[before]))
    y = np.insert(y, before + 1, top)
    ends = np.flatnonzero(np.diff(y > top)) + 1
    return [(x, y) for x, y in zip(np.split(x, ends), np.split(y, ends)) if len(y) and y[0] <= top]


def ticks(most: float, least: float = 0.0) -> np.ndarray:
    """Returns round numbers between `least` (zero or below) and `most`; four to nine if `least` is zero."""
    span = most - least
    step = 10.0 ** floor(log10(span))
    step *= next(share for share in (0.1, 0.2, 0.5, 1) if span / (share * step) < 10)
    return step * np.arange(-floor(-least / step + 1e-9), floor(most / step + 1e-9) + 1)


def to_svg(drawing: Drawing) -> str:
    shapes = [f'<rect width="{drawing.width}" height="{drawing.height}" fill="white"/>']
    shapes += map(embedded, drawing.bitmaps)
    for stroke in drawing.strokes:
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in stroke.points)
        dashes = f' stroke-dasharray="{DASHES}"' if stroke.dashed else ""
        shapes.append(
            f'<polyline points="{points}" fill="none" stroke="{stroke.color}" stroke-width="{stroke.width}"{dashes}/>'
        )
    for text in drawing.texts:
        fitted = ""
        if text.background:
            x, y, width, height = background_of(text)
            place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
            shapes.append(f'<rect {place} fill="{text.background}"/>')
            fitted = f' textLength="{width:.1f}" lengthAdjust="spacingAndGlyphs"'
        shapes.append(
            f'<text x="{text.x:.1f}" y="{text.y:.1f}" font-size="{text.size}" text-anchor="{text.anchor}" '
            f'fill="{text.color}"{fitted}>{escape(text.text)}</text>'
        )
    size = f'width="{drawing.width}" height="{drawing.height}" viewBox="0 0 {drawing.width} {drawing.height}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif">\n' + "\n".join(shapes) + "\n</svg>\n"
    )


def embedded(bitmap: Bitmap) -> str:
    """Returns an SVG element with the pixels embedded as JPEG."""
    import cv2

    jpeg = cv2.imencode(".jpg", cv2.cvtColor(bitmap.pixels, cv2.COLOR_RGB2BGR))[1].tobytes()
    place = f'x="{bitmap.x:.1f}" y="{bitmap.y:.1f}" width="{bitmap.width}" height="{bitmap.height}"'
    return f'<image {place} href="data:image/jpeg;base64,{b64encode(jpeg).decode()}"/>'


def background_of(text: Text) -> tuple[float, float, float, float]:
    """Returns left, top, width and height of the background of a text."""
    return text.x, text.y - text.size + 1, text_width(text.text, text.size), text.size + 2


def text_width(text: str, size: int) -> float:
    """Estimates the width of a sans-serif text in pixels."""
    return 0.58 * size * len(text)


def to_pixels(drawing: Drawing, scale: int = 2) -> np.ndarray:
    """Renders as uint8 [scale * height, scale * width, 3] RGB."""
    import cv2

    canvas = np.full((drawing.height * scale, drawing.width * scale, 3), 255, np.uint8)
    for bitmap in drawing.bitmaps:
        width, height = bitmap.width * scale, bitmap.height * scale
        x, y = round(bitmap.x * scale), round(bitmap.y * scale)
        canvas[y : y + height, x : x + width] = cv2.resize(bitmap.pixels, (width, height))

    def fixed(points: np.ndarray) -> np.ndarray:
        return np.round(points * scale * 16).astype(np.int32)  # fixed point with four fractional bits

    for stroke in drawing.strokes:
        pieces = dashes(stroke.points) if stroke.dashed else [stroke.points]
        thickness = max(1, round(stroke.width * scale))
        cv2.polylines(canvas, [fixed(piece) for piece in pieces], False, rgb(stroke.color), thickness, cv2.LINE_AA, 4)
    for text in drawing.texts:
        font = (cv2.FONT_HERSHEY_SIMPLEX, text.size * scale / 30)
        text_px = cv2.getTextSize(text.text, *font, scale)[0][0]
        if text.background:
            left, top, most, high = (round(side * scale) for side in background_of(text))
            canvas[top : top + high, left : left + min(most, text_px)] = rgb(text.background)
            font = (font[0], font[1] * min(1, most / text_px))
        x_px = text.x * scale - {"start": 0, "middle": text_px / 2, "end": text_px}[text.anchor]
        cv2.putText(canvas, text.text, (round(x_px), round(text.y * scale)), *font, rgb(text.color), 1, cv2.LINE_AA)
    return canvas


def dashes(points: np.ndarray) -> list[np.ndarray]:
    """Cuts a polyline [n, 2] into dashes of two points each."""
    lengths = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    starts = np.arange(0, lengths[-1], 2 * DASHES)

    def at(where: np.ndarray) -> np.ndarray:
        return np.stack([np.interp(where, lengths, points[:, axis]) for axis in (0, 1)], -1)

    return list(np.stack([at(starts), at(starts + DASHES)], 1))


def rgb(color: str) -> tuple[int, ...]:
    return tuple(int(color[i : i + 2], 16) for i in (1, 3, 5))


def save(drawing: Drawing, stem: Path) -> list[Path]:
    """Writes stem.svg and stem.png; returns both paths."""
    svg, png = stem.with_suffix(".svg"), stem.with_suffix(".png")
    write_text(svg, to_svg(drawing))
    write_image(png, to_pixels(drawing))
    return [svg, png]
