"""Printing and drawing of streamed results."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from resdet.errors import DataError, number_of
from resdet.images import address
from resdet.images.encode import write_image
from resdet.images.shape_groups import attempted
from resdet.images.video import USUAL_RATE, Video
from resdet.images.video_writer import VideoWriter
from resdet.model import Prepared
from resdet.progress import track
from resdet.results.parquet import row_of_error
from resdet.results.result import Result

R = TypeVar("R")
Source = str | Path | Video  # str: an address
Update = Callable[[Result], Result]


class Predictor(Protocol):
    """A detector, an ensemble, or an exported file."""

    def prepare_image(self, image: Any) -> Prepared:
        """Decodes and resizes an image; may run in any thread."""

    def predict_prepared(
        self, images: Sequence[Prepared], score: float | None = None, top: int | None = None
    ) -> list[Result]:
        """Returns the results of prepared images of one shape."""

    def stream(self, images: Iterable[Any], score: float | None = None) -> Iterator[Result]:
        """Yields one result per image; reads images lazily."""


class Place(NamedTuple):
    """The position of a frame in its video."""

    video: str
    frame: int  # from 1
    time: float  # seconds

    def __str__(self) -> str:
        return f"{self.video}, frame {self.frame} ({self.time:.2f} s)"


def untracked(rate: float) -> Update:
    """Returns a function that leaves results unchanged."""
    return lambda result: result


def show(
    model: Predictor,
    sources: Sequence[Source],
    score: float | None,
    folder: Path | None,
    batch: int = 1,
    tracker: Callable[[float], Update] = untracked,
) -> Iterator[dict[str, Any]]:
    """Prints each result, draws it into `folder` unless None, and yields it in JSON types; images first, then videos.

    Predicts up to `batch` images together. The row of an unreadable image contains `error`. `tracker`: maps the
    frame rate of a video to a function that is applied to its results, frame by frame; the images count as one video.
    """
    paths, videos = sorted_out(sources)
    update = tracker(USUAL_RATE)
    for number, (path, result) in enumerate(attempts(model, paths, batch, score=score), 1):
        if isinstance(result, DataError):
            print(result)
            yield row_of_error(str(path), result)
            continue
        result = update(result)
        print(result)
        if folder:
            write_drawn(result, folder, number)
        yield result.to_dict()
    for number, video in enumerate(videos, len(paths) + 1):
        drawn = folder and folder / f"{number:04}_{stem_of(video)}.mp4"
        yield from show_video(model, video, score, drawn, tracker(video.rate))


def attempts(model: Any, paths: Sequence[str | Path], batch: int, **options: Any) -> Iterator[tuple[str | Path, Any]]:
    """Yields each image with its result, or with a DataError if it is unreadable; shows the progress.

    `options`: score and top of `predict_prepared`.
    """
    predict = partial(model.predict_prepared, **options)
    outcomes = attempted(model.prepare_image, predict, paths, batch)
    for path, _, result in track(outcomes, "predicting", len(paths)):
        if not isinstance(result, DataError):
            result.image = path
        yield path, result


def show_video(
    model: Predictor, video: Video, score: float | None, path: Path | None, update: Update
) -> Iterator[dict[str, Any]]:
    """Prints each frame's result on one line, writes the drawn video unless `path` is None, and yields the results."""
    with VideoWriter(path, video.rate) if path else nullcontext() as writer, until_interrupted(video):
        for place, result in follow(video, lambda frames: map(update, model.stream(frames, score))):
            print(f"{place}: {in_a_line(result)}", flush=video.live)
            if writer:
                writer.write(result.draw(scale=None, colors="class"), place.time)
            yield result.to_dict() | place._asdict()
    if writer and writer.frames:
        print(f"{path}: {number_of(writer.frames, 'frame')} at {video.rate:g} per second, without sound")


def in_a_line(result: Result) -> str:
    """Formats the score range per class, best class first: "person 0.99–0.51 (12), car 0.97"."""
    by_class: dict[str, list[float]] = {}
    for name, score in zip(result.names, result.scores.tolist()):
        by_class.setdefault(name, []).append(score)
    classes = sorted(by_class.items(), key=lambda entry: -max(entry[1]))
    several = lambda scores: f"–{min(scores):.2f} ({len(scores)})" if len(scores) > 1 else ""
    return ", ".join(f"{name} {max(scores):.2f}{several(scores)}" for name, scores in classes) or "no detection"


def follow(video: Video, stream: Callable[[Iterable[np.ndarray]], Iterator[R]]) -> Iterator[tuple[Place, R]]:
    """Yields the results that `stream` computes from the frames of a video."""
    times: deque[float] = deque()

    def pixels() -> Iterator[np.ndarray]:
        for frame in video:
            times.append(frame.time)
            yield frame.pixels

    for number, result in enumerate(stream(pixels()), 1):
        yield Place(video.name, number, times.popleft()), result


def until_interrupted(video: Video) -> AbstractContextManager[None]:
    """Lets Ctrl-C end the frames of a camera, whether it waits, predicts or draws; not those of a file."""
    return suppress(KeyboardInterrupt) if video.live else nullcontext()


def sorted_out(sources: Sequence[Source]) -> tuple[list[str | Path], list[Video]]:
    """Splits sources into images, by path or address, and videos."""
    return [s for s in sources if not isinstance(s, Video)], [s for s in sources if isinstance(s, Video)]


def stem_of(video: Video) -> str:
    """Returns the stem of the file name, the number of the camera, or the URL of the stream, as part of a file name."""
    if video.name.isdecimal():
        return f"camera{video.name}"
    path = video.name.partition("://")[2].partition("?")[0]
    return "".join(sign if sign.isalnum() else "_" for sign in path.rpartition("@")[2]) or Path(video.name).stem


def write_drawn(result: Result, folder: Path, number: int) -> None:
    """Writes folder/NUMBER_NAME.jpg, since images from several folders may share a name."""
    assert isinstance(result.image, (str, Path))
    write_image(folder / f"{number:04}_{address.stem_of(result.image)}.jpg", result.draw(scale=None))
