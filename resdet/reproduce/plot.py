"""A small plotter: lines over two axes, as SVG for pages and as PNG for everything else.

A picture is a list of photographs, strokes and words in pixels, composed once; each format only renders it.
"""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import floor, log10
from pathlib import Path

import numpy as np

from resdet.files.atomic import write_image, write_text

WIDTH, HEIGHT = 720, 480
LEFT, RIGHT, TOP, BOTTOM = 64, 190, 48, 48  # margins; the legend stands on the right
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#ff7f0e", "#9467bd", "#8c564b", "#e377c2", "#17becf", "#bcbd22", "#444444")
DASHES = 6  # pixels of a dash, and of the gap after it


@dataclass
class Line:
    """A named sequence of points. Lines of one color number belong together."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    color: int
    thin: bool = False  # dashed


@dataclass
class Stroke:
    points: np.ndarray  # [n, 2] in pixels
    color: str
    width: float
    dashed: bool = False


@dataclass
class Word:
    text: str
    x: float
    y: float  # of the base line
    anchor: str = "start"  # start, middle or end, as in SVG
    size: int = 12
    color: str = "#222222"
    ground: str | None = None  # the color behind a word that starts at x, as wide as `text_width` says


@dataclass
class Photograph:
    pixels: np.ndarray  # uint8 [h, w, 3] RGB, to be shown in `width` times `height` of the picture
    x: float
    y: float
    width: int
    height: int


@dataclass
class Picture:
    """Photographs lie below strokes, and strokes below words."""

    strokes: list[Stroke]
    words: list[Word]
    width: int = WIDTH
    height: int = HEIGHT
    photographs: Sequence[Photograph] = ()


def plot(lines: Sequence[Line], title: str, x_label: str, y_label: str, top: float | None = None) -> Picture:
    """The lines over axes that begin at zero; what is above `top` is cut off, as in the paper."""
    x_most = max((max(line.x) for line in lines if len(line.x)), default=1) or 1
    y_most = top or max((max(line.y) for line in lines if len(line.y)), default=1) or 1
    box = np.array([LEFT, HEIGHT - BOTTOM])
    span = np.array([WIDTH - LEFT - RIGHT, -(HEIGHT - TOP - BOTTOM)])
    place = lambda x, y: box + span * np.stack([np.asarray(x, float) / x_most, np.asarray(y, float) / y_most], -1)
    picture = Picture([], [Word(title, LEFT, TOP - 26, size=15)])
    for value in ticks(y_most):
        left, right = place([0, x_most], [value, value])
        picture.strokes.append(Stroke(np.stack([left, right]), "#dddddd", 1))
        picture.words.append(Word(f"{value:g}", left[0] - 6, left[1] + 4, "end"))
    for value in ticks(x_most):
        x, y = place(value, 0)
        picture.words.append(Word(f"{value:g}", x, y + 16, "middle"))
    picture.strokes.append(Stroke(place([0, 0, x_most], [y_most, 0, 0]), "#222222", 1))
    picture.words += [Word(x_label, WIDTH - RIGHT, HEIGHT - 12, "end"), Word(y_label, LEFT, TOP - 8)]
    for i, line in enumerate(lines):
        color = COLOURS[line.color % len(COLOURS)]
        base = TOP + 14 + 17 * i
        key = np.array([(WIDTH - RIGHT + 12, base - 4), (WIDTH - RIGHT + 36, base - 4)], float)
        for points in (*(place(x, y) for x, y in pieces_below(y_most, line)), key):
            picture.strokes.append(Stroke(points, color, 1 if line.thin else 1.8, line.thin))
        picture.words.append(Word(line.name, WIDTH - RIGHT + 42, base))
    return picture


def pieces_below(top: float, line: Line) -> list[tuple[np.ndarray, np.ndarray]]:
    """x and y of each piece of the line that is not above `top`, cut where it crosses."""
    x, y = np.asarray(line.x, float), np.asarray(line.y, float)
    before = np.flatnonzero(np.diff(y > top))
    share = (top - y[before]) / (y[before + 1] - y[before])
    x = np.insert(x, before + 1, x[before] + share * (x[before + 1] - x[before]))
    y = np.insert(y, before + 1, top)
    ends = np.flatnonzero(np.diff(y > top)) + 1
    return [(x, y) for x, y in zip(np.split(x, ends), np.split(y, ends)) if len(y) and y[0] <= top]


def ticks(most: float) -> np.ndarray:
    """Four to nine round numbers from zero to at most `most`."""
    step = 10.0 ** floor(log10(most))
    step *= next(share for share in (0.1, 0.2, 0.5, 1) if most / (share * step) < 10)
    return step * np.arange(floor(most / step + 1e-9) + 1)


def to_svg(picture: Picture) -> str:
    shapes = [f'<rect width="{picture.width}" height="{picture.height}" fill="white"/>']
    shapes += map(embedded, picture.photographs)
    for stroke in picture.strokes:
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in stroke.points)
        dashes = f' stroke-dasharray="{DASHES}"' if stroke.dashed else ""
        shapes.append(
            f'<polyline points="{points}" fill="none" stroke="{stroke.color}" stroke-width="{stroke.width}"{dashes}/>'
        )
    for word in picture.words:
        fitted = ""
        if word.ground:
            x, y, width, height = ground_of(word)
            place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
            shapes.append(f'<rect {place} fill="{word.ground}"/>')
            fitted = f' textLength="{width:.1f}" lengthAdjust="spacingAndGlyphs"'
        shapes.append(
            f'<text x="{word.x:.1f}" y="{word.y:.1f}" font-size="{word.size}" text-anchor="{word.anchor}" '
            f'fill="{word.color}"{fitted}>{escape(word.text)}</text>'
        )
    size = f'width="{picture.width}" height="{picture.height}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif">\n' + "\n".join(shapes) + "\n</svg>\n"
    )


def embedded(photograph: Photograph) -> str:
    """The element with the pixels inside, as a JPEG."""
    import cv2

    jpeg = cv2.imencode(".jpg", cv2.cvtColor(photograph.pixels, cv2.COLOR_RGB2BGR))[1].tobytes()
    place = f'x="{photograph.x:.1f}" y="{photograph.y:.1f}" width="{photograph.width}" height="{photograph.height}"'
    return f'<image {place} href="data:image/jpeg;base64,{b64encode(jpeg).decode()}"/>'


def ground_of(word: Word) -> tuple[float, float, float, float]:
    """Left, top, width and height of what is colored behind a word."""
    return word.x, word.y - word.size + 1, text_width(word.text, word.size), word.size + 2


def text_width(text: str, size: int) -> float:
    """About as wide as sans-serif letters are."""
    return 0.58 * size * len(text)


def to_pixels(picture: Picture, scale: int = 2) -> np.ndarray:
    """uint8 [height, width, 3] RGB, `scale` pixels for each of the picture's."""
    import cv2

    canvas = np.full((picture.height * scale, picture.width * scale, 3), 255, np.uint8)
    for photograph in picture.photographs:
        width, height = photograph.width * scale, photograph.height * scale
        x, y = round(photograph.x * scale), round(photograph.y * scale)
        canvas[y : y + height, x : x + width] = cv2.resize(photograph.pixels, (width, height))
    fixed = lambda points: np.round(points * scale * 16).astype(np.int32)  # sub-pixel: four bits of fraction
    for stroke in picture.strokes:
        pieces = dashes(stroke.points) if stroke.dashed else [stroke.points]
        thickness = max(1, round(stroke.width * scale))
        cv2.polylines(canvas, [fixed(piece) for piece in pieces], False, rgb(stroke.color), thickness, cv2.LINE_AA, 4)
    for word in picture.words:
        font = (cv2.FONT_HERSHEY_SIMPLEX, word.size * scale / 30)
        width = cv2.getTextSize(word.text, *font, scale)[0][0]
        if word.ground:
            left, top, most, high = (round(side * scale) for side in ground_of(word))
            canvas[top : top + high, left : left + min(most, width)] = rgb(word.ground)
            font = (font[0], font[1] * min(1, most / width))
        x = word.x * scale - {"start": 0, "middle": width / 2, "end": width}[word.anchor]
        cv2.putText(canvas, word.text, (round(x), round(word.y * scale)), *font, rgb(word.color), 1, cv2.LINE_AA)
    return canvas


def dashes(points: np.ndarray) -> list[np.ndarray]:
    """The line [n, 2] cut into dashes, each of two points."""
    lengths = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    starts = np.arange(0, lengths[-1], 2 * DASHES)
    at = lambda where: np.stack([np.interp(where, lengths, points[:, axis]) for axis in (0, 1)], -1)
    return list(np.stack([at(starts), at(starts + DASHES)], 1))


def rgb(color: str) -> tuple[int, ...]:
    return tuple(int(color[i : i + 2], 16) for i in (1, 3, 5))


def save(picture: Picture, stem: Path) -> list[Path]:
    """stem.svg and stem.png."""
    svg, png = stem.with_suffix(".svg"), stem.with_suffix(".png")
    write_text(svg, to_svg(picture))
    write_image(png, to_pixels(picture))
    return [svg, png]
