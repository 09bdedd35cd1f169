"""Writes TensorBoard's event file of a run.

The writers of torch and tensorboard use a thread, and its errors cannot be caught; this one writes synchronously.
"""

import io
import os
import socket
import time
from pathlib import Path

from resdet.files.atomic import append_bytes, make_folder


class EventWriter:
    """Appends points of curves to a file in `folder`; invalidates points after `resumed_at` in older files."""

    def __init__(self, folder: Path, resumed_at: int):
        from tensorboard.compat.proto.event_pb2 import SessionLog

        make_folder(folder)
        self.path = folder / f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}.0"
        self.append(file_version="brain.Event:2")
        if resumed_at:
            self.append(step=resumed_at + 1, session_log=SessionLog(status=SessionLog.START))

    def add(self, step: int, points: dict[str, float]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in points.items()]
        self.append(step=step, summary=Summary(value=values))

    def append(self, **content) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        record = io.BytesIO()
        RecordWriter(record).write(Event(wall_time=time.time(), **content).SerializeToString())
        append_bytes(self.path, record.getvalue())
