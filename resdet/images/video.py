"""Videos: files, cameras and network streams, frame by frame."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from queue import Empty, Queue
from time import monotonic
from typing import Any, NamedTuple

import numpy as np

from resdet.errors import DataError
from resdet.images.address import STREAMS, WEB, is_image_address
from resdet.images.mp4 import shown_seconds

EXTENSIONS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")
SCHEMES = (*STREAMS, *WEB)
WHOLE = 0.95  # minimum share of its declared frames, or seconds, in a complete file: some formats only estimate them
PATIENCE = 2.0  # seconds to wait for a camera's last frame
RATES, USUAL_RATE = (1.0, 240.0), 25.0  # plausible frames per second, and the replacement for others


class Frame(NamedTuple):
    """A frame of a video."""

    time: float  # seconds since the first frame
    pixels: np.ndarray  # uint8 RGB [H, W, 3], upright


def is_video(source: str | Path) -> bool:
    """Whether `source` is the name of a video file, a camera (its number) or a stream (its URL)."""
    return Path(source).suffix.lower() in EXTENSIONS or is_stream(source)


def is_stream(source: str | Path) -> bool:
    name = str(source)
    return (name.startswith(SCHEMES) and not is_image_address(name)) or (name.isdecimal() and not Path(name).exists())


def address_of(source: str | Path) -> int | str:
    """Returns the number of a camera, the URL of a stream, or the absolute path of a file, since FFmpeg takes the part
    of a relative path before a colon for a protocol."""
    name = str(source)
    if is_stream(source) and name.isdecimal():
        return int(name)
    return str(Path(name).absolute()) if Path(name).exists() else name


class Video:
    """A video that can be read once. `rate`: frames per second; `live`: a camera, which does not wait for readers."""

    def __init__(self, source: str | Path):
        import cv2

        self.name = str(source)
        self.capture = cv2.VideoCapture(address_of(source))
        if not self.capture.isOpened():
            raise DataError(
                f"{self.name}: cannot open the camera or the stream; check its number or address."
                if is_stream(source)
                else f"{self.name}: cannot read the video; check the path, or convert it to H.264 in an MP4 file."
            )
        rate = self.capture.get(cv2.CAP_PROP_FPS)
        plausible = RATES[0] <= rate <= RATES[1]
        self.rate = rate if plausible else USUAL_RATE
        declared = self.capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.live = is_stream(source) and declared <= 0
        self.declared = int(declared) if plausible else 0  # frames; some formats estimate them from the rate
        self.received, self.end = 0, 0.0  # frames so far, and the end time in seconds of the last one in the file

    def __iter__(self) -> Iterator[Frame]:
        """Yields all frames of a file; of a camera, the newest frame at each request, dropping the others."""
        return newest(self.capture) if self.live else self.every()

    def every(self) -> Iterator[Frame]:
        import cv2

        try:
            for number in count():
                received, pixels = self.capture.read()
                if not received:
                    return
                self.received, self.end = number + 1, self.capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 + 1 / self.rate
                yield Frame(number / self.rate, as_rgb(pixels))
        finally:
            self.capture.release()

    def loss(self) -> str | None:
        """After the last frame, returns a message if a file has clearly fewer frames than declared and ends early."""
        seconds = min(self.declared / self.rate, shown_seconds(self.name))
        if self.live or self.received >= min(WHOLE * self.declared, self.declared - 1) or self.end >= WHOLE * seconds:
            return None
        return f"{self.name}: read {self.received} of {self.declared} frames; the file is damaged or cut, restore it."


def newest(capture: Any) -> Iterator[Frame]:
    """Yields the newest frame at each request; a thread reads them, so that none waits in a buffer.

    The thread releases the camera, since reading from a stream may block for a long time. A closed iterator waits for
    it, but not forever: a thread that returns from OpenCV while the interpreter shuts down aborts the process.
    """
    waiting: Queue[Frame | None] = Queue(1)
    stopped = threading.Event()

    def read() -> None:
        received, pixels = capture.read()
        start = monotonic()
        while received and not stopped.is_set():
            frame = Frame(monotonic() - start, as_rgb(pixels))
            with suppress(Empty):
                waiting.get_nowait()
            waiting.put(frame)
            received, pixels = capture.read()
        capture.release()
        if not stopped.is_set():
            waiting.put(None)

    thread = threading.Thread(target=read, name="resdet-camera", daemon=True)
    thread.start()
    try:
        while frame := waiting.get():
            yield frame
    finally:
        stopped.set()
        with suppress(Empty):  # the thread may wait for space in the queue
            waiting.get_nowait()
        thread.join(PATIENCE)


def as_rgb(pixels: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
