"""Writes videos: MP4 files with a constant frame rate, without sound."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from resdet.errors import FileError
from resdet.files.atomic import SPACE, file_errors, make_folder
from resdet.system import replace

CODEC = "mp4v"  # the only codec for MP4 in every build of OpenCV


class VideoWriter:
    """An MP4 file that appears under its name when it is closed, complete even if the caller was interrupted.

    Odd sides are padded by a copy of the last row or column, since the codec requires even sides.
    """

    def __init__(self, path: Path, rate: float):
        make_folder(path.parent)
        self.path, self.rate = path, rate
        self.temporary = path.with_name(f".{path.stem[:50]}.{os.getpid()}.{id(self)}.tmp.mp4")
        self.file: Any = None
        self.frames = 0
        self.last: np.ndarray | None = None  # BGR

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def write(self, pixels: np.ndarray, time: float) -> None:
        """Shows uint8 RGB [H, W, 3] from `time` on, in seconds. The previous frame is repeated until then; a frame at
        the time of an earlier one is dropped. All frames have the size of the first."""
        import cv2

        place = round(time * self.rate)
        while self.last is not None and self.frames < place:
            self._append(self.last)
        if self.frames <= place:
            pixels = with_even_sides(pixels)
            size = pixels.shape[1::-1] if self.last is None else self.last.shape[1::-1]
            resized = pixels if pixels.shape[1::-1] == size else cv2.resize(pixels, size)  # streams may change size
            self.last = cv2.cvtColor(resized, cv2.COLOR_RGB2BGR)
            self._append(self.last)

    def _append(self, pixels: np.ndarray) -> None:
        import cv2

        if self.file is None:
            size = pixels.shape[1::-1]
            self.file = cv2.VideoWriter(str(self.temporary), cv2.VideoWriter.fourcc(*CODEC), self.rate, size)
        self.file.write(pixels)
        self.frames += 1

    def close(self) -> None:
        """Finishes the file and checks it, since OpenCV reports no errors; without frames, no file is written."""
        if self.file is None:
            return
        self.file.release()
        self.file = None
        try:
            if frames_in(self.temporary) < self.frames:  # Ctrl-C may come between writing a frame and counting it
                raise FileError(f"{self.path} cannot be written: {SPACE}, or choose another folder.")
            with file_errors(self.path):
                replace(self.temporary, self.path)
        finally:
            with suppress(OSError):
                self.temporary.unlink()


def with_even_sides(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    if height % 2 == width % 2 == 0:
        return pixels  # np.pad would copy each frame
    return np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def frames_in(path: Path) -> int:
    """Returns the number of frames of a video file; 0 if it cannot be read."""
    import cv2

    return int(cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT))
