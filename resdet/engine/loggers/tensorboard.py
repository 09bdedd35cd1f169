"""The TensorBoard event file of a run.

The writers of torch and tensorboard use a thread whose errors cannot be caught; this one writes synchronously.
"""

import io
import itertools
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from resdet.engine.metrics_file import METRICS, read_entries
from resdet.engine.run import Run
from resdet.files.atomic import append_bytes, make_folder
from resdet.images.encode import encode_image
from resdet.optional import required

serial = itertools.count()  # orders the files of one process


class TensorBoardLogger:
    """Writes RUN/tensorboard."""

    writer: "EventWriter"

    def __init__(self) -> None:
        required("tensorboard.summary.writer.record_writer", "tensorboard", "train.loggers=[tensorboard]")

    def open(self, run: Run) -> None:
        """Invalidates the points that the run writes again. If metrics.jsonl has no evaluation at the step of the run,
        these begin at that step, and the other points of that step are rewritten."""
        source = run.folder / METRICS
        last = [entry for entry in read_entries(source) if entry["step"] == run.step] if source.exists() else []
        evaluated = any(entry["kind"] == "val" for entry in last)
        self.writer = EventWriter(run.folder / "tensorboard", run.step + evaluated)
        for entry in last if not evaluated else []:
            self.metrics(entry.pop("step"), entry.pop("kind"), entry)

    def metrics(self, step: int, kind: str, values: Mapping[str, float]) -> None:
        self.writer.add(step, {f"{kind}/{key}": value for key, value in values.items()})

    def images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        self.writer.add_images(step, images)

    def close(self, complete: bool) -> None:
        """Does nothing: each record is complete on disk."""


class EventWriter:
    """Appends points and images to a file in `folder`; invalidates those of older files from step `start` on.

    A run that was killed before its first checkpoint starts again at 0.
    """

    def __init__(self, folder: Path, start: int):
        from tensorboard.compat.proto.event_pb2 import SessionLog

        make_folder(folder)
        earlier = any(folder.iterdir())
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}.{next(serial):04}"
        self.path = folder / name
        self.append(file_version="brain.Event:2")
        if earlier:
            self.append(step=start, session_log=SessionLog(status=SessionLog.START))

    def add(self, step: int, points: Mapping[str, float]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in points.items()]
        self.append(step=step, summary=Summary(value=values))

    def add_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = []
        for name, pixels in images.items():
            (height, width), encoded = pixels.shape[:2], encode_image("image.jpg", pixels)
            picture = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=encoded)
            values.append(Summary.Value(tag=name, image=picture))
        self.append(step=step, summary=Summary(value=values))

    def append(self, **content) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        record = io.BytesIO()
        RecordWriter(record).write(Event(wall_time=time.time(), **content).SerializeToString())
        append_bytes(self.path, record.getvalue())
