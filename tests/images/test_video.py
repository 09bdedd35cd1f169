"""Tests reading and writing videos: frames, rate, orientation, simulated cameras and output files."""

import struct
import sys
import threading
from time import sleep
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from resdet.errors import DataError, FileError
from resdet.images import video
from resdet.images.inputs import images_in
from resdet.images.mp4 import shown_seconds
from resdet.images.video import Video, is_video
from resdet.images.video_writer import VideoWriter, frames_in

HEIGHT, WIDTH, RATE = 48, 64, 12.5


def gray(value: int) -> np.ndarray:
    return np.full((HEIGHT, WIDTH, 3), value, np.uint8)


def written(path, values=(20, 90, 160, 230)):
    """Writes a video with OpenCV, one gray value per frame; the upper left quarter is white."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), RATE, (WIDTH, HEIGHT))
    for value in values:
        pixels = gray(value)
        pixels[: HEIGHT // 2, : WIDTH // 2] = 255
        writer.write(pixels)
    writer.release()
    return path


class Camera:
    """A fake cv2.VideoCapture that returns a frame each time the test allows one."""

    def __init__(self, values, rate=0.0):
        self.values, self.rate = iter(values), rate
        self.allowed, self.read_so_far, self.released = threading.Semaphore(0), 0, threading.Event()

    def isOpened(self):
        return True

    def get(self, key):
        return {cv2.CAP_PROP_FPS: self.rate, cv2.CAP_PROP_FRAME_COUNT: -1.0}[key]

    def read(self):
        self.allowed.acquire()
        self.read_so_far += 1
        value = next(self.values, None)
        return (False, None) if value is None else (True, gray(value))

    def release(self):
        self.released.set()


def test_every_frame_of_a_file_with_its_time(tmp_path):
    opened = Video(written(tmp_path / "a.mp4"))
    frames = list(opened)
    assert opened.rate == RATE and not opened.live
    assert [frame.time for frame in frames] == [0, 0.08, 0.16, 0.24]
    assert [frame.pixels.shape for frame in frames] == [(HEIGHT, WIDTH, 3)] * 4
    assert [frame.pixels[-5, -5].mean() for frame in frames] == pytest.approx([20, 90, 160, 230], abs=4)
    assert len(list(images_in(tmp_path / "a.mp4"))) == 4


@pytest.mark.skipif(sys.platform == "win32", reason="no colons in file names")
def test_a_relative_name_may_contain_a_colon(tmp_path, monkeypatch):
    """FFmpeg takes the part before a colon for a protocol."""
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "a.mp4").rename("2026-12-01T12:30:00.mp4")
    opened = Video("2026-12-01T12:30:00.mp4")
    assert opened.name == "2026-12-01T12:30:00.mp4" and len([*opened]) == 4


def test_a_rotated_video_is_upright(tmp_path):
    """Sets the matrix of the track header to a clockwise rotation by 90 degrees, as in files of phones."""
    data = bytearray(written(tmp_path / "a.mp4").read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    fixed = lambda *values: b"".join(int(value).to_bytes(4, "big", signed=True) for value in values)
    assert data[matrix : matrix + 36] == fixed(65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    data[matrix : matrix + 36] = fixed(0, 65536, 0, -65536, 0, 0, HEIGHT << 16, 0, 1 << 30)
    (tmp_path / "b.mp4").write_bytes(data)
    first = next(iter(Video(tmp_path / "b.mp4"))).pixels
    assert first.shape == (WIDTH, HEIGHT, 3)
    assert first[5, -5].mean() > 200 and first[5, 5].mean() < 60  # the upper left corner is now the upper right


def cut(path, frames: int):
    """Writes an AVI file of 30 frames and removes the data after the first ones, but not their index."""
    written(path, range(0, 240, 8))
    data = path.read_bytes()
    places = [place for place in range(len(data)) if data.startswith(b"00dc", place)]
    path.write_bytes(data[: places[frames + 1]])  # the first is in the header
    return path


@pytest.mark.parametrize("frames, lost", [(1, True), (20, True), (29, False)])
def test_a_cut_file_is_noticed(frames, lost, tmp_path):
    opened = Video(cut(tmp_path / "a.avi", frames))
    assert len(list(opened)) == frames and opened.declared == 30
    told = f"{tmp_path}/a.avi: read {frames} of 30 frames; the file is damaged or cut, restore it."
    assert opened.loss() == (told if lost else None)
    if lost:
        with pytest.warns(UserWarning, match=f"read {frames} of 30 frames"):
            assert len(list(images_in(tmp_path / "a.avi"))) == frames


def test_a_trimmed_file_is_whole(tmp_path):
    """Sets the durations of an edit list and of the movie header to a third, as trimming without encoding does."""
    data = bytearray(written(tmp_path / "a.mp4", range(0, 240, 8)).read_bytes())
    edit, movie = data.index(b"elst") + 12, data.index(b"mvhd") + 20
    assert data[edit : edit + 4] == data[movie : movie + 4] == (2400).to_bytes(4, "big")
    data[edit : edit + 4] = data[movie : movie + 4] = (800).to_bytes(4, "big")
    (tmp_path / "b.mp4").write_bytes(data)
    for name, seconds, frames in (("a.mp4", 2.4, 30), ("b.mp4", 0.8, 10)):
        assert shown_seconds(tmp_path / name) == seconds
        opened = Video(tmp_path / name)
        assert len(list(opened)) == frames and opened.declared == 30 and opened.loss() is None


def test_durations_of_64_bits_are_read(tmp_path):
    """Writes headers as those of files above 4 GB: sizes and durations of 64 bits, after a box of another kind."""
    box = lambda kind, content: struct.pack(">I4sQ", 1, kind, 16 + len(content)) + content
    header = b"\1\0\0\0" + struct.pack(">QQIQ", 7, 7, 600, 1500) + bytes(80)
    (tmp_path / "a.mp4").write_bytes(box(b"free", bytes(5)) + box(b"moov", box(b"free", b"") + box(b"mvhd", header)))
    assert shown_seconds(tmp_path / "a.mp4") == 2.5


@pytest.mark.parametrize(
    "source, expected",
    [("a.MP4", True), ("0", True), ("rtsp://host/live?x=1", True), ("https://host/a.m3u8", True), ("a.jpg", False)],
)
def test_video_sources_are_recognized(source, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_video(source) == expected


def test_a_file_with_a_number_as_name_is_not_a_camera(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "7").touch()
    assert not is_video("7") and is_video("8")


@pytest.mark.parametrize(
    "source, sentence", [("absent.mp4", "cannot read the video"), ("987", "987: cannot open the camera or the stream")]
)
def test_unreadable_sources_are_refused(source, sentence):
    with pytest.raises(DataError, match=sentence):
        Video(source)


def test_a_camera_gives_the_newest_frame(monkeypatch):
    """Lets four frames arrive while the first is in use; only the last of them is kept."""
    camera = Camera([10, 20, 30, 40, 50])
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: camera)
    opened = Video("0")
    assert opened.live and opened.rate == video.USUAL_RATE
    frames = iter(opened)
    camera.allowed.release()
    assert next(frames).pixels[0, 0, 0] == 10
    camera.allowed.release(4)
    while camera.read_so_far < 5:
        sleep(0.001)
    camera.allowed.release()  # the end of the stream, which follows the last frame
    assert [frame.pixels[0, 0, 0] for frame in frames] in ([50], [40, 50])  # 40 if it is read before 50 arrives
    assert camera.released.wait(60)


def test_a_url_with_a_question_mark_is_not_a_glob(monkeypatch):
    camera = Camera([10])
    camera.allowed.release(2)
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: camera)
    assert [frame[0, 0, 0] for frame in images_in("rtsp://host/live?channel=1")] == [10]


def test_closing_the_frames_releases_the_camera(monkeypatch):
    camera = Camera([10, 20, 30])
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: camera)
    frames = iter(Video("rtsp://host/live"))
    camera.allowed.release()
    next(frames)
    monkeypatch.setattr(video, "PATIENCE", 60)
    threading.Timer(0.1, camera.allowed.release).start()
    frames.close()
    assert camera.released.is_set()  # otherwise, the thread may abort a process that ends now


def test_a_written_file_keeps_frames_and_rate(tmp_path):
    with VideoWriter(tmp_path / "new/a.mp4", RATE) as writer:
        for number, value in enumerate((30, 120, 210)):
            writer.write(gray(value), number / RATE)
        assert not (tmp_path / "new/a.mp4").exists()
    opened = Video(tmp_path / "new/a.mp4")
    assert opened.rate == RATE
    assert [frame.pixels.mean() for frame in opened] == pytest.approx([30, 120, 210], abs=4)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.mp4"]


def test_an_interrupt_after_a_frame_keeps_the_file(tmp_path):
    writer = VideoWriter(tmp_path / "a.mp4", RATE)
    with pytest.raises(KeyboardInterrupt), writer:
        writer.write(gray(30), 0)
        write = writer.file.write
        writer.file = SimpleNamespace(write=lambda pixels: [write(pixels), interrupt()], release=writer.file.release)
        writer.write(gray(120), 1 / RATE)
    assert frames_in(tmp_path / "a.mp4") == 2


def interrupt():
    raise KeyboardInterrupt


def test_frames_are_written_at_their_times(tmp_path):
    """Writes frames of 0, 0.3, 0.32 and 0.4 s at 10 per second: the first is shown three times, the third dropped."""
    with VideoWriter(tmp_path / "a.mp4", 10) as writer:
        for value, time in ((30, 0.0), (120, 0.3), (210, 0.32), (250, 0.4)):
            writer.write(gray(value), time)
    values = [frame.pixels.mean() for frame in Video(tmp_path / "a.mp4")]
    assert values == pytest.approx([30, 30, 30, 120, 250], abs=4)


@pytest.mark.parametrize("height, width, expected", [(47, 65, (48, 66)), (48, 65, (48, 66)), (1, 1, (2, 2))])
def test_odd_sides_grow_by_a_copy_of_the_border(tmp_path, height, width, expected):
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, -1] = pixels[-1] = 240
    with VideoWriter(tmp_path / "a.mp4", RATE) as writer:
        writer.write(pixels, 0)
    (frame,) = Video(tmp_path / "a.mp4")
    assert frame.pixels.shape[:2] == expected and frame.pixels[:, -1].min() > 150 and frame.pixels[-1].min() > 150


def test_frames_of_another_size_are_resized(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", RATE) as writer:
        writer.write(gray(30), 0)
        writer.write(np.full((HEIGHT // 2, WIDTH, 3), 120, np.uint8), 1 / RATE)
    frames = [frame.pixels for frame in Video(tmp_path / "a.mp4")]
    assert [frame.shape for frame in frames] == [(HEIGHT, WIDTH, 3)] * 2 and frames[1].mean() == pytest.approx(
        120, abs=4
    )


def test_an_interrupted_file_is_complete(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        with VideoWriter(tmp_path / "a.mp4", RATE) as writer:
            writer.write(gray(100), 0)
            raise KeyboardInterrupt
    assert frames_in(tmp_path / "a.mp4") == 1


def test_two_files_are_written_concurrently(tmp_path):
    """Names share the first 50 characters, which temporary names have."""
    names = [f"{'n' * 50}{number}.mp4" for number in range(2)]
    with VideoWriter(tmp_path / names[0], RATE) as first, VideoWriter(tmp_path / names[1], RATE) as second:
        for value, writer in ((30, first), (210, second)):
            writer.write(gray(value), 0)
    values = [frame.pixels.mean() for name in names for frame in Video(tmp_path / name)]
    assert values == pytest.approx([30, 210], abs=4)


def test_a_folder_with_the_name_of_the_file_is_reported(tmp_path):
    (tmp_path / "a.mp4").mkdir()
    with pytest.raises(FileError, match="a.mp4 cannot be written"), VideoWriter(tmp_path / "a.mp4", RATE) as writer:
        writer.write(gray(100), 0)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_no_file_is_written_without_frames(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", RATE):
        pass
    assert not list(tmp_path.iterdir())


def test_a_failed_write_is_reported(tmp_path):
    """Removes the temporary file to simulate a full disk, on which OpenCV reports no error."""
    writer = VideoWriter(tmp_path / "a.mp4", RATE)
    writer.write(gray(100), 0)
    writer.temporary.unlink()
    with pytest.raises(FileError, match="a.mp4 cannot be written: free some space"):
        writer.close()
    assert not list(tmp_path.iterdir())
